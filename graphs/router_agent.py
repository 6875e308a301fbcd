"""A LangGraph agent that plans a request, asks a person when it takes much, runs the plan, and answers.

No chat model and no key: ``python -m graphs.router_agent "transcribe the meeting and summarise it"``. The tools are
simulated: what would run is printed with its resources. Give ``make_graph`` tools of your own and they run. State
holds plain JSON only, so any checkpointer can store it; the planner lives in the graph, not in the state.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from tomas_router.langgraph.approval import FootprintOver
from tomas_router.langgraph.executor import ToolExecutorNode
from tomas_router.langgraph.graph import add_router_nodes, respond_plainly
from tomas_router.langgraph.node import ToolRouterNode
from tomas_router.langgraph.state import RouterContext, ToolRouterState
from tomas_router.planner.static import AnyPlanner


def make_graph(
    planner: AnyPlanner | None = None,
    *,
    tools: Sequence[Any] | None = None,
    approve: FootprintOver | None = None,
    respond: Callable[..., Any] = respond_plainly,
    checkpointer: Any = None,
    interrupt_before: Sequence[str] = (),
    **router: Any,
) -> CompiledStateGraph:
    """Plan, ask, run, answer.

    Args:
        planner: shared between graphs; by default the packaged model, loaded here and not inside a node.
        tools: LangChain tools or functions; by default the run is simulated and printed to standard error.
        approve: when to ask a person; needs a checkpointer, which ``langgraph dev`` brings along.
        respond: the node that answers; a chat model of yours goes here.
        checkpointer: where the state is kept between runs.
        interrupt_before: nodes to stop in front of.
        **router: further arguments of ``ToolRouterNode``.
    """
    graph = StateGraph(ToolRouterState, context_schema=RouterContext)
    executor = ToolExecutorNode(tools, write=lambda line: print(line, file=sys.stderr))
    add_router_nodes(graph, ToolRouterNode(planner, approve=approve, **router), executor, respond=respond)
    graph.add_edge(START, "router")
    return graph.compile(name="router_agent", checkpointer=checkpointer, interrupt_before=list(interrupt_before))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m graphs.router_agent "REQUEST"')
    final = make_graph().invoke({"request": sys.argv[1]})
    shown = {key: final.get(key) for key in ("tool_plan", "tool_results")}
    print(json.dumps(shown | {"answer": final["messages"][-1].text}, indent=2))
