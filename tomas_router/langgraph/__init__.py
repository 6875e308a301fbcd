"""Tomas Router in LangGraph graphs and LangChain agents; names are resolved on first use.

``ToolRouterNode`` plans inside a graph, ``ToolRouterMiddleware`` inside ``create_agent``; both need the extra
``langgraph``.
"""

from __future__ import annotations

from typing import Any

from tomas_router.errors import MissingExtraError
from tomas_router.lazy import load_name

_HOME_OF = {
    "AnyPlanner": "tomas_router.planner.static",
    "ArgumentError": "tomas_router.langgraph.arguments",
    "ChatModelArguments": "tomas_router.langgraph.chat_arguments",
    "Footprint": "tomas_router.langgraph.approval",
    "InjectedIdempotencyKey": "tomas_router.langgraph.injected",
    "InjectedResources": "tomas_router.langgraph.injected",
    "LiveTools": "tomas_router.langgraph.live_tools",
    "RouterContext": "tomas_router.langgraph.state",
    "StaticPlanner": "tomas_router.planner.static",
    "ToolExecutorNode": "tomas_router.langgraph.executor",
    "ToolRouterMiddleware": "tomas_router.langgraph.middleware",
    "ToolRouterNode": "tomas_router.langgraph.node",
    "ToolRouterState": "tomas_router.langgraph.state",
    "add_router_nodes": "tomas_router.langgraph.graph",
    "footprint": "tomas_router.langgraph.approval",
    "footprint_over": "tomas_router.langgraph.approval",
    "footprint_text": "tomas_router.langgraph.approval",
    "profiled": "tomas_router.schema.tool_objects",
    "run_command": "tomas_router.executors.command",
    "running_call": "tomas_router.executors.running_call",
    "static_plan": "tomas_router.planner.static",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    try:
        return load_name(__name__, _HOME_OF, name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langchain_core", "langgraph"):
            raise
        raise MissingExtraError(
            f'{name} needs {error.name}: pip install "tomas-router[langgraph]"', name=error.name
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
