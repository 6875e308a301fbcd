"""Router, approval, tools and answer as nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import END, StateGraph
from langgraph.types import Command, interrupt

from tomas_router.langgraph.approval import ANSWERS, FootprintOver, footprint
from tomas_router.langgraph.executor import ToolExecutorNode
from tomas_router.langgraph.node import ToolRouterNode
from tomas_router.langgraph.state import Json, ToolRouterState
from tomas_router.langgraph.trace_metadata import redacting_policy
from tomas_router.schema.plan import ToolPlan

ROUTER, APPROVE, TOOLS, RESPOND = "router", "approve", "tools", "respond"


def approve_plan(state: ToolRouterState) -> Command[Literal["router", "tools", "respond"]]:
    """Asks a person; resume with ``Command(resume="approve")``, ``"smaller"`` or ``"reject"``.

    Nothing is booked while the person thinks: the plan is booked when it is run.

    Raises:
        ValueError: the answer is none of the three; ask again.
    """
    plan = ToolPlan.model_validate(state["tool_plan"])
    taken = footprint(plan).as_json()
    steps = [
        {
            "id": s.id,
            "tool": s.tool_name,
            "resources": None if s.resource_config is None else s.resource_config.model_dump(),
        }
        for s in plan.steps
    ]
    answer = interrupt({"type": "approve_plan", "footprint": taken, "steps": steps, "answers": list(ANSWERS)})
    if answer not in ANSWERS:
        raise ValueError(f"answer must be one of {', '.join(ANSWERS)}, got {answer!r}")
    turn = (state.get("tool_turn") or {}).get("id")
    tools = [step.tool_name for step in plan.steps]
    approval = {"answer": answer, "footprint": taken, "tools": tools, "turn": turn}
    goto: dict[str, Literal["router", "tools", "respond"]] = {
        "approve": "tools", "smaller": "router", "reject": "respond",
    }  # fmt: skip
    return Command(update={"tool_approval": approval}, goto=goto[answer])


def respond_plainly(state: ToolRouterState) -> Json:
    """Says what was done, or why nothing was, without a chat model."""
    plan = ToolPlan.model_validate(state["tool_plan"])
    rejected = (state.get("tool_approval") or {}).get("answer") == "reject"
    results = state.get("tool_results") or {}
    if rejected:
        text = "The plan was rejected; nothing was run."
    elif plan.status == "no_tool":
        text = "No tool is needed." if plan.reason == "not_needed" else "None of the tools fits the request."
    elif plan.status == "infeasible":
        text = f"Nothing was run: {plan.reason}"
    else:
        lines = [_line(step.id, step.tool_name, results.get(step.id, {})) for step in plan.steps]
        text = "\n".join(lines)
    return {"messages": [AIMessage(text)]}


def add_router_nodes(
    graph: StateGraph[Any, Any, Any, Any],
    router: ToolRouterNode,
    executor: ToolExecutorNode | None = None,
    *,
    respond: Callable[..., Any] | str = respond_plainly,
) -> StateGraph[Any, Any, Any, Any]:
    """Adds ``router``, ``approve``, ``tools`` and ``respond``; the caller adds an edge to ``router``.

    Args:
        graph: its state has the keys of ``ToolRouterState``.
        router: plans.
        executor: runs the plan; by default it simulates.
        respond: the node that answers, for example one that calls a chat model; or the name of a node that the graph
            has already. After a node that is added here the graph ends.
    """
    executor = executor or ToolExecutorNode()
    if executor.approval is None and isinstance(router.approve, FootprintOver):
        executor.approval = router.approve
    executor.registry = executor.registry or router.registry
    traced = {} if executor.trace_arguments else _redacting()
    graph.add_node(ROUTER, router, destinations=(TOOLS, APPROVE, RESPOND, END), **traced)
    graph.add_node(APPROVE, approve_plan, **traced)
    graph.add_node(TOOLS, executor, **traced)
    if isinstance(respond, str):
        if respond != RESPOND:
            graph.add_node(RESPOND, _nothing)
            graph.add_edge(RESPOND, respond)
    else:
        graph.add_node(RESPOND, respond, **(traced if respond is respond_plainly else {}))
        graph.add_edge(RESPOND, END)
    return graph


def _redacting() -> Json:
    policy = redacting_policy()
    return {} if policy is None else {"trace_policy": policy}


def _nothing(state: ToolRouterState) -> Json:  # noqa: ARG001 - a node takes the state
    return {}


def _line(step: str, tool: str, result: Json) -> str:
    status, output = result.get("status", "not run"), result.get("output")
    shown = f": {output}" if output is not None else f": {result['note']}" if result.get("note") else ""
    return f"{step} {tool} {status}{shown}"
