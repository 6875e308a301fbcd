"""Tools that come and go: from a function, in synchronous agents and in graphs."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("langchain")

from langchain_core.tools import tool

from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, tool_answers
from tomas_router.langgraph import LiveTools, StaticPlanner, ToolRouterMiddleware, profiled, static_plan

ROW = {"input_size": "small", "cpu_core": 1, "cpu_mem_gb": 0.25, "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 40}


@tool
def stay(x: int) -> str:
    """Is always there."""
    return f"stay {x}"


@profiled([ROW])
@tool
def come(x: int) -> str:
    """Comes later."""
    return f"come {x}"


def test_tools_when_one_comes_later_are_planned_shown_called_and_profiled():
    there = []
    planner = StaticPlanner(static_plan("come"))
    router = ToolRouterMiddleware(planner)
    made, model = agent([calls(("come", {"x": 1}))], [stay], LiveTools(lambda: there, max_age_s=0), router)
    there.append(come)
    assert tool_answers(made.invoke(ask()))[0].content == "come 1"
    assert model.shown[0] == ["stay", "come"]
    assert router.admission.profiling.has("come")
    there.clear()
    made.invoke(ask("once more"))
    assert model.shown[-1] == ["stay"]
    assert router.admission.profiling is None


def test_tools_when_the_source_fails_stay_those_last_known(caplog):
    answers = iter([[come]])
    live = LiveTools(lambda: next(answers), max_age_s=0)
    assert live.now() == (come,)
    assert live.now() == (come,)
    assert "their source failed: StopIteration" in caplog.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tools_when_the_source_never_answered_raise_what_it_raised(asynchronous):
    async def gone():
        raise ConnectionError("no server")

    live = LiveTools(gone)
    with pytest.raises(ConnectionError, match="no server"):
        asyncio.run(live.anow()) if asynchronous else live.now()


def test_tools_when_new_enough_are_not_asked_for_again():
    asked = []
    live = LiveTools(lambda: asked.append(1) or [come], max_age_s=60)
    assert live.now() == asyncio.run(live.anow()) == (come,)
    assert asked == [1]


def test_source_when_a_coroutine_is_asked_inside_and_outside_a_loop():
    async def source():
        return [come]

    async def inside():
        return LiveTools(source).now(), await LiveTools(source).anow()

    assert LiveTools(source).now() == (come,)
    assert asyncio.run(inside()) == ((come,), (come,))


def test_agent_when_it_has_a_live_tool_already_refuses_by_name():
    made, _ = agent([], [stay], LiveTools(lambda: [stay]))
    with pytest.raises(ValueError, match="both have stay"):
        made.invoke(ask())


def test_graph_when_the_registry_is_a_function_sees_the_tools_of_the_moment():
    there = [stay]
    live, seen = LiveTools(lambda: there, max_age_s=0), []

    class Looking(StaticPlanner):
        def plan(self, request, registry=None, profiling=None, *args, **options):
            seen.append((registry.names, len(profiling)))
            return super().plan(request, registry)

    planner = Looking(static_plan("stay", args={"s1": {"x": 1}}))
    graph = make_graph(planner, tools=live.now, registry=live.registry, profiling=live.profiling)
    assert graph.invoke({"request": "go"})["tool_results"]["s1"]["output"] == "stay 1"
    there.append(come)
    graph.invoke({"request": "go"})
    assert seen == [(("stay",), 0), (("stay", "come"), 1)]
