"""What the nodes read and write. Everything in the state is plain JSON, so every checkpointer can keep it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph.message import add_messages

from tomas_router.planner.reserve import copy_of
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import TimelineSource
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

AnyTimeline = SystemTimeline | TimelineSource | Callable[[], SystemTimeline]
AnyRegistry = ToolRegistry | Callable[[], ToolRegistry]
AnyProfiling = ProfilingTable | Callable[[], ProfilingTable]
Json = dict[str, Any]


def newest(old: Json | None, new: Json | None) -> Json | None:
    """The later write wins, so that parallel nodes may write."""
    return old if new is None else new


def by_step(old: Json | None, new: Json | None) -> Json:
    """Results by step id; an empty write forgets those of the last plan."""
    return {} if not new else {**(old or {}), **new}


class ToolRouterState(TypedDict, total=False):
    """State of a graph with router nodes; a graph's own state may inherit from it."""

    messages: Annotated[list[AnyMessage], add_messages]
    request: str | Json
    """An instruction, or a request with its options; wins over the messages."""
    tool_plan: Annotated[Json | None, newest]
    """``ToolPlan`` as plain JSON."""
    tool_results: Annotated[Json, by_step]
    """What became of each step, by step id."""
    tool_approval: Annotated[Json | None, newest]
    """The last answer of a person, and the footprint that it was about."""
    tool_turn: Annotated[Json | None, newest]
    """Names the turn that is planned, so that what was completed or approved in it is known again after a new plan."""


@dataclass(frozen=True)
class RouterContext:
    """What a run brings along instead of what the nodes were made with: ``invoke(..., context=RouterContext(...))``."""

    planner: AnyPlanner | None = None
    registry: AnyRegistry | None = None
    profiling: AnyProfiling | None = None
    timeline: AnyTimeline | None = None
    ledger: Ledger | None = None
    tenant: str | None = None
    thread_id: str | None = None
    request_id: str | None = None
    """Names the request. Only a run that starts over from its input needs it (LangGraph's ``durability="exit"``): given
    again, it says that the request is the same one, so that steps that were completed are not run again."""


def read_request(state: Mapping[str, Any]) -> str | Json | None:
    """The key ``request``, else the text of the last message of a person; None when there is neither."""
    if state.get("request"):
        request: str | Json = state["request"]
        return request
    for message in reversed(state.get("messages") or []):
        if isinstance(message, HumanMessage):
            return str(message.text).strip() or None
    return None


def current(timeline: AnyTimeline | None) -> SystemTimeline | None:
    """The curve at this moment; of several GPUs the first one's."""
    if timeline is None or isinstance(timeline, SystemTimeline):
        return timeline
    if callable(timeline):
        return timeline()
    return timeline.timelines()[0]


def seen(ledger: Ledger | None) -> Ledger | None:
    """A copy to plan on. Without a ledger that answers, planning goes on: what runs is admitted by the real one."""
    if ledger is None:
        return None
    try:
        return copy_of(ledger)
    except (LedgerFileError, LedgerBusyError) as error:
        log.warning("planned without knowing what others have booked: %s", error)
        return None


def has_expired(plan: ToolPlan) -> bool:
    """Whether the curve that it was made for has ended."""
    return datetime.now(UTC) > datetime.fromisoformat(plan.expires_at)


def present(given: Any) -> Any:
    """A registry or a profile as it is at this moment; a function is asked for it."""
    return given() if callable(given) else given


def chosen(context: object, field: str, default: Any) -> Any:
    """What the run's context says, else what the node was made with; any context object will do."""
    value = context.get(field) if isinstance(context, Mapping) else getattr(context, field, None)
    return default if value is None else value
