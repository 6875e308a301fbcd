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
import threading
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
from langgraph.types import Command

from tomas_router.errors import InfeasibleError, TomasRouterError
from tomas_router.langgraph.admission import Admission, Lease, OnInsufficient
from tomas_router.langgraph.call_log import CallLog, CallRecord
from tomas_router.langgraph.observed_profile import MIN_CALLS, QUANTILE, observed_profile
from tomas_router.langgraph.observed_run import aobserved_run, observed_run
from tomas_router.langgraph.planned_call import REFUSED, PlannedCall
from tomas_router.langgraph.siblings import Siblings
from tomas_router.langgraph.state import AnyTimeline
from tomas_router.langgraph.trace_metadata import call_metadata, redacting_policy
from tomas_router.langgraph.turn import Narrow, OnFailure, ToolRouterAgentState, TurnPlanner, planned_names
from tomas_router.langgraph.watched_tool import with_lease
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.runtime.tracing import Attribute
from tomas_router.schema.profiling import ProfilingTable, ResourceConfig
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

OnUnplanned = Literal["block", "warn", "allow"]
MAX_REFUSALS = 2


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
        self.planner, self.always_include = planner, tuple(always_include)
        self.on_unplanned_call, self.on_failure, self.shadow = on_unplanned_call, on_failure, shadow
        self.on_ledger_failure = on_ledger_failure
        self.admission = Admission(
            ledger,
            resources,
            profiling,
            on_insufficient=on_insufficient,
            max_wait_s=max_wait_s,
            tenant=tenant,
            lease_ms=lease_ms,
        )
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
        """Refuses or admits a call, and runs it with what it was given."""
        call = PlannedCall.of(request)
        if (refusal := self._refusal(call)) is not None:
            return refusal
        with self._siblings.running(call):
            self._siblings.wait_for_earlier(call)
            return self._admitted(call, handler, None)

    def _admitted(
        self,
        call: PlannedCall,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
        larger_than: ResourceConfig | None,
    ) -> ToolMessage | Command[Any]:
        lease: Lease | None = None
        options = {"thread_id": call.thread_id, "on_event": call.write, "larger_than": larger_than}
        begun = time.monotonic()
        try:
            with self.admission.admit(call.name, call.step, **options) as lease:  # type: ignore[arg-type]
                begun = time.monotonic()
                with observed_run(self._metadata(call, lease)) as lease.use:
                    answer = handler(with_lease(call.request, lease, None))
            self._note(call, lease, begun, answer)
            return answer
        except InfeasibleError as error:
            return self._no_room(call, error)
        except (LedgerFileError, LedgerBusyError) as error:
            if lease is None and self.on_ledger_failure == "run":
                log.warning("%s runs unbooked: %s", call.name, error)
                return handler(call.request)
            return self._no_room(call, error)
        except MemoryError:
            self._note(call, lease, begun, None)
            if larger_than is not None or lease is None or lease.config is None:
                raise
            return self._admitted(call, handler, lease.config)
        except Exception:
            self._note(call, lease, begun, None)
            raise

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """``wrap_tool_call``, without holding a thread while it waits.

        A cancelled call keeps its booking until its thread has ended.
        """
        call = PlannedCall.of(request)
        if (refusal := self._refusal(call)) is not None:
            return refusal
        with self._siblings.running(call):
            await self._siblings.await_earlier(call)
            return await self._aadmitted(call, handler, None)

    async def _aadmitted(
        self,
        call: PlannedCall,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
        larger_than: ResourceConfig | None,
    ) -> ToolMessage | Command[Any]:
        lease: Lease | None = None
        ended = threading.Event()
        ended.set()
        options = {"thread_id": call.thread_id, "on_event": call.write, "larger_than": larger_than, "until": ended}
        begun = time.monotonic()
        try:
            async with self.admission.aadmit(call.name, call.step, **options) as lease:  # type: ignore[arg-type]
                begun = time.monotonic()
                async with aobserved_run(self._metadata(call, lease)) as lease.use:
                    answer = await handler(with_lease(call.request, lease, ended))
            self._note(call, lease, begun, answer)
            return answer
        except InfeasibleError as error:
            return self._no_room(call, error)
        except (LedgerFileError, LedgerBusyError) as error:
            if lease is None and self.on_ledger_failure == "run":
                log.warning("%s runs unbooked: %s", call.name, error)
                return await handler(call.request)
            return self._no_room(call, error)
        except MemoryError:
            self._note(call, lease, begun, None)
            if larger_than is not None or lease is None or lease.config is None:
                raise
            return await self._aadmitted(call, handler, lease.config)
        except Exception:
            self._note(call, lease, begun, None)
            raise

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

    def _no_room(self, call: PlannedCall, error: TomasRouterError) -> ToolMessage:
        self._calls.append(CallRecord(call.name, "no_room", call.step is not None, None, False, 0, None, None))
        return call.answer(f"{call.name} was not run: {error}. Try again later, or go on without it.", {})

    def _note(
        self, call: PlannedCall, lease: Lease | None, begun_s: float, answer: ToolMessage | Command[Any] | None
    ) -> None:
        if lease is None:
            return
        failed = answer is None or getattr(answer, "status", "success") == "error"
        took_ms = round((time.monotonic() - begun_s) * 1000)
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
            **({} if lease.use is None else {"peak_mem_gb": lease.use.peak_gb, "alone": lease.use.alone}),
        )
        self._calls.append(record)
        call.write(
            {"type": "tool_finished", "tool": call.name, "status": record.status}
            | {"took_ms": took_ms, "expected_ms": lease.expected_ms}
        )

    def _metadata(self, call: PlannedCall, lease: Lease) -> dict[str, Attribute]:
        args = call.request.tool_call["args"]
        return call_metadata(call.name, call.step, lease.config, args, with_arguments=self.trace_arguments)

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
