"""The node that runs a plan: books it, gives each tool its arguments and resources, and writes what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from tomas_router.errors import InfeasibleError, UnknownToolError
from tomas_router.executors.execution import ExecutionReport
from tomas_router.executors.stub import StubExecutor, Write, write_line
from tomas_router.executors.threads import ThreadExecutor
from tomas_router.langgraph.call_log import CallLog
from tomas_router.langgraph.node import nothing_runs
from tomas_router.langgraph.observed_profile import MIN_CALLS, QUANTILE, observed_profile
from tomas_router.langgraph.state import (
    AnyRegistry,
    AnyTimeline,
    RouterContext,
    ToolRouterState,
    chosen,
    current,
    present,
)
from tomas_router.langgraph.step_call import StepCall
from tomas_router.langgraph.stored_plan import why_plan_again
from tomas_router.langgraph.trace_metadata import plan_metadata
from tomas_router.planner.reserve import reserve
from tomas_router.runtime.booking import BookingTerms
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.tracing import span
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.tool_objects import tool_name

LEASE_MS = 15_000


class ToolExecutorNode:
    """Runs ``tool_plan``.

    Without tools it simulates and prints each step's resources, so that a graph can be tried at once. With tools:
    books the plan on what is free now (when there is a ledger), runs each step in a thread as soon as the plan
    allows, keeps the booking alive meanwhile, and frees each step when it has ended. A tool that raises fails its
    step and those that need it; the others go on. A plan that has expired, or that was made for other versions of its
    tools or by another version of this library, goes back to the router.
    """

    def __init__(
        self,
        tools: Sequence[Any] | Mapping[str, Any] | Callable[[], Sequence[Any]] | None = None,
        *,
        timeline: AnyTimeline | None = None,
        ledger: Ledger | None = None,
        tenant: str = "",
        max_wait_s: float = 60.0,
        lease_ms: int = LEASE_MS,
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
            max_wait_s: how long to wait for room.
            lease_ms: how long a booking outlives this process.
            write: takes the lines of the simulation.
            trace_arguments: write the arguments of steps into traces; otherwise only their names and kinds.

        Raises:
            ValueError: two tools have one name, or there is a ledger without a timeline.
        """
        self._tools = tools if tools is None or callable(tools) else tools_by_name(tools)
        self.registry: AnyRegistry | None = None
        """What the router plans with, set by ``add_router_nodes``: plans for other versions of its tools are made anew.
        """
        if ledger is not None and timeline is None:
            raise ValueError("a ledger needs a timeline: what does the machine offer?")
        self.timeline, self.ledger, self.tenant = timeline, ledger, tenant
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
        known = present(chosen(runtime.context, "registry", self.registry))
        if stale := why_plan_again(state["tool_plan"] or {}, known):
            runtime.stream_writer({"type": "replanned", "reason": stale})
            return Command(goto="router")
        plan = ToolPlan.model_validate(state["tool_plan"])
        tools = self.tools
        if tools is None:
            report = self._simulated(plan, runtime)
        else:
            _require_known(plan, tools)
            begun_s = time.monotonic()
            try:
                plan = self._reserved(plan, runtime)
            except InfeasibleError as error:
                refused = nothing_runs(plan, f"no room: {error.reason}")
                return Command(update={"tool_plan": refused.model_dump(mode="json")}, goto="respond")
            report = self._run(plan, tools, runtime, round((time.monotonic() - begun_s) * 1000))
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
        self, plan: ToolPlan, tools: Mapping[str, Any], runtime: Runtime[RouterContext], waited_ms: int
    ) -> ExecutionReport:
        ledger: Ledger | None = chosen(runtime.context, "ledger", self.ledger)
        booking_id = plan.booking_id

        def keep(step: int | None) -> AbstractContextManager[object]:
            if ledger is None or booking_id is None:
                return nullcontext()
            return KeepLease(ledger, booking_id, lease_ms=self.lease_ms, step=step)

        thread_id = chosen(runtime.context, "thread_id", _thread_id(runtime))
        call = StepCall(tools, self._calls, thread_id, waited_ms, self.trace_arguments)
        executor = ThreadExecutor(
            call, lambda position, _: keep(position), runtime.stream_writer, check_expiry=booking_id is None
        )
        with keep(None):
            return executor.execute(plan)


def _require_known(plan: ToolPlan, tools: Mapping[str, Any]) -> None:
    unknown = sorted({step.tool_name for step in plan.steps} - tools.keys())
    if unknown:
        raise UnknownToolError(
            f"the plan names {', '.join(unknown)}, which the executor does not have; it has {', '.join(sorted(tools))}"
        )


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
