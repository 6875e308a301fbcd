"""Plans out of checkpoints: of another version of the library, or for tools that have changed since."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain")

from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router import ToolRegistry
from tomas_router.langgraph import AnyPlanner, StaticPlanner, ToolRouterMiddleware, footprint_over, static_plan
from tomas_router.runtime.ledger import InMemoryLedger

THREAD = {"configurable": {"thread_id": "t"}}


@tool
def load(path: str) -> str:
    """Reads a file."""
    return path


def registry(version):
    return ToolRegistry.from_tools([{"name": "load", "desc": "Reads a file.", "version": version}])


class Naming(StaticPlanner):
    """Writes down for which tools it plans, as the real planner does."""

    def plan(self, request, registry=None, *args, **options):
        made = super().plan(request, registry, *args, **options)
        said = [
            s.model_copy(
                update={
                    "tool_version": registry[s.tool_name].version,
                    "tool_schema_hash": registry[s.tool_name].schema_hash,
                }
            )
            for s in made.steps
        ]
        return made.model_copy(update={"steps": tuple(said)})


def interrupted(**changes):
    """A graph that waits for a person, with what its checkpoint holds."""
    now = {"version": "1"}
    planner = Naming(static_plan("load", args={"s1": {"path": "a"}}))
    graph = make_graph(
        planner,
        tools=[load],
        registry=lambda: registry(now["version"]),
        approve=footprint_over(cpu_core=0.5),
        checkpointer=InMemorySaver(),
    )
    state = graph.invoke({"request": "read a"}, THREAD)
    assert "__interrupt__" in state
    return graph, planner, now


def test_plan_when_a_tool_changed_while_a_person_thought_is_made_again_by_name():
    graph, planner, now = interrupted()
    now["version"] = "2"
    events = list(graph.stream(Command(resume="approve"), THREAD, stream_mode=["custom", "updates"]))
    reasons = [e["reason"] for mode, e in events if mode == "custom" and e["type"] == "replanned"]
    assert reasons == ["load was planned in version 1, now it has 2"]
    state = graph.get_state(THREAD).values
    assert state["tool_plan"]["steps"][0]["tool_version"] == "2"
    assert state["tool_results"]["s1"]["output"] == "a"  # the approval covers the same tool taking no more
    assert len(planner.calls) == 2


def test_plan_when_nothing_changed_runs_as_approved():
    graph, planner, _ = interrupted()
    assert graph.invoke(Command(resume="approve"), THREAD)["tool_results"]["s1"]["status"] == "done"
    assert len(planner.calls) == 1


@pytest.mark.parametrize(("version", "plans"), [("1.0", 1), ("0.1", 2)])
def test_plan_in_a_checkpoint_when_of_another_version_is_migrated_or_made_again(version, plans):
    planner = Naming(static_plan("load", args={"s1": {"path": "a"}}))
    graph = make_graph(
        planner, tools=[load], registry=registry("1"), checkpointer=InMemorySaver(), interrupt_before=["tools"]
    )
    graph.invoke({"request": "read a"}, THREAD)
    old = graph.get_state(THREAD).values["tool_plan"] | {"schema_version": version}
    graph.update_state(THREAD, {"tool_plan": old}, as_node="approve")
    graph.update_state(THREAD, Command(goto="tools"), as_node="approve")
    events = list(graph.stream(None, THREAD, stream_mode="custom"))
    while graph.get_state(THREAD).next:
        events += list(graph.stream(None, THREAD, stream_mode="custom"))
    state = graph.get_state(THREAD).values
    assert state["tool_results"]["s1"]["status"] == "done"
    assert state["tool_plan"]["schema_version"] == "1.1"
    assert len(planner.calls) == plans
    reasons = [e["reason"] for e in events if e["type"] == "replanned"]
    assert (len(reasons), all("got '0.1'" in reason for reason in reasons)) == (plans - 1, True)


def test_agent_when_its_checkpoint_holds_an_unknown_version_plans_the_turn_again(caplog):
    planner = StaticPlanner(static_plan("load"))
    says = [calls(("load", {"path": "a"}))]
    stopping = {"checkpointer": InMemorySaver(), "interrupt_before": ["tools"]}
    made, _ = agent(says, [load], ToolRouterMiddleware(planner), **stopping)
    made.invoke(ask(), THREAD)
    old = made.get_state(THREAD).values["tool_plan"] | {"schema_version": "0.1"}
    made.update_state(THREAD, {"tool_plan": old})
    state = made.invoke(None, THREAD)
    assert tool_answers(state)[0].content == "a"
    assert "schema_version must be one of" in caplog.text
    assert len(planner.calls) == 2


def test_ledger_when_a_call_is_booked_says_for_which_tool():
    ledger, seen = InMemoryLedger(epoch_times=True), []

    @tool
    def look() -> str:
        """Looks."""
        seen.extend(r.tool for b in ledger.bookings() for r in b.reservations.values())
        return "ok"

    tools = ToolRegistry.from_langchain([look])
    planner = Naming(static_plan("look"))
    router = ToolRouterMiddleware(planner, tools, ledger=ledger, resources=machine())
    made, _ = agent([calls(("look", {}))], [look], router)
    made.invoke(ask())
    assert seen == [tools["look"].identity]
    assert seen[0].startswith("look#")


def test_planner_when_of_ones_own_needs_the_method_plan_only():
    class Own:
        def plan(self, request, registry=None, profiling=None, timeline=None, *, ledger=None, terms=None):
            return static_plan("load", args={"s1": {"path": str(request)}})

    own: AnyPlanner = Own()
    assert make_graph(own, tools=[load]).invoke({"request": "a"})["tool_results"]["s1"]["output"] == "a"
    made, _ = agent([calls(("load", {"path": "b"}))], [load], ToolRouterMiddleware(own))
    assert tool_answers(made.invoke(ask()))[0].content == "b"
