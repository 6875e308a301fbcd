"""A LangGraph agent that plans a request and runs the plan with the stub executor.

No chat model and no key: ``python -m graphs.router_agent "transcribe the meeting and summarise it"``.
State holds plain JSON only, so any checkpointer can store it; the planner lives in the graph, not in the state.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from tomas_router import Planner, ToolPlan
from tomas_router.executors.stub import StubExecutor


class AgentState(TypedDict, total=False):
    """What the graph carries from node to node."""

    request: str
    tool_plan: dict[str, Any]
    """``ToolPlan`` as plain JSON."""
    results: dict[str, Any]
    """What became of every step, by step id."""


def make_graph(planner: Planner | None = None) -> CompiledStateGraph:
    """Plan, then run when there is something to run.

    Args:
        planner: Shared between graphs; by default the packaged model, loaded here and not inside a node.
    """
    router = planner or Planner.load()

    def plan(state: AgentState, runtime: Runtime) -> Command[Literal["execute", "__end__"]]:
        tool_plan = router.plan(state["request"])
        update = {"tool_plan": tool_plan.model_dump(mode="json")}
        runtime.stream_writer({"type": "tool_plan", **update})
        return Command(update=update, goto="execute" if tool_plan.status == "planned" else END)

    def execute(state: AgentState, runtime: Runtime) -> AgentState:
        executor = StubExecutor(write=lambda text: runtime.stream_writer({"type": "executor", "text": text}))
        return {"results": executor.run(ToolPlan.model_validate(state["tool_plan"]))}

    graph = StateGraph(AgentState)
    graph.add_node("plan", plan)
    graph.add_node("execute", execute)
    graph.add_edge(START, "plan")
    graph.add_edge("execute", END)
    return graph.compile(name="router_agent")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python -m graphs.router_agent "REQUEST"')
    print(json.dumps(make_graph().invoke({"request": sys.argv[1]}), indent=2))
