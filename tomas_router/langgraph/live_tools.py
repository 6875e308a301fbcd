"""Tools that come and go while an agent runs: an MCP server's, a plugin folder's.

The router needs no training for them: a tool is read from its name, description and profile, and only new ones are
encoded.

::

    live = LiveTools(MultiServerMCPClient({"files": {...}}).get_tools)
    agent = create_agent(model, tools, middleware=[live, ToolRouterMiddleware(Planner.load())])
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain.agents.middleware.types import AgentMiddleware, ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from tomas_router.langgraph.trace_metadata import redacting_policy
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

ToolSource = Callable[[], Sequence[Any]] | Callable[[], Awaitable[Sequence[Any]]]
MAX_AGE_S = 5.0


class LiveTools(AgentMiddleware[Any, Any, Any]):
    """Asks a source for its tools, and adds them to what an agent's model is shown and may call.

    As middleware it stands before ``ToolRouterMiddleware``. In a graph: ``ToolRouterNode(registry=live.registry,
    profiling=live.profiling)`` and ``ToolExecutorNode(live.now)``.
    """

    def __init__(self, source: ToolSource, *, max_age_s: float = MAX_AGE_S) -> None:
        """Nothing is asked before the first use.

        Args:
            source: gives the tools that there are now; may be a coroutine function, such as
                ``MultiServerMCPClient(...).get_tools``.
            max_age_s: for so long an answer counts as new. When a later question fails, the last answer stays.
        """
        super().__init__()
        self.trace_policy = redacting_policy()  # its hooks see the calls
        self._source, self._max_age_s = source, max_age_s
        self._lock = threading.Lock()
        self._known: tuple[Any, ...] | None = None
        self._asked_s = 0.0

    def now(self) -> tuple[Any, ...]:
        """The tools that there are now; what the source raises when it never answered before."""
        with self._lock:
            if self._is_new():
                assert self._known is not None
                return self._known
            return self._keep(lambda: _awaited(self._source()))

    async def anow(self) -> tuple[Any, ...]:
        """``now`` for coroutines; an asynchronous source is asked on the running loop."""
        if self._is_new():
            assert self._known is not None
            return self._known
        if not inspect.iscoroutinefunction(self._source):
            return await asyncio.to_thread(self.now)
        try:
            found: Sequence[Any] | Exception = await self._source()
        except Exception as error:  # noqa: BLE001 - a source may raise anything; _keep decides
            found = error
        return self._keep(lambda: _raised(found))

    def registry(self) -> ToolRegistry:
        """What a planner reads of them."""
        return ToolRegistry.from_langchain(self.now())

    def profiling(self) -> ProfilingTable:
        """The profiles that they carry; perhaps none."""
        return ProfilingTable.from_langchain(self.now())

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Adds them to the request."""
        return handler(_with(request, self.now()))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """``wrap_model_call``."""
        return await handler(_with(request, await self.anow()))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Finds the tool of a call that the agent itself does not have."""
        return handler(request if request.tool is not None else _found(request, self.now()))

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """``wrap_tool_call``."""
        return await handler(request if request.tool is not None else _found(request, await self.anow()))

    def _is_new(self) -> bool:
        return self._known is not None and time.monotonic() - self._asked_s < self._max_age_s

    def _keep(self, ask: Callable[[], Sequence[Any]]) -> tuple[Any, ...]:
        try:
            self._known = tuple(ask())
        except Exception as error:
            if self._known is None:
                raise
            log.warning("the last known tools are used, their source failed: %s: %s", type(error).__name__, error)
        self._asked_s = time.monotonic()
        return self._known


def _with(request: ModelRequest[Any], tools: Sequence[Any]) -> ModelRequest[Any]:
    names = {tool.name for tool in request.tools if isinstance(tool, BaseTool)}
    twice = sorted(tool.name for tool in tools if tool.name in names)
    if twice:
        raise ValueError(f"the agent and its live tools both have {', '.join(twice)}; names must differ")
    return request.override(tools=[*request.tools, *tools])


def _found(request: ToolCallRequest, tools: Sequence[Any]) -> ToolCallRequest:
    tool = next((tool for tool in tools if tool.name == request.tool_call["name"]), None)
    return request if tool is None else request.override(tool=tool)


def _awaited(found: Any) -> Sequence[Any]:
    """The tools of a source that may be asynchronous; on a loop of its own, wherever this runs."""
    if not inspect.isawaitable(found):
        return found  # type: ignore[no-any-return]

    async def wait() -> Sequence[Any]:
        return await found  # type: ignore[no-any-return]

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()


def _raised(found: Sequence[Any] | Exception) -> Sequence[Any]:
    if isinstance(found, Exception):
        raise found
    return found
