from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("langgraph")

pytestmark = pytest.mark.m5

REQUEST = "Transcribe the recording of the meeting and summarise the transcript."


@pytest.fixture(scope="module")
def graph():
    from graphs.router_agent import make_graph

    return make_graph()


def test_graph_when_a_tool_is_needed_plans_and_runs_every_step(graph):
    from tomas_router import ToolPlan

    state = graph.invoke({"request": REQUEST})
    plan = ToolPlan.model_validate(state["tool_plan"])
    assert plan.status == "planned"
    assert set(state["tool_results"]) == {step.id for step in plan.steps}


def test_graph_when_no_tool_is_needed_ends_after_planning(graph):
    state = graph.invoke({"request": "Hello, how are you today?"})
    assert state["tool_plan"]["status"] == "no_tool"
    assert state["tool_results"] == {}
    assert state["messages"][-1].text == "No tool is needed."


def test_graph_when_streamed_reports_the_plan_first(graph):
    events = list(graph.stream({"request": REQUEST}, stream_mode="custom"))
    assert events[0]["type"] == "tool_plan"


def test_state_when_checkpointed_is_plain_json(graph):
    state = graph.invoke({"request": REQUEST})
    state.pop("messages")
    assert json.loads(json.dumps(state)) == state


def test_langgraph_json_when_read_names_graphs_that_exist_and_draw():
    from graphs.draw import served_graphs

    served = served_graphs()
    assert set(served) == {"router_agent", "existing_agent", "supervisor"}
    assert all("graph TD" in made.get_graph().draw_mermaid() for made in served.values())


def test_picture_in_the_docs_when_the_graph_changes_is_drawn_anew(graph):
    page = (Path(__file__).parents[2] / "docs" / "langgraph.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{graph.get_graph().draw_mermaid().strip()}\n```" in page
