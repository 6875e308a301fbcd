"""One tool call of a chat model, with what the turn's plan says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from tomas_router.langgraph.stored_plan import stored_plan
from tomas_router.runtime.completions import CallKey
from tomas_router.schema.plan import PlanStep, ToolPlan

REFUSED = "tomas_router_refused"


@dataclass(frozen=True)
class PlannedCall:
    """A call with what the turn's plan says of it."""

    request: ToolCallRequest
    plan: ToolPlan | None
    step: PlanStep | None
    thread_id: str | None
    refusals: int
    message_id: str
    position: int
    repeated: int
    """How often the thread has used the call's id before: some models count calls from 0 in every message."""

    @classmethod
    def of(cls, request: ToolCallRequest) -> PlannedCall:
        state = request.state if isinstance(request.state, dict) else {}
        plan = stored_plan(state.get("tool_plan"))
        messages = state.get("messages") or []
        asking = next((m for m in reversed(messages) if isinstance(m, AIMessage) and _has(m, request)), None)
        calls = asking.tool_calls if asking is not None else [request.tool_call]
        position = next((i for i, c in enumerate(calls) if c["id"] == request.tool_call["id"]), 0)
        earlier = sum(c["name"] == request.tool_call["name"] for c in calls[:position])
        steps = [s for s in (plan.steps if plan else ()) if s.tool_name == request.tool_call["name"]]
        config = getattr(request.runtime, "config", None) or {}
        thread_id = (config.get("configurable") or {}).get("thread_id")
        return cls(
            request=request,
            plan=plan,
            step=steps[min(earlier, len(steps) - 1)] if steps else None,
            thread_id=None if thread_id is None else str(thread_id),
            refusals=_refusals(messages),
            message_id=f"{thread_id}/{asking.id if asking is not None else request.tool_call['id']}",
            position=position,
            repeated=max(0, sum(isinstance(m, AIMessage) and _has(m, request) for m in messages) - 1),
        )

    @property
    def name(self) -> str:
        return str(self.request.tool_call["name"])

    @property
    def key(self) -> CallKey | None:
        """What the call is recorded under; None outside of a thread."""
        call_id = self.request.tool_call["id"]
        if self.thread_id is None or call_id is None:
            return None
        unique = f"{call_id}#{self.repeated}" if self.repeated else call_id
        return CallKey.of(self.thread_id, unique, self.name, self.request.tool_call["args"])

    @property
    def idempotency_key(self) -> str:
        """The same at every attempt of this call."""
        key = self.key or CallKey.of("", str(self.request.tool_call["id"]), self.name, self.request.tool_call["args"])
        return key.idempotency_key

    def said(self) -> dict[str, Any]:
        """For a ``CallRecord``: what was planned of the call beside its configuration."""
        said = {"thread_id": self.thread_id, "identity": self.name}
        if self.step is None:
            return said
        return said | {"identity": self.step.tool_identity, "input_size": self.step.input_size}

    def write(self, event: dict[str, Any]) -> None:
        """To ``stream_mode="custom"``; outside a graph to nobody."""
        writer = getattr(self.request.runtime, "stream_writer", None)
        if writer is not None:
            writer(event | {"call": self.request.tool_call["id"]})

    def answer(self, text: str, extra: dict[str, Any]) -> ToolMessage:
        call_id = self.request.tool_call["id"]
        return ToolMessage(text, tool_call_id=call_id, name=self.name, status="error", additional_kwargs=extra)


def _refusals(messages: Sequence[Any]) -> int:
    """Calls that were refused since a person last spoke."""
    count = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        count += isinstance(message, ToolMessage) and bool(message.additional_kwargs.get(REFUSED))
    return count


def _has(message: AIMessage, request: ToolCallRequest) -> bool:
    return any(call["id"] == request.tool_call["id"] for call in message.tool_calls)
