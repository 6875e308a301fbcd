"""What traces say of plans and calls: flat names and plain values, and of arguments only what kind they are.

The same attributes stand on OpenTelemetry spans and in the metadata of LangSmith runs, under ``tomas.``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langgraph import types
from langsmith.run_helpers import get_current_run_tree

from tomas_router.executors.references import FROM
from tomas_router.runtime.tracing import Attribute, span
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ResourceConfig

MAX_VALUE_CHARS = 200


def plan_metadata(plan: ToolPlan) -> dict[str, Attribute]:
    """Of a plan: what was decided, and by which model."""
    said: dict[str, Attribute | None] = {
        "tomas.status": plan.status,
        "tomas.reason": plan.reason,
        "tomas.model": plan.model,
        "tomas.tools": ", ".join(step.tool_identity for step in plan.steps),
        "tomas.steps": len(plan.steps),
        "tomas.makespan_ms": plan.makespan_ms,
        "tomas.gate_confidence": plan.gate_confidence,
    }
    return {name: value for name, value in said.items() if value not in (None, "")}


def call_metadata(
    tool: str,
    step: PlanStep | None,
    config: ResourceConfig | None,
    args: Mapping[str, Any] | None = None,
    *,
    with_arguments: bool = False,
) -> dict[str, Attribute]:
    """Of one call, before it runs.

    Args:
        tool: its name.
        step: what was planned for it.
        config: what it may use.
        args: its arguments; only their names and kinds are said.
        with_arguments: say their values too, cut short.
    """
    said: dict[str, Attribute] = {"tomas.tool": tool if step is None else step.tool_identity}
    if step is not None:
        said |= {"tomas.step": step.id, "tomas.input_size": step.input_size}
        said |= {} if step.expected_latency_ms is None else {"tomas.expected_ms": step.expected_latency_ms}
    if config is not None:
        said |= {f"tomas.resources.{name}": value for name, value in config.model_dump().items()}
    shown = _value if with_arguments else kind_of
    return said | {f"tomas.args.{name}": shown(value) for name, value in (args or {}).items()}


@contextmanager
def traced_plan() -> Iterator[Callable[[ToolPlan], None]]:
    """A span around planning; takes the plan when it is made."""
    with span("tomas.plan") as opened:

        def tell(plan: ToolPlan) -> None:
            opened.set_attributes(plan_metadata(plan))
            tell_langsmith(plan_metadata(plan))

        yield tell


def tell_langsmith(metadata: Mapping[str, Attribute]) -> None:
    """Adds to the LangSmith run that is open here, if there is one."""
    run = get_current_run_tree()
    if run is not None:
        run.add_metadata(dict(metadata))


def kind_of(value: Any) -> str:
    """``str, 12 characters``: enough to see what is wrong with a call, without what it says."""
    if isinstance(value, str):
        return f"str, {len(value)} characters"
    if isinstance(value, Mapping):
        return f"from {value[FROM]}" if FROM in value else f"dict, {len(value)} entries"
    if isinstance(value, list | tuple | set):
        return f"{type(value).__name__}, {len(value)} entries"
    return type(value).__name__


def redacted(payload: Any) -> Any:
    """What a tracer may record of an input or output of ours: plans without argument values, requests without state.

    Args:
        payload: a state, an update, a ``Command``, or a request of LangChain's middleware.
    """
    if isinstance(payload, Mapping):
        return {key: _redacted_key(key, value) for key, value in payload.items()}
    if isinstance(payload, list | tuple):
        return [redacted(part) for part in payload]
    update = getattr(payload, "update", None)
    if isinstance(update, Mapping):
        return {"update": redacted(update), "goto": getattr(payload, "goto", None)}
    call = getattr(payload, "tool_call", None)
    if isinstance(call, Mapping):
        return {"tool_call": redacted(call)}
    tools = getattr(payload, "tools", None)
    if tools is not None and hasattr(payload, "messages"):
        names = [t.get("name") if isinstance(t, Mapping) else getattr(t, "name", None) for t in tools]
        return {"tools": names, "messages": len(payload.messages)}
    if payload is None or isinstance(payload, str | bool | int | float):
        return payload
    return type(payload).__name__


def _redacted_key(key: Any, value: Any) -> Any:
    if key in ("args", "output") and value is not None:
        named = isinstance(value, Mapping) and FROM not in value and key == "args"
        return {name: kind_of(part) for name, part in value.items()} if named else kind_of(value)
    if key == "messages" and isinstance(value, list | tuple):
        return len(value)
    return redacted(value)


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 3]}..."


def redacting_policy() -> Any:
    """How runs of ours are recorded: by ``redacted``; None where LangGraph does not ask (before 1.2)."""
    policy = getattr(types, "TracePolicy", None)
    return None if policy is None else policy(process_inputs=redacted, process_outputs=redacted)
