"""The tools that an executor can run: found by name, called with keyword arguments, whatever they are made of.

The process of every step imports this, so it imports no schema.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.errors import UnknownToolError
from tomas_router.executors.execution import NotExecutableError
from tomas_router.profiling.target import load_attribute
from tomas_router.profiling.tool import ProfiledTool, ProfiledToolError

if TYPE_CHECKING:
    from tomas_router.schema.plan import PlanStep, ToolPlan

Tools = Mapping[str, Any]


def load_tools(target: str) -> dict[str, Any]:
    """The tools of ``my_module:tools`` or ``folder/my_file.py:tools``, by the names that plans use.

    The attribute is a tool, several of them in a list, tuple or dictionary (whose keys are the names), or a function
    without parameters whose name is ``tools`` or begins with ``make_`` that returns such. A tool is a function, a
    LangChain tool or a ``ProfiledTool``.

    Raises:
        ProfiledToolError: The target cannot be imported, holds something else, or names repeat.
    """
    found = load_attribute(target)
    if inspect.isfunction(found) and (found.__name__ == "tools" or found.__name__.startswith("make_")):
        found = found()
    if isinstance(found, Mapping):
        return dict(found)
    members = found if isinstance(found, Iterable) and not isinstance(found, (str, bytes)) else (found,)
    named: dict[str, Any] = {}
    for tool in members:
        name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
        if not isinstance(name, str) or not (callable(tool) or _has_invoke(tool) or isinstance(tool, ProfiledTool)):
            raise ProfiledToolError(f"target {target!r} must hold functions or tools with names, got {tool!r}")
        if name in named:
            raise ProfiledToolError(f"target {target!r}: the name {name!r} repeats; names must be unique")
        named[name] = tool
    return named


def absolute(target: str) -> str:
    """The same target for a process that runs in another folder."""
    place, _, attribute = target.rpartition(":")
    return f"{Path(place).resolve()}:{attribute}" if place.endswith(".py") else target


def call(tool: Any, arguments: Mapping[str, Any]) -> Any:
    """Calls a tool once and waits for it."""
    if isinstance(tool, ProfiledTool):
        tool = tool.call
    if _has_invoke(tool):
        return tool.invoke(dict(arguments))
    if inspect.iscoroutinefunction(tool):
        return asyncio.run(tool(**arguments))
    return tool(**arguments)


def require_runnable(plan: ToolPlan, tools: Tools, *, sample_inputs: bool = False) -> None:
    """Raises unless every step has its tool and all arguments that the tool requires.

    Args:
        plan: planned.
        tools: by name.
        sample_inputs: a ``ProfiledTool`` without arguments gets its sample input, so it lacks nothing.

    Raises:
        UnknownToolError: names the tools that are not here.
        NotExecutableError: names the steps and arguments that nobody has bound.
    """
    unknown = sorted({step.tool_name for step in plan.steps} - tools.keys())
    if unknown:
        raise UnknownToolError(f"the plan names {', '.join(unknown)}, the tools are {', '.join(sorted(tools))}")
    wrong = []
    for step in plan.steps:
        tool = tools[step.tool_name]
        if sample_inputs and samples(step, tool):
            if step.input_size not in tool.inputs:
                wrong.append(f"{step.id} ({step.tool_name}) has no sample input of size {step.input_size}")
            continue
        missing = missing_arguments(tool, step.args or {})
        if missing:
            wrong.append(f"{step.id} ({step.tool_name}) misses {', '.join(missing)}")
    if wrong:
        raise NotExecutableError(f"arguments are not bound, so nothing is run: {'; '.join(wrong)}")


def samples(step: PlanStep, tool: Any) -> bool:
    """Whether a step can be given its tool's sample input: it has no arguments of its own."""
    return isinstance(tool, ProfiledTool) and not step.args


def missing_arguments(tool: Any, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Required parameters that are not given; none where a tool does not tell its parameters."""
    if isinstance(tool, ProfiledTool):
        tool = tool.call
    schema = getattr(tool, "args_schema", None)
    if schema is not None:
        return tuple(name for name in _required(schema) if name not in given)
    try:
        parameters = inspect.signature(tool).parameters.values()
    except (TypeError, ValueError):  # built in C, or not callable itself
        return ()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    return tuple(name for name in required if name not in given)


def _required(schema: Any) -> list[str]:
    """Of a pydantic model or a JSON Schema."""
    if isinstance(schema, Mapping):
        return list(schema.get("required") or [])
    return [name for name, field in schema.model_fields.items() if field.is_required()]


def _has_invoke(tool: Any) -> bool:
    return callable(getattr(tool, "invoke", None))
