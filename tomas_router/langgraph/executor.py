"""The node that runs a plan: books it, gives each tool its arguments and resources, and writes what became of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from tomas_router.errors import InfeasibleError, UnknownToolError
from tomas_router.executors.execution import ExecutionReport
from tomas_router.executors.stub import StubExecutor, Write, write_line
from tomas_router.executors.threads import ThreadExecutor
from tomas_router.langgraph.admission import Admission
from tomas_router.langgraph.approval import FootprintOver
from tomas_router.langgraph.call_log import CallLog
from tomas_router.langgraph.node import nothing_runs
from tomas_router.langgraph.observed_profile import MIN_CALLS, QUANTILE, observed_profile
from tomas_router.langgraph.observed_step import StepWatch
from tomas_router.langgraph.plan_run import PlanRun
from tomas_router.langgraph.state import (
    AnyRegistry,
    AnyTimeline,
    RouterContext,
    ToolRouterState,
    chosen,
    current,
    present,
)
from tomas_router.langgraph.stored_plan import why_plan_again
from tomas_router.langgraph.trace_metadata import plan_metadata
from tomas_router.planner.reserve import reserve
from tomas_router.runtime.booking import BookingTerms
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.runtime.tracing import span
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.tool_objects import tool_name

log = logging.getLogger("tomas_router")

LEASE_MS = 15_000


class ToolExecutorNode:
    """Runs ``tool_plan``.

    Without tools it simulates and prints each step's resources, so that a graph can be tried at once. With tools:
    books the plan on what is free now (when there is a ledger), runs each step in a thread as soon as the plan
    allows, keeps the booking alive meanwhile, and frees each step when it has ended. A tool that raises fails its
    step and those that need it; the others go on. An expired plan goes back to the router.
    """

    def __init__(
        self,
        tools: Sequence[Any] | Mapping[str, Any] | Callable[[], Sequence[Any]] | None = None,
        *,
        timeline: AnyTimeline | None = None,
        ledger: Ledger | None = None,
        tenant: str = "",
        profiling: ProfilingTable | None = None,
        approval: FootprintOver | None = None,
        max_wait_s: float = 60.0,
        lease_ms: int = LEASE_MS,
        on_ledger_failure: Literal["refuse", "run"] = "refuse",
        replay: bool = True,
        write: Write = write_line,
        trace_arguments: bool = False,
    ) -> None:
        """Takes the tools.

        Args:
            tools: LangChain tools or functions, as a list or by name, or a function that gives those that there are
                now; None simulates.
            timeline: what the machine offers; needed to book, and then with an epoch.
            ledger: where plans are booked.
            tenant: for whom.
            profiling: measured configurations; a step that runs out of memory is tried once more in a larger one.
            approval: what a person is asked about; nothing larger than planned is taken where that would be asked.
                ``add_router_nodes`` takes it from the router.
            max_wait_s: how long to wait for room.
            lease_ms: how long a booking outlives this process.
            on_ledger_failure: ``refuse`` to run the plan (nothing may over-commit), or ``run`` it unbooked.
            replay: record what steps return in the ledger, and take it from there when a run is resumed.
            write: takes the lines of the simulation.
            trace_arguments: write the arguments of steps into traces; otherwise only their names and kinds.

        Raises:
            ValueError: two tools have one name, there is a ledger without a timeline, or ``on_ledger_failure`` is
                neither of its choices.
        """
        if on_ledger_failure not in ("refuse", "run"):
            raise ValueError(f"on_ledger_failure must be refuse or run, got {on_ledger_failure!r}")
        self._tools = tools if tools is None or callable(tools) else tools_by_name(tools)
        self.registry: AnyRegistry | None = None
        """What the router plans with, set by ``add_router_nodes``: plans for other versions of its tools are made anew.
        """
        if ledger is not None and timeline is None:
            raise ValueError("a ledger needs a timeline: what does the machine offer?")
        self.timeline, self.ledger, self.tenant = timeline, ledger, tenant
        self.profiling, self.approval, self.replay = profiling, approval, replay
        self.on_ledger_failure = on_ledger_failure
        self.max_wait_s, self.lease_ms, self.write = max_wait_s, lease_ms, write
        self.trace_arguments = trace_arguments
        self._calls = CallLog()

    def __call__(
        self, state: ToolRouterState, runtime: Runtime[RouterContext]
    ) -> Command[Literal["respond", "router"]]:
        """Runs the plan and waits for it.

        Raises:
            UnknownToolError: the plan names a tool that is not here; nothing has run.
        """
        return self._executed(state, runtime, _Cancelling())

    async def acall(
        self, state: ToolRouterState, runtime: Runtime[RouterContext]
    ) -> Command[Literal["respond", "router"]]:
        """``__call__`` in a thread. When it is cancelled, no further step begins and those that run are asked to stop.

        What they hold is kept until they have ended, here as in ``__call__``.
        """
        cancelling = _Cancelling()
        task = asyncio.create_task(asyncio.to_thread(self._executed, state, runtime, cancelling))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelling.cancel()
            raise

    def _executed(
        self, state: ToolRouterState, runtime: Runtime[RouterContext], cancelling: _Cancelling
    ) -> Command[Literal["respond", "router"]]:
        turn = state.get("tool_turn") or {}
        known = present(chosen(runtime.context, "registry", self.registry))
        if again := why_plan_again(state["tool_plan"] or {}, known):
            runtime.stream_writer({"type": "replanned", "reason": again})
            return Command(update={"tool_turn": {**turn, "replan": True}} if turn else {}, goto="router")
        plan, tools = ToolPlan.model_validate(state["tool_plan"]), self.tools
        if tools is None:
            report = self._simulated(plan, runtime)
        else:
            _require_known(plan, tools)
            begun_s = time.monotonic()
            try:
                plan = self._reserved(plan, runtime)
            except InfeasibleError as error:
                return _refused(plan, f"no room: {error.reason}")
            except (LedgerFileError, LedgerBusyError) as error:
                if self.on_ledger_failure == "refuse":
                    return _refused(plan, f"the ledger cannot be used: {error}")
                log.warning("the plan runs unbooked: %s", error)
            thread_id = chosen(runtime.context, "thread_id", _thread_id(runtime))
            waited_ms = round((time.monotonic() - begun_s) * 1000)
            watch = StepWatch(self._calls, thread_id, waited_ms, self.trace_arguments)
            report = self._run(plan, tools, runtime, turn.get("id", plan.created_at), cancelling, watch)
        update = {"tool_plan": plan.model_dump(mode="json"), "tool_results": report.results()}
        return Command(update=update, goto="respond")

    @property
    def tools(self) -> dict[str, Any] | None:
        """The tools that there are now, by name."""
        return tools_by_name(self._tools()) if callable(self._tools) else self._tools

    def report(self) -> list[dict[str, Any]]:
        """The last 1,000 steps that ran, oldest first: what was expected beside what it was. Plain JSON."""
        return self._calls.report()

    def observed_profile(
        self, before: ProfilingTable | None = None, *, quantile: float = QUANTILE, min_calls: int = MIN_CALLS
    ) -> ProfilingTable:
        """A profile, with what those steps took in the place of what was expected; see ``observed_profile``."""
        return observed_profile(self._calls.records(), before, quantile=quantile, min_calls=min_calls)

    def _simulated(self, plan: ToolPlan, runtime: Runtime[RouterContext]) -> ExecutionReport:
        def write(line: str) -> None:
            self.write(line)
            runtime.stream_writer({"type": "executor", "text": line})

        return StubExecutor(write).execute(plan)

    def _reserved(self, plan: ToolPlan, runtime: Runtime[RouterContext]) -> ToolPlan:
        ledger: Ledger | None = chosen(runtime.context, "ledger", self.ledger)
        timeline = current(chosen(runtime.context, "timeline", self.timeline))
        if ledger is None or timeline is None:
            return plan
        runtime.stream_writer({"type": "tool_queued", "steps": [step.id for step in plan.steps]})
        terms = BookingTerms(
            lease_ms=self.lease_ms,
            tenant=chosen(runtime.context, "tenant", self.tenant),
            thread_id=chosen(runtime.context, "thread_id", _thread_id(runtime)),
        )
        with span("tomas.admit", plan_metadata(plan)):
            return reserve(plan, timeline, ledger, max_wait_ms=round(self.max_wait_s * 1000), terms=terms)

    def _run(
        self,
        plan: ToolPlan,
        tools: Mapping[str, Any],
        runtime: Runtime[RouterContext],
        turn: str,
        cancelling: _Cancelling,
        watch: StepWatch,
    ) -> ExecutionReport:
        ledger: Ledger | None = chosen(runtime.context, "ledger", self.ledger)
        timeline = chosen(runtime.context, "timeline", self.timeline)
        booked = ledger if plan.booking_id is not None else None
        run = PlanRun(
            plan,
            tools,
            ledger,
            Admission(
                booked,
                timeline,
                present(chosen(runtime.context, "profiling", self.profiling)),
                approval=self.approval,
                max_wait_s=self.max_wait_s,
                tenant=chosen(runtime.context, "tenant", self.tenant),
                lease_ms=self.lease_ms,
            ),
            self.lease_ms,
            watch.thread_id,
            turn,
            self.replay,
            watch,
        )
        cancelling.watch(run)
        executor = ThreadExecutor(
            run.call,
            run.hold,
            runtime.stream_writer,
            check_expiry=plan.booking_id is None,
            stopped=run.cancelled.is_set,
        )
        with run.hold_all():
            return executor.execute(plan)


class _Cancelling:
    """Carries a cancellation to a run that may not have begun yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: PlanRun | None = None
        self._cancelled = False

    def watch(self, run: PlanRun) -> None:
        with self._lock:
            self._run = run
            if self._cancelled:
                run.cancel()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._run is not None:
                self._run.cancel()


def _require_known(plan: ToolPlan, tools: Mapping[str, Any]) -> None:
    unknown = sorted({step.tool_name for step in plan.steps} - tools.keys())
    if unknown:
        raise UnknownToolError(
            f"the plan names {', '.join(unknown)}, which the executor does not have; it has {', '.join(sorted(tools))}"
        )


def _refused(plan: ToolPlan, reason: str) -> Command[Literal["respond", "router"]]:
    return Command(update={"tool_plan": nothing_runs(plan, reason).model_dump(mode="json")}, goto="respond")


def tools_by_name(tools: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Tools by the name that a plan uses.

    Raises:
        ValueError: two tools have one name, or one has none.
    """
    if isinstance(tools, Mapping):
        return dict(tools)
    named: dict[str, Any] = {}
    for tool in tools:
        name = tool_name(tool)
        if not name or name in named:
            raise ValueError(
                f"tools must have different names, got {name!r} twice" if name else f"{tool!r} has no name"
            )
        named[name] = tool
    return named


def _thread_id(runtime: Runtime[RouterContext]) -> str | None:
    info = getattr(runtime, "execution_info", None)
    found = getattr(info, "thread_id", None)
    return None if found is None else str(found)
