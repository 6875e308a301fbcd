"""What a tool is told of its resources and its call, hidden from the model that writes its arguments.

::

    @tool
    def transcribe(path: str, resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
        "Turns a recording into text."
        model = load(threads=int(resources.cpu_core))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from langchain_core.tools import BaseTool, InjectedToolArg
from pydantic import create_model

from tomas_router.schema.profiling import ResourceConfig


class InjectedResources(InjectedToolArg):
    """Marks the parameter that gets the step's ``ResourceConfig``; LangChain keeps it out of the model's schema."""


class InjectedIdempotencyKey(InjectedToolArg):
    """Marks the parameter that gets the call's key: the same text at every attempt of a call, and of no other call.

    A tool with a side effect passes it on, or looks it up before it acts, because a call whose process died is run
    again.
    """


def injected_parameters(tool: Any, mark: type[InjectedToolArg]) -> tuple[str, ...]:
    """Names of the parameters that carry a mark, of a function or a LangChain tool."""
    schema = getattr(tool, "args_schema", None)
    function: Callable[..., Any] | None = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    if function is None and schema is None and callable(tool):
        function = tool
    hints = _hints(function) if function is not None else {}
    if schema is not None and inspect.isclass(schema):
        hints = {**_hints(schema), **hints}
    return tuple(name for name, hint in hints.items() if name != "return" and _is_marked(hint, mark))


def injected_values(tool: Any, config: ResourceConfig | None, idempotency_key: str | None) -> dict[str, Any]:
    """What a tool wants to be told and somebody can tell, by parameter."""
    told = {InjectedResources: config, InjectedIdempotencyKey: idempotency_key}
    return {
        name: value for mark, value in told.items() if value is not None for name in injected_parameters(tool, mark)
    }


def bind_injected(tool: BaseTool, config: ResourceConfig | None, idempotency_key: str | None) -> BaseTool:
    """A copy of a LangChain tool that knows what it wants to be told; the tool itself where it wants nothing.

    ``ToolNode`` drops values of injected parameters that stand in a call, so that no model can write them. So the
    values are bound to the function, and the parameters become optional.
    """
    given = injected_values(tool, config, idempotency_key)
    schema = getattr(tool, "args_schema", None)
    if not given or not inspect.isclass(schema):
        return tool
    fields: dict[str, Any] = {name: (Annotated[Any, InjectedToolArg()], None) for name in given}
    update: dict[str, Any] = {"args_schema": create_model(schema.__name__, __base__=schema, **fields)}
    for kind in ("func", "coroutine"):
        function = getattr(tool, kind, None)
        if function is not None:
            update[kind] = _given(function, given)
    return tool.model_copy(update=update)


def _given(function: Callable[..., Any], given: dict[str, Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def call_later(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **(kwargs | given))

        return call_later

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **(kwargs | given))

    return call


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return get_type_hints(thing, include_extras=True)
    except (NameError, TypeError):  # names that exist only for a type checker
        return {}


def _is_marked(hint: Any, mark: type[InjectedToolArg]) -> bool:
    if get_origin(hint) is not Annotated:
        return False
    return any(
        isinstance(found, mark) or (inspect.isclass(found) and issubclass(found, mark)) for found in get_args(hint)[1:]
    )
