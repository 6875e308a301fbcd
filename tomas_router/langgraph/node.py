"""The node that plans: reads the request, writes ``tool_plan``, and goes to where the plan leads."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from tomas_router.langgraph.approval import FootprintOver, footprint, smaller_profiles
from tomas_router.langgraph.arguments import ArgumentError, check_arguments
from tomas_router.langgraph.state import (
    AnyProfiling,
    AnyRegistry,
    AnyTimeline,
    Json,
    RouterContext,
    ToolRouterState,
    chosen,
    current,
    present,
    read_request,
    seen,
)
from tomas_router.langgraph.stored_plan import stored_plan
from tomas_router.langgraph.trace_metadata import traced_plan
from tomas_router.planner.planner import Planner
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.ledger import BookingTerms, Ledger
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import parse_request

Next = Literal["tools", "approve", "respond", "__end__"]
FillArguments = Callable[[PlanStep, ToolPlan, Mapping[str, Any]], Mapping[str, Any]]
"""(step, plan, state) to its arguments."""
ReadRequest = Callable[[Mapping[str, Any]], str | Json | None]


class ToolRouterNode:
    """Plans the newest request. ``graph.add_node("router", ToolRouterNode(...))`` serves ``invoke`` and ``ainvoke``.

    LangGraph runs it in a thread when the graph runs asynchronously, so planning never blocks the loop; ``acall`` is
    for graphs that want a ``TimeoutPolicy``, which exists for coroutines only.

    Where it goes: ``tools`` with a plan that may run, ``approve`` with one that a person should see first,
    ``respond`` when no tool is needed, nothing fits or an argument is missing, ``__end__`` when there is nothing to
    plan.

    It plans anew each time it is entered, so in an agent's loop enter it once a turn. Nothing is booked here: the
    plan sees what others have booked, and the executor books it when it may run.
    """

    def __init__(
        self,
        planner: AnyPlanner | None = None,
        registry: AnyRegistry | None = None,
        profiling: AnyProfiling | None = None,
        timeline: AnyTimeline | None = None,
        *,
        ledger: Ledger | None = None,
        tenant: str = "",
        fill_args: FillArguments | None = None,
        approve: FootprintOver | Callable[[ToolPlan], bool] | None = None,
        read: ReadRequest = read_request,
    ) -> None:
        """Takes what does not change between runs; a ``RouterContext`` replaces any of it for one run.

        Args:
            planner: by default the packaged model, loaded here and not inside a run.
            registry: by default the shipped tools with their profile; a function is asked at every request, so tools
                may come and go.
            profiling: measured profiles of the registry, or a function that gives them.
            timeline: a curve, a source, or a function that makes one; it is read at every request.
            ledger: what other plans have booked.
            tenant: whose quota counts.
            fill_args: gives each step its arguments, which are checked before anything is reserved. Without it steps
                have none, which is right for the stub executor.
            approve: when to ask a person, for example ``footprint_over(gpu_mem_gb=8)``.
            read: the request in the state; None when there is none.
        """
        self.planner: AnyPlanner = planner or Planner.load()
        self.registry, self.profiling, self.timeline = registry, profiling, timeline
        self.ledger, self.tenant = ledger, tenant
        self.fill_args, self.approve, self.read = fill_args, approve, read

    def __call__(self, state: ToolRouterState, runtime: Runtime[RouterContext]) -> Command[Next]:
        """Plans.

        Raises:
            DataValidationError: the request breaks its contract.
        """
        request = self.read(state)
        if request is None:
            return Command(goto="__end__")
        plan = self._plan(request, state, runtime.context)
        turn = next_turn(state, runtime.context)
        problem = ""
        if plan.status == "planned" and self.fill_args is not None:
            try:
                plan = self._with_arguments(plan, state, runtime.context)
            except ArgumentError as error:
                problem, plan = str(error), nothing_runs(plan, f"arguments: {error}")
        approval = state.get("tool_approval") or {}
        goto = self._next(plan, approval, turn)
        update: Json = {"tool_plan": plan.model_dump(mode="json"), "tool_results": {}, "tool_turn": turn}
        if goto == "approve" or approval.get("answer") == "smaller":
            update["tool_approval"] = {}
        runtime.stream_writer({"type": "tool_plan", "tool_plan": update["tool_plan"], "next": goto, "problem": problem})
        return Command(update=update, goto=goto)

    async def acall(self, state: ToolRouterState, runtime: Runtime[RouterContext]) -> Command[Next]:
        """``__call__`` in a thread."""
        import asyncio

        return await asyncio.to_thread(self, state, runtime)

    def _plan(self, request: str | Json, state: Mapping[str, Any], context: object) -> ToolPlan:
        planner: AnyPlanner = chosen(context, "planner", self.planner)
        registry = present(chosen(context, "registry", self.registry))
        profiling = present(chosen(context, "profiling", self.profiling))
        approval = state.get("tool_approval") or {}
        before = stored_plan(state.get("tool_plan"))
        if approval.get("answer") == "smaller" and before is not None:
            registry, profiling = shipped_with(registry, profiling)
            profiling = smaller_profiles(profiling or ProfilingTable(()), before)
            largest = sorted({step.tool_name for step in before.steps if not profiling.has(step.tool_name)})
            if largest:
                return nothing_runs(before, f"no smaller configuration of {', '.join(largest)} is measured")
            request = same_tools(request, before)
        with traced_plan() as tell:
            plan = planner.plan(
                request,
                registry,
                profiling,
                current(chosen(context, "timeline", self.timeline)),
                ledger=seen(chosen(context, "ledger", self.ledger)),
                terms=BookingTerms(tenant=chosen(context, "tenant", self.tenant)),
            )
            tell(plan)
        return plan.model_copy(update={"booking_id": None})

    def _with_arguments(self, plan: ToolPlan, state: Mapping[str, Any], context: object) -> ToolPlan:
        assert self.fill_args is not None
        steps = []
        for step in plan.steps:
            steps.append(step.model_copy(update={"args": dict(self.fill_args(step, plan, state))}))
            plan = plan.model_copy(update={"steps": (*steps, *plan.steps[len(steps) :])})
        plan = ToolPlan.model_validate(plan.model_dump())
        registry, _ = shipped_with(present(chosen(context, "registry", self.registry)), None)
        check_arguments(plan, registry)
        return plan

    def _next(self, plan: ToolPlan, approval: Mapping[str, Any], turn: Json) -> Next:
        if plan.status != "planned":
            return "respond"
        if self.approve is None or not self.approve(plan):
            return "tools"
        same = approval.get("tools") == [s.tool_name for s in plan.steps] and approval.get("turn") == turn["id"]
        covered = (
            approval.get("answer") == "approve" and same and footprint(plan).within(approval.get("footprint") or {})
        )
        return "tools" if covered else "approve"


def next_turn(state: Mapping[str, Any], context: object) -> Json:
    """The turn that is planned now: the same one after a plan has expired, else another one."""
    before = state.get("tool_turn") or {}
    if before.get("replan"):
        return {"id": before["id"], "number": before["number"]}
    number = before.get("number", 0) + 1
    request_id = chosen(context, "request_id", None)
    return {"id": f"{request_id}#{number}" if request_id is not None else uuid.uuid4().hex, "number": number}


def nothing_runs(plan: ToolPlan, reason: str) -> ToolPlan:
    """The plan's steps without places, and the reason."""
    bare = {"resource_config": None, "expected_latency_ms": None, "start_ms": None, "timeout_ms": None, "source": None}
    steps = tuple(step.model_copy(update=bare) for step in plan.steps)
    update = {"status": "infeasible", "reason": reason, "steps": steps, "booking_id": None}
    return ToolPlan.model_validate(plan.model_copy(update=update | {"beyond_horizon": False}).model_dump())


def shipped_with(
    registry: ToolRegistry | None, profiling: ProfilingTable | None
) -> tuple[ToolRegistry, ProfilingTable | None]:
    """The shipped tools where no registry is given, with the shipped profile where none is given either."""
    from tomas_router import shipped

    if registry is not None:
        return registry, profiling
    known = ToolRegistry.from_json(shipped.registry_path())
    return known, profiling or ProfilingTable.from_csv(shipped.profiling_path(), known)


def same_tools(request: str | Json, plan: ToolPlan) -> Json:
    """The request, limited to the tools of a plan."""
    asked = parse_request(request).model_dump(mode="json", exclude_none=True)
    names = list(dict.fromkeys(step.tool_name for step in plan.steps))
    return asked | {"candidates": names, "num_steps": len(plan.steps)}


def cache_key(node: ToolRouterNode, bucket: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    """For ``CachePolicy(key_func=cache_key(node), ttl=...)``: the request, and what is free in whole ``bucket`` units.

    LangGraph's own key is the node's input alone, which would answer with a plan for a machine as it was.
    """

    def key(state: Mapping[str, Any]) -> str:
        timeline = current(node.timeline)
        version = node.ledger.snapshot().version if node.ledger is not None else 0
        free = [] if timeline is None else [int(amount // bucket) for amount in timeline.at(0)]
        return f"{node.read(state)!r} {free} {version}"

    return key
