"""What a tool is told of its resources, hidden from the model that writes its arguments.

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


def resource_parameters(tool: Any) -> tuple[str, ...]:
    """Names of the parameters that are marked, of a function or a LangChain tool."""
    schema = getattr(tool, "args_schema", None)
    function: Callable[..., Any] | None = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    if function is None and schema is None and callable(tool):
        function = tool
    hints = _hints(function) if function is not None else {}
    if schema is not None and inspect.isclass(schema):
        hints = {**_hints(schema), **hints}
    return tuple(name for name, hint in hints.items() if name != "return" and _is_marked(hint))


def with_resources(tool: Any, args: dict[str, Any], config: ResourceConfig | None) -> dict[str, Any]:
    """The arguments, and the configuration where the tool wants it."""
    return args if config is None else args | dict.fromkeys(resource_parameters(tool), config)


def bind_resources(tool: BaseTool, config: ResourceConfig | None) -> BaseTool:
    """A copy of a LangChain tool that knows its configuration; the tool itself where it does not want it.

    ``ToolNode`` drops values of injected parameters that stand in a call, so that no model can write them. So the
    value is bound to the function, and the parameter becomes optional.
    """
    names = resource_parameters(tool)
    schema = getattr(tool, "args_schema", None)
    if config is None or not names or not inspect.isclass(schema):
        return tool
    given = dict.fromkeys(names, config)
    fields: dict[str, Any] = {name: (Annotated[Any, InjectedResources()], None) for name in names}
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


def _is_marked(hint: Any) -> bool:
    if get_origin(hint) is not Annotated:
        return False
    return any(
        isinstance(mark, InjectedResources) or (inspect.isclass(mark) and issubclass(mark, InjectedResources))
        for mark in get_args(hint)[1:]
    )
