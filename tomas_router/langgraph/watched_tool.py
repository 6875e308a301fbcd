"""A tool that knows its resources, and that says when its thread has really ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from langchain.agents.middleware.types import ToolCallRequest

from tomas_router.langgraph.admission import Lease
from tomas_router.langgraph.injected import bind_resources


def with_lease(request: ToolCallRequest, lease: Lease, ended: threading.Event | None) -> ToolCallRequest:
    """The call with its resources where the tool wants them, and with an eye on its thread."""
    tool = request.tool
    if tool is None:
        return request
    tool = bind_resources(tool, lease.config)
    function = getattr(tool, "func", None)
    if ended is not None and function is not None and getattr(tool, "coroutine", None) is None:
        tool = tool.model_copy(update={"func": _watched(function, ended)})
    return request.override(tool=tool)


def _watched(function: Callable[..., Any], ended: threading.Event) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        ended.clear()
        try:
            return function(*args, **kwargs)
        finally:
            ended.set()

    return run
