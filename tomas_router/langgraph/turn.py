"""Plans each turn of a person once, and says which tools the chat model is shown."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired

from langchain.agents.middleware.types import AgentState, ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from tomas_router.errors import DataValidationError
from tomas_router.langgraph.admission import Admission
from tomas_router.langgraph.state import AnyTimeline, Json, current, newest, seen
from tomas_router.langgraph.stored_plan import stored_plan, why_plan_again
from tomas_router.langgraph.trace_metadata import traced_plan
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.ledger import BookingTerms
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

Narrow = Literal["off", "per_thread", "per_turn"]
OnFailure = Literal["all", "none"] | Callable[[ModelRequest, Exception], Sequence[str]]


class ToolRouterAgentState(AgentState[Any]):
    """An agent's state with the plan of the turn; plain JSON."""

    tool_plan: NotRequired[Annotated[Json | None, newest]]  # type: ignore[valid-type]  # langchain is not typed here
    tool_router: NotRequired[Annotated[Json | None, newest]]  # type: ignore[valid-type]
    """``turn``: whose message was planned; ``offered``: the tools that the thread has been shown."""


@dataclass(frozen=True)
class Turn:
    """A request of the model with the tools that the plan leaves."""

    request: ModelRequest[Any]
    plan: ToolPlan | None
    update: Json
    fresh: bool
    """Planned just now."""


@dataclass
class TurnPlanner:
    """Makes turns; the fields are the arguments of ``ToolRouterMiddleware``."""

    planner: AnyPlanner
    registry: ToolRegistry | None
    admission: Admission
    resources: AnyTimeline | None
    narrow: Narrow
    max_tools: int | None
    always_include: tuple[str, ...]
    on_failure: OnFailure
    fast_path: float | None
    shadow: bool
    _read: tuple[tuple[Any, ...], ToolRegistry, ProfilingTable | None] | None = None
    _profiling: ProfilingTable | None = field(init=False)
    """Given by the user; None: that which the tools carry."""

    def __post_init__(self) -> None:
        self._profiling = self.admission.profiling

    def turn(self, request: ModelRequest[Any]) -> Turn:
        asked = next((m for m in reversed(request.messages) if isinstance(m, HumanMessage)), None)
        known = request.state.get("tool_router") or {}
        if asked is None or not asked.text.strip():
            return Turn(request, None, {}, fresh=False)
        name = asked.id or f"{sum(isinstance(m, HumanMessage) for m in request.messages)}"
        fresh = known.get("turn") != name
        stored = None if fresh else request.state.get("tool_plan")
        error: Exception | None = None
        plan = stored_plan(stored)
        again = self._why_again(stored, request.tools) if stored else ""
        if fresh or again:
            try:
                plan = self._plan(asked.text, request.tools)
            except Exception as failed:  # noqa: BLE001 - an agent goes on without a plan, or with the old one
                error = failed if plan is None else None
                log.warning("planning failed: %s: %s", type(failed).__name__, failed)
            else:
                _tell(request, again)
        names = [t.name for t in request.tools if isinstance(t, BaseTool)]
        offered = self._offered(request, plan, names, known, error)
        update = {"turn": name, "offered": sorted({*known.get("offered", ()), *offered})}
        if offered != names and not self.shadow:
            keep = set(offered)
            left = [t for t in request.tools if not isinstance(t, BaseTool) or t.name in keep]
            request = request.override(tools=left)
        return Turn(request, plan, update, fresh)

    def _plan(self, text: str, tools: Sequence[Any]) -> ToolPlan:
        registry, profiling = self._known(tools)
        with traced_plan() as tell:
            plan = self.planner.plan(
                text,
                registry,
                profiling,
                current(self.resources),
                ledger=seen(self.admission.ledger),
                terms=BookingTerms(tenant=self.admission.tenant),
            )
            tell(plan)
        return plan.model_copy(update={"booking_id": None})

    def _why_again(self, stored: Json, tools: Sequence[Any]) -> str:
        """Why the turn's plan does not count any more; empty when it does."""
        try:
            registry, _ = self._known(tools)
        except DataValidationError as error:  # a tool has come that nothing is known of
            return str(error)
        return why_plan_again(stored, registry)

    def _known(self, tools: Sequence[Any]) -> tuple[ToolRegistry, ProfilingTable | None]:
        """The registry and profile given, else those of the agent's tools; read anew only when the tools change."""
        own = [t for t in tools if isinstance(t, BaseTool)]
        key = tuple((tool.name, tool.description, tool.args_schema, tool.metadata) for tool in own)
        if self._read is None or self._read[0] != key:
            carried = ProfilingTable.from_langchain(own)
            self._read = key, self.registry or ToolRegistry.from_langchain(own), carried if len(carried) else None
            self.admission.profiling = self._profiling or self._read[2]
        return self._read[1], self.admission.profiling

    def _offered(
        self, request: ModelRequest[Any], plan: ToolPlan | None, names: list[str], known: Json, error: Exception | None
    ) -> list[str]:
        """Names that the model is shown, in the agent's order."""
        kept = {*self.always_include, *_used(request.messages)}
        if error is not None:
            if self.on_failure == "all":
                return names
            chosen = () if self.on_failure == "none" else self.on_failure(request, error)
            return [name for name in names if name in {*chosen, *kept}]
        if self.narrow == "off" or plan is None or plan.reason == "no_match":
            return names
        if self.narrow == "per_thread":
            kept |= set(known.get("offered", ()))
        return [name for name in names if name in {*planned_names(plan, self.max_tools), *kept}]

    def fast(self, turn: Turn) -> ModelResponse[Any] | None:
        """A call without asking the model."""
        plan = turn.plan
        if self.fast_path is None or self.shadow or plan is None or not turn.fresh or plan.status != "planned":
            return None
        if len(plan.steps) != 1 or plan.steps[0].confidence < self.fast_path:
            return None
        tool = next((t for t in turn.request.tools if getattr(t, "name", "") == plan.steps[0].tool_name), None)
        required = ToolRegistry.from_langchain([tool]).tools[0].parameters if tool is not None else {"required": ["?"]}
        args = dict(plan.steps[0].args or {})
        if set((required or {}).get("required") or ()) - args.keys():  # type: ignore[arg-type]
            return None
        call = {"name": plan.steps[0].tool_name, "args": args, "id": f"call_{uuid.uuid4().hex}"}
        return ModelResponse(result=[AIMessage("", tool_calls=[call])])

    def answered(self, turn: Turn, response: ModelResponse[Any]) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        if turn.plan is None and not turn.update:
            return response
        if turn.plan is not None and not self.shadow:
            response.result = [_in_order(message, turn.plan) for message in response.result]
        plan = None if turn.plan is None else turn.plan.model_dump(mode="json")
        update = {"tool_plan": plan or {}, "tool_router": turn.update}
        return ExtendedModelResponse(model_response=response, command=Command(update=update))


def _tell(request: ModelRequest[Any], again: str) -> None:
    writer = getattr(request.runtime, "stream_writer", None)
    if again:
        log.info("planned again: %s", again)
    if again and writer is not None:
        writer({"type": "replanned", "reason": again})


def planned_names(plan: ToolPlan, max_tools: int | None) -> list[str]:
    """Those of the steps, then their alternatives by confidence."""
    steps = list(dict.fromkeys(step.tool_name for step in plan.steps))
    others = sorted((a for step in plan.steps for a in step.alternatives), key=lambda a: -a.confidence)
    names = list(dict.fromkeys([*steps, *(a.tool_name for a in others)]))
    return names if max_tools is None else names[: max(max_tools, len(steps))]


def _in_order(message: Any, plan: ToolPlan) -> Any:
    """A message whose calls stand in the order of the plan; calls that are not planned stay behind."""
    calls = getattr(message, "tool_calls", None)
    if not isinstance(message, AIMessage) or not calls or len(calls) < 2:
        return message
    order: dict[str, int] = {}
    for position, step in enumerate(plan.steps):
        order.setdefault(step.tool_name, position)
    ordered = sorted(calls, key=lambda call: order.get(call["name"], len(order)))
    return message if ordered == calls else message.model_copy(update={"tool_calls": ordered})


def _used(messages: Sequence[Any]) -> set[str]:
    return {call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
