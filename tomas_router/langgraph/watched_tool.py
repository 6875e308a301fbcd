"""A tool that knows what it may use and under which key, keeps to its threads, and says when it has really ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import wraps
from typing import Any

from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.tools import BaseTool

from tomas_router.executors.limits import thread_count, thread_limits
from tomas_router.executors.running_call import CallStoppedError, RunningCall
from tomas_router.langgraph.injected import bind_injected


def watched(request: ToolCallRequest, call: RunningCall, *, limit_threads: bool, timeout_s: float | None) -> Any:
    """The request with a copy of its tool that is watched while it runs.

    Args:
        request: a call of a tool; one of an unknown tool stays as it is.
        call: what the tool may use; told when the tool's thread begins and ends.
        limit_threads: whether OpenMP and BLAS get the call's cores while the tool runs.
        timeout_s: a synchronous tool is given up after that, while its thread goes on to its end.
    """
    if request.tool is None:
        return request
    told = bind_injected(request.tool, call.config, call.idempotency_key)
    tool = told.model_copy()
    # What every way into a tool calls; pydantic guards assignments. The methods stay bound to the tool itself, so that
    # one with a state of its own keeps it.
    object.__setattr__(tool, "_run", _watched(told._run, call, limit_threads, timeout_s))
    if not is_synchronous(told) and not hasattr(told, "coroutine"):
        object.__setattr__(tool, "_arun", told._arun)
    return request.override(tool=tool)


def _watched(
    function: Callable[..., Any], call: RunningCall, limit_threads: bool, timeout_s: float | None
) -> Callable[..., Any]:
    def body(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with call.busy():
            if call.should_stop() == "cancelled":  # before it began, so what it held may be gone already
                raise CallStoppedError(f"{call.tool} was cancelled before it began", "cancelled")
            with _limits(call, limit_threads):
                return function(*args, **kwargs)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return body(args, kwargs)

    @wraps(function)
    def run_for_a_time(*args: Any, **kwargs: Any) -> Any:
        assert timeout_s is not None
        outcome: Future[Any] = Future()

        def work() -> None:
            try:
                outcome.set_result(body(args, kwargs))
            except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is asked for
                outcome.set_exception(error)

        with call.busy():  # until the thread has taken over
            context = copy_context()
            threading.Thread(target=context.run, args=(work,), name=f"tool {call.tool}", daemon=True).start()
            try:
                return outcome.result(timeout_s)
            except TimeoutError:
                if outcome.done():  # the tool's own
                    raise
                call.stop("timed out")
                raise timed_out(call.tool, timeout_s) from None

    return run if timeout_s is None else run_for_a_time


def timed_out(tool: str, timeout_s: float) -> CallStoppedError:
    """The error of a call that took too long."""
    return CallStoppedError(f"{tool} took longer than {timeout_s:g} s", "timed out")


def _limits(call: RunningCall, limit_threads: bool) -> AbstractContextManager[object]:
    if not limit_threads or call.config is None:
        return nullcontext()
    return thread_limits(thread_count(call.config))


def is_synchronous(tool: BaseTool | None) -> bool:
    """Whether a tool has no coroutine of its own, so that a thread runs it in an asynchronous agent, too."""
    if tool is None:
        return True
    if hasattr(tool, "coroutine"):
        return getattr(tool, "coroutine", None) is None
    return type(tool)._arun is BaseTool._arun
