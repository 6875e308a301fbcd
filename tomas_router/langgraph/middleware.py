"""Tomas Router as middleware of ``langchain.agents.create_agent``: one line in an agent that exists.

::

    agent = create_agent(model, tools, middleware=[ToolRouterMiddleware(Planner.load())])

Each turn of a person is planned once. The model still writes every call and all of its arguments; the plan decides
which tools it is shown (``narrow``), which of its calls may run (``on_unplanned_call``), and with what of the machine
(``ledger``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from langchain.agents.middleware.types import (
    AgentMiddleware,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
)
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from tomas_router.errors import InfeasibleError, TomasRouterError
from tomas_router.executors.out_of_memory import is_out_of_memory
from tomas_router.executors.running_call import CallStoppedError, RunningCall, running
from tomas_router.langgraph.admission import Admission, OnInsufficient
from tomas_router.langgraph.approval import FootprintOver
from tomas_router.langgraph.attempt import Attempt
from tomas_router.langgraph.call_log import CallLog, CallRecord
from tomas_router.langgraph.completed import CompletedCalls
from tomas_router.langgraph.observed_profile import MIN_CALLS, QUANTILE, observed_profile
from tomas_router.langgraph.observed_run import aobserved_run, observed_run
from tomas_router.langgraph.planned_call import REFUSED, PlannedCall
from tomas_router.langgraph.siblings import Siblings
from tomas_router.langgraph.state import AnyTimeline
from tomas_router.langgraph.trace_metadata import call_metadata, redacting_policy
from tomas_router.langgraph.turn import Narrow, OnFailure, ToolRouterAgentState, TurnPlanner, planned_names
from tomas_router.langgraph.watched_tool import is_synchronous, timed_out, watched
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.completions import Completions
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.ledger_errors import LeaseLostError, LedgerBusyError, LedgerFileError
from tomas_router.runtime.memory_watch import MemoryUse
from tomas_router.runtime.tracing import Attribute
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

OnUnplanned = Literal["block", "warn", "allow"]
MAX_REFUSALS = 2
LEDGER_GONE = (LedgerFileError, LedgerBusyError)


class ToolRouterMiddleware(AgentMiddleware[Any, Any, Any]):
    """Plans in ``wrap_model_call``, admits in ``wrap_tool_call``; synchronous and asynchronous agents alike."""

    state_schema = ToolRouterAgentState

    def __init__(
        self,
        planner: AnyPlanner | None,
        registry: ToolRegistry | None = None,
        *,
        profiling: ProfilingTable | None = None,
        ledger: Ledger | None = None,
        resources: AnyTimeline | None = None,
        tenant: str = "",
        narrow: Narrow = "off",
        max_tools: int | None = None,
        always_include: Sequence[str] = (),
        on_insufficient: OnInsufficient = "queue",
        max_wait_s: float = 60.0,
        on_unplanned_call: OnUnplanned = "warn",
        on_failure: OnFailure = "all",
        on_ledger_failure: Literal["refuse", "run"] = "refuse",
        fast_path: float | None = None,
        shadow: bool = False,
        lease_ms: int = 15_000,
        timeout_s: float | Literal["plan"] | None = None,
        approval: FootprintOver | None = None,
        replay: bool = True,
        trace_arguments: bool = False,
    ) -> None:
        """Every default is safe for an agent that exists: it plans and admits, shows all tools and blocks none.

        Args:
            planner: None admits calls and plans nothing.
            registry: what the planner reads; by default made from the agent's own tools at the first call.
            profiling: measured profiles; by default those that the tools carry (``@profiled``).
            ledger: where calls are booked; shared with other agents and processes (docs/ledger.md).
            resources: the curve, or where it comes from; what the machine offers beside what the ledger books.
            tenant: whose quota counts.
            narrow: which tools the model is shown. ``off``: all, so that prompt caches hold; ``per_turn``: those of the
                plan with their alternatives; ``per_thread``: the same, but what was shown once in a thread stays. Tools
                that the thread has used, and ``always_include``, always stay. The order is always that of the agent.
            max_tools: at most so many from the plan and its alternatives; the plan's own always stay.
            always_include: names that are always shown, and never blocked.
            on_insufficient: ``queue``, ``degrade`` or ``fail``, see ``Admission``.
            max_wait_s: how long a call waits for room.
            on_unplanned_call: ``block`` answers with the planned tools, ``warn`` logs, ``allow`` says nothing. A call
                that runs is admitted in any case. After two blocked calls in a turn ``on_failure`` decides.
            on_failure: when planning fails: ``all`` tools, ``none`` but ``always_include``, or a function of the
                request and the error that gives names.
            on_ledger_failure: ``refuse`` the call (nothing may over-commit), or ``run`` it unbooked.
            fast_path: skip the model for the first call of a turn when the plan is one step with at least this
                confidence, whose tool has no required argument. None: never.
            shadow: plan and record, but change nothing.
            lease_ms: how long a booking outlives this process.
            timeout_s: how long a call may run; ``plan``: the time limit of its step. The model is told, and what the
                call has booked is kept until its thread or process has really ended.
            approval: what ``HumanInTheLoopMiddleware`` asks about. Nothing larger than what was planned is taken then
                (by ``degrade``, or after running out of memory) where a person would have to be asked.
            replay: record the answers of calls in the ledger, and give them again when a run is resumed.
            trace_arguments: write the arguments of calls into traces; otherwise only their names and kinds.

        Raises:
            ValueError: an option is none of its choices, or a ledger has no ``resources``.
        """
        super().__init__()
        self.trace_arguments = trace_arguments
        self.trace_policy = None if trace_arguments else redacting_policy()
        _require(narrow, ("off", "per_thread", "per_turn"), "narrow")
        _require(on_unplanned_call, ("block", "warn", "allow"), "on_unplanned_call")
        if not callable(on_failure):
            _require(on_failure, ("all", "none"), "on_failure")
        _require(on_ledger_failure, ("refuse", "run"), "on_ledger_failure")
        if isinstance(timeout_s, str):
            _require(timeout_s, ("plan",), "timeout_s")
        self.planner, self.always_include = planner, tuple(always_include)
        self.on_unplanned_call, self.on_failure, self.shadow = on_unplanned_call, on_failure, shadow
        self.on_ledger_failure, self.timeout_s = on_ledger_failure, timeout_s
        self.admission = Admission(
            ledger,
            resources,
            profiling,
            approval=approval,
            on_insufficient=on_insufficient,
            max_wait_s=max_wait_s,
            tenant=tenant,
            lease_ms=lease_ms,
        )
        self._unbooked = Admission(None, None, profiling)
        self._turns = (
            None
            if planner is None
            else TurnPlanner(
                planner,
                registry,
                self.admission,
                resources,
                narrow,
                max_tools,
                self.always_include,
                on_failure,
                fast_path,
                shadow,
            )
        )
        self._calls = CallLog()
        self._siblings = Siblings()
        self._completed = CompletedCalls(ledger if replay and not shadow and isinstance(ledger, Completions) else None)

    # --- planning --------------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Plans the turn unless it is planned, and calls the model with the tools that the plan leaves."""
        if self._turns is None:
            return handler(request)
        turn = self._turns.turn(request)
        return self._turns.answered(turn, self._turns.fast(turn) or handler(turn.request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """``wrap_model_call``; the planner runs in a thread."""
        if self._turns is None:
            return await handler(request)
        turn = await asyncio.to_thread(self._turns.turn, request)
        return self._turns.answered(turn, self._turns.fast(turn) or await handler(turn.request))

    # --- calls -----------------------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Refuses or admits a call, and runs it with what it was given; one that was completed before is replayed."""
        call = PlannedCall.of(request)
        with self._siblings.running(call):
            if (answer := self._replayed(call) or self._refusal(call)) is not None:
                return answer
            self._siblings.wait_for_earlier(call)
            attempt: Attempt | None = Attempt(call)
            while attempt is not None:
                answer, attempt = self._tried(attempt, handler)
        assert answer is not None, "the last attempt has an answer"
        return answer

    def _tried(
        self, attempt: Attempt, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> tuple[ToolMessage | Command[Any] | None, Attempt | None]:
        """The answer, or the next attempt."""
        try:
            with self._admission(attempt).admit(attempt.call.name, attempt.call.step, **attempt.terms()) as lease:
                with running(attempt.begin(lease)), observed_run(self._metadata(attempt)) as lease.use:
                    answer = handler(self._watched(attempt))
                self._completed.record(attempt.call, answer)
            self._note(attempt, answer)
            return answer, None
        except GraphBubbleUp:
            raise
        except Exception as error:  # noqa: BLE001 - what is the tool's own is raised again
            return self._after(error, attempt)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """``wrap_tool_call``, without holding a thread while it waits.

        A cancelled call keeps its booking until its thread has ended.
        """
        call = PlannedCall.of(request)
        with self._siblings.running(call):  # first of all, so that calls begin in the order of the message
            if (answer := await asyncio.to_thread(self._replayed, call) or self._refusal(call)) is not None:
                return answer
            await self._siblings.await_earlier(call)
            attempt: Attempt | None = Attempt(call)
            while attempt is not None:
                answer, attempt = await self._atried(attempt, handler)
        assert answer is not None, "the last attempt has an answer"
        return answer

    async def _atried(
        self, attempt: Attempt, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> tuple[ToolMessage | Command[Any] | None, Attempt | None]:
        try:
            terms = attempt.terms()
            async with self._admission(attempt).aadmit(attempt.call.name, attempt.call.step, **terms) as lease:
                with running(attempt.begin(lease)) as this:
                    async with aobserved_run(self._metadata(attempt)) as lease.use:
                        answer = await self._in_time(this, attempt, handler)
                await asyncio.to_thread(self._completed.record, attempt.call, answer)
            self._note(attempt, answer)
            return answer, None
        except GraphBubbleUp:
            raise
        except Exception as error:  # noqa: BLE001 - what is the tool's own is raised again
            return self._after(error, attempt)

    async def _in_time(
        self,
        this: RunningCall,
        attempt: Attempt,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """A coroutine is cancelled when its time is over; a synchronous tool watches its own time."""
        timeout_s = None if is_synchronous(attempt.call.request.tool) else self._timeout_s(attempt.call)
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await handler(self._watched(attempt))
        except TimeoutError:
            if not limit.expired() or timeout_s is None:
                raise
            this.stop("timed out")
            raise timed_out(this.tool, timeout_s) from None
        except asyncio.CancelledError:
            this.stop("cancelled")
            raise

    def _admission(self, attempt: Attempt) -> Admission:
        return self._unbooked if attempt.unbooked else self.admission

    def _watched(self, attempt: Attempt) -> ToolCallRequest:
        assert attempt.running is not None
        assert attempt.lease is not None
        return watched(
            attempt.call.request,
            attempt.running,
            limit_threads=attempt.lease.booking_id is not None,
            timeout_s=self._timeout_s(attempt.call),
        )

    def _timeout_s(self, call: PlannedCall) -> float | None:
        if self.timeout_s != "plan":
            return self.timeout_s
        limit_ms = None if call.step is None else call.step.timeout_ms
        return None if limit_ms is None else limit_ms / 1000

    def _after(self, error: Exception, attempt: Attempt) -> tuple[ToolMessage | None, Attempt | None]:
        """What follows a failure: an answer for the model, or another attempt. Raises what is the tool's own."""
        call, lease = attempt.call, attempt.lease
        if lease is None:
            if isinstance(error, LEDGER_GONE) and self.on_ledger_failure == "run":
                log.warning("%s runs unbooked: %s", call.name, error)
                return None, Attempt(call, unbooked=True)
            if isinstance(error, (InfeasibleError, LeaseLostError, *LEDGER_GONE)):
                return self._no_room(attempt, error), None
            raise error
        self._note(attempt, None)
        if isinstance(error, CallStoppedError):
            return call.answer(f"{call.name} was stopped: {error}. What it did until then may stand.", {}), None
        if lease.config is not None and is_out_of_memory(error):
            if attempt.larger_than is None:
                return None, Attempt(call, larger_than=lease.config)
            given = f"{lease.config.cpu_mem_gb:g} GiB and {lease.config.gpu_mem_gb:g} GiB on the GPU"
            return call.answer(f"{call.name} ran out of memory again, with {given}. It is not tried again.", {}), None
        raise error

    def _replayed(self, call: PlannedCall) -> ToolMessage | None:
        """The recorded answer of a call that was completed before."""
        try:
            found = self._completed.replay(call)
        except LEDGER_GONE as error:
            log.warning("%s: nobody knows whether it has run before: %s", call.name, error)
            return None if self.on_ledger_failure == "run" else self._no_room(Attempt(call), error)
        if found is not None:
            call.write({"type": "tool_finished", "tool": call.name, "status": "replayed"})
        return found

    def _refusal(self, call: PlannedCall) -> ToolMessage | None:
        """The answer to a call that the plan does not have and that may not run; None when it may."""
        plan = call.plan
        if self.shadow or plan is None or plan.status != "planned":
            return None
        allowed = {*planned_names(plan, None), *self.always_include}
        if call.name in allowed or self.on_unplanned_call == "allow":
            return None
        if self.on_unplanned_call == "warn":
            log.warning("%s was called, but the plan has %s", call.name, ", ".join(sorted(allowed)))
            return None
        if call.refusals >= MAX_REFUSALS and self.on_failure == "all":
            return None
        self._calls.append(CallRecord(call.name, "refused", False, None, False, 0, None, None))
        planned = ", ".join(dict.fromkeys(step.tool_name for step in plan.steps))
        text = f"{call.name} is not part of the plan for this request and was not run. Planned: {planned}."
        return call.answer(text, {REFUSED: True})

    def _no_room(self, attempt: Attempt, error: TomasRouterError) -> ToolMessage:
        call = attempt.call
        self._calls.append(CallRecord(call.name, "no_room", call.step is not None, None, False, 0, None, None))
        if attempt.larger_than is not None:
            return call.answer(f"{call.name} ran out of memory, and not more of it can be had: {error}.", {})
        return call.answer(f"{call.name} was not run: {error}. Try again later, or go on without it.", {})

    def _note(self, attempt: Attempt, answer: ToolMessage | Command[Any] | None) -> None:
        call, lease = attempt.call, attempt.lease
        assert lease is not None
        failed = answer is None or getattr(answer, "status", "success") == "error"
        took_ms = round((time.monotonic() - attempt.begun_s) * 1000)
        use = lease.use or MemoryUse()
        record = CallRecord(
            call.name,
            "failed" if failed else "done",
            call.step is not None,
            lease.config,
            lease.degraded,
            lease.waited_ms,
            lease.expected_ms,
            took_ms,
            **call.said(),
            peak_mem_gb=use.peak_gb,
            alone=use.alone,
        )
        self._calls.append(record)
        lost = lease.lost()
        if lost:
            log.warning("%s lost its booking while it ran; others may have used what it held", call.name)
        call.write(
            {"type": "tool_finished", "tool": call.name, "status": record.status}
            | {"took_ms": took_ms, "expected_ms": lease.expected_ms, "lease_lost": lost}
        )

    def _metadata(self, attempt: Attempt) -> dict[str, Attribute]:
        call, config = attempt.call, None if attempt.lease is None else attempt.lease.config
        args = call.request.tool_call["args"]
        return call_metadata(call.name, call.step, config, args, with_arguments=self.trace_arguments)

    def report(self) -> list[dict[str, Any]]:
        """The last 1,000 calls, oldest first: what was expected beside what it was. Plain JSON."""
        return self._calls.report()

    def observed_profile(self, *, quantile: float = QUANTILE, min_calls: int = MIN_CALLS) -> ProfilingTable:
        """The profile, with what those calls took in the place of what was expected; see ``observed_profile``."""
        before = self.admission.profiling
        return observed_profile(self._calls.records(), before, quantile=quantile, min_calls=min_calls)


def _require(value: object, choices: Sequence[str], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
