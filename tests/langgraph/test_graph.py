"""The node in real graphs: routes, events, interrupts, checkpoints, bookings."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest

pytest.importorskip("langgraph")

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, TimeoutPolicy

from graphs.router_agent import make_graph
from tomas_router import SystemTimeline, ToolRegistry
from tomas_router.errors import UnknownToolError
from tomas_router.langgraph import (
    InjectedResources,
    RouterContext,
    StaticPlanner,
    ToolExecutorNode,
    ToolRouterNode,
    ToolRouterState,
    add_router_nodes,
    footprint_over,
    static_plan,
)
from tomas_router.langgraph.node import cache_key
from tomas_router.runtime.ledger import InMemoryLedger, Reservation
from tomas_router.schema.profiling import ProfilingTable, ResourceConfig

BIG = ResourceConfig(cpu_core=4, cpu_mem_gb=2, gpu_sm=0, gpu_mem_gb=0)
THREAD = {"configurable": {"thread_id": "t1"}}


@tool
def load(path: str) -> dict:
    """Reads a file."""
    return {"text": f"content of {path}"}


@tool
def shout(text: str, resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
    """Writes a text in capitals."""
    return f"{text.upper()} with {resources.cpu_core:g} cores"


TOOLS = [load, shout]
ARGS = {"s1": {"path": "a.txt"}, "s2": {"text": {"$from": "s1", "path": "$.text"}}}


def fill(step, plan, state):
    return ARGS[step.id]


def build(plan, tools=None, **router):
    return make_graph(StaticPlanner(plan), tools=tools, checkpointer=InMemorySaver(), **router)


def machine(cores=8.0):
    return SystemTimeline.from_rows([(0, cores, 32, 100, 16)], tail="hold", epoch_ms=int(time.time() * 1000))


# --- where it goes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_graph_when_tools_are_given_runs_them_with_arguments_references_and_resources(asynchronous):
    graph = build(
        static_plan("load", "shout", latency_ms=5), TOOLS, fill_args=fill, registry=ToolRegistry.from_langchain(TOOLS)
    )
    given = {"messages": [HumanMessage("shout what is in a.txt")]}
    state = asyncio.run(graph.ainvoke(given, THREAD)) if asynchronous else graph.invoke(given, THREAD)
    assert state["tool_results"]["s1"]["output"] == {"text": "content of a.txt"}
    assert state["tool_results"]["s2"]["output"] == "CONTENT OF A.TXT with 1 cores"
    assert "CONTENT OF A.TXT" in state["messages"][-1].text


def test_graph_when_no_tool_is_needed_answers_without_running():
    state = build(static_plan()).invoke({"request": "hello"}, THREAD)
    assert state["messages"][-1].text == "No tool is needed."
    assert state["tool_results"] == {}


def test_graph_when_there_is_no_request_ends():
    planner = StaticPlanner(static_plan("load"))
    assert "tool_plan" not in make_graph(planner).invoke({"messages": []})
    assert planner.calls == []


def test_request_when_messages_and_key_are_there_is_the_key():
    planner = StaticPlanner(static_plan())
    make_graph(planner).invoke({"request": {"instruction": "the key", "num_steps": 1}, "messages": [HumanMessage("m")]})
    assert (planner.calls[0].instruction, planner.calls[0].num_steps) == ("the key", 1)


def test_request_when_only_messages_are_there_is_the_last_of_a_person():
    planner = StaticPlanner(static_plan())
    make_graph(planner).invoke({"messages": [HumanMessage("old"), ("ai", "answer"), HumanMessage("new"), ("ai", "x")]})
    assert planner.calls[0].instruction == "new"


def test_arguments_when_missing_go_to_respond_and_nothing_is_booked_or_run():
    ledger = InMemoryLedger(epoch_times=True)
    graph = build(
        static_plan("load"), fill_args=lambda *_: {}, registry=ToolRegistry.from_langchain(TOOLS), ledger=ledger
    )
    state = graph.invoke({"request": "load it"}, THREAD)
    assert state["tool_plan"]["status"] == "infeasible"
    assert "s1 misses path" in state["messages"][-1].text
    assert ledger.snapshot().version == 0


def test_tools_when_the_plan_names_an_unknown_one_raise_before_anything_runs():
    with pytest.raises(UnknownToolError, match="other"):
        build(static_plan("load", "other"), TOOLS).invoke({"request": "x"}, THREAD)


def test_results_when_a_second_turn_plans_anew_are_forgotten():
    plans = iter([static_plan("load"), static_plan()])
    graph = make_graph(StaticPlanner(lambda request: next(plans)), checkpointer=InMemorySaver())
    assert graph.invoke({"request": "one"}, THREAD)["tool_results"]
    assert graph.invoke({"request": "two"}, THREAD)["tool_results"] == {}


def test_plan_when_expired_goes_back_to_the_router():
    old = datetime.now(UTC) - timedelta(hours=2)
    plans = iter([static_plan("load", now=old), static_plan("load")])
    graph = make_graph(StaticPlanner(lambda request: next(plans)))
    events = list(graph.stream({"request": "x"}, stream_mode="custom"))
    assert [e["type"] for e in events if e["type"] != "executor"] == ["tool_plan", "replanned", "tool_plan"]


def test_executor_when_two_tools_have_one_name_refuses():
    with pytest.raises(ValueError, match="'load' twice"):
        ToolExecutorNode([load, load])


# --- context, events, policies -------------------------------------------------------------------------------


def test_context_when_given_replaces_planner_for_the_run():
    mine = StaticPlanner(static_plan())
    make_graph(StaticPlanner(static_plan("load"))).invoke({"request": "x"}, context=RouterContext(planner=mine))
    assert len(mine.calls) == 1


def test_events_when_streamed_tell_the_whole_story():
    graph = build(
        static_plan("load", "shout", latency_ms=5), TOOLS, fill_args=fill, registry=ToolRegistry.from_langchain(TOOLS)
    )
    events = list(graph.stream({"request": "x"}, THREAD, stream_mode="custom"))
    assert [e["type"] for e in events] == ["tool_plan", *["tool_admitted", "tool_finished"] * 2]
    json.dumps(events)


def test_events_when_streamed_asynchronously_are_the_same():
    async def collect():
        graph = build(static_plan("load"), TOOLS, fill_args=fill, registry=ToolRegistry.from_langchain(TOOLS))
        return [e["type"] async for e in graph.astream({"request": "x"}, THREAD, stream_mode="custom")]

    assert asyncio.run(collect()) == ["tool_plan", "tool_admitted", "tool_finished"]


def test_acall_when_used_with_a_timeout_policy_plans():
    router = ToolRouterNode(StaticPlanner(static_plan()))
    graph = StateGraph(ToolRouterState, context_schema=RouterContext)
    graph.add_node("router", router.acall, timeout=TimeoutPolicy(run_timeout=30), destinations=("respond",))
    graph.add_node("respond", lambda state: {})
    graph.add_edge(START, "router")
    assert asyncio.run(graph.compile().ainvoke({"request": "x"}))["tool_plan"]["status"] == "no_tool"


def test_cache_key_when_resources_change_is_another():
    free = [8.0]
    router = ToolRouterNode(StaticPlanner(static_plan()), timeline=lambda: machine(free[0]))
    key = cache_key(router)
    before = key({"request": "x"})
    assert key({"request": "x"}) == before
    assert key({"request": "y"}) != before
    free[0] = 4.0
    assert key({"request": "x"}) != before


def test_drawing_when_made_shows_where_each_node_leads():
    drawn = make_graph(StaticPlanner(static_plan())).get_graph().draw_mermaid()
    for edge in ("router -.-> tools", "router -.-> approve", "approve -.-> router", "tools -.-> respond"):
        assert edge in drawn.replace("&nbsp;", "").replace("  ", " ") or edge.replace(" -.-> ", " -.-> ") in drawn


# --- approval ------------------------------------------------------------------------------------------------


def asking(plan, **router):
    return build(plan, approve=footprint_over(cpu_core=2), **router)


def test_approval_when_needed_interrupts_with_the_footprint_and_goes_on():
    graph = asking(static_plan("load", config=BIG))
    asked = graph.invoke({"request": "x"}, THREAD)["__interrupt__"][0].value
    assert asked["footprint"]["cpu_core"] == 4
    assert asked["answers"] == ["approve", "smaller", "reject"]
    assert graph.invoke(Command(resume="approve"), THREAD)["tool_results"]["s1"]["status"] == "simulated"


def test_approval_when_the_plan_is_small_is_not_asked():
    assert "__interrupt__" not in asking(static_plan("load")).invoke({"request": "x"}, THREAD)


def test_approval_when_rejected_runs_nothing():
    graph = asking(static_plan("load", config=BIG))
    graph.invoke({"request": "x"}, THREAD)
    state = graph.invoke(Command(resume="reject"), THREAD)
    assert state["tool_results"] == {}
    assert "rejected" in state["messages"][-1].text


def test_approval_when_the_answer_is_unknown_says_what_is():
    graph = asking(static_plan("load", config=BIG))
    graph.invoke({"request": "x"}, THREAD)
    with pytest.raises(ValueError, match="approve, smaller, reject"):
        graph.invoke(Command(resume="maybe"), THREAD)


def test_approval_when_given_covers_a_new_plan_of_the_same_tools_that_is_not_larger_only():
    old = datetime.now(UTC) - timedelta(hours=2)
    larger = ResourceConfig(cpu_core=6, cpu_mem_gb=2, gpu_sm=0, gpu_mem_gb=0)
    for again, asks in ((BIG, False), (larger, True)):
        plans = iter([static_plan("load", config=BIG, now=old), static_plan("load", config=again)])
        graph = asking(lambda request, plans=plans: next(plans))
        graph.invoke({"request": "x"}, THREAD)
        assert ("__interrupt__" in graph.invoke(Command(resume="approve"), THREAD)) is asks


def test_approval_when_the_next_turn_wants_more_asks_again():
    graph = asking(static_plan("load", config=BIG))
    for _ in range(2):
        assert "__interrupt__" in graph.invoke({"request": "x"}, THREAD)
        graph.invoke(Command(resume="reject"), THREAD)


def test_smaller_when_answered_plans_within_less_or_says_that_there_is_nothing():
    graph = make_graph(approve=footprint_over(cpu_core=3), checkpointer=InMemorySaver())
    graph.invoke({"request": "Transcribe the recording of the meeting."}, THREAD)
    before = graph.get_state(THREAD).values["tool_plan"]["steps"][0]["resource_config"]
    state = graph.invoke(Command(resume="smaller"), THREAD)
    plan = state["tool_plan"]
    if plan["status"] == "planned":
        after = plan["steps"][0]["resource_config"]
        assert all(after[name] <= before[name] for name in after)
        assert after != before
    else:
        assert "no smaller configuration" in plan["reason"]


def test_smaller_when_nothing_smaller_is_measured_answers_so():
    graph = asking(
        static_plan("load", config=BIG), registry=ToolRegistry.from_langchain(TOOLS), profiling=ProfilingTable(())
    )
    graph.invoke({"request": "x"}, THREAD)
    state = graph.invoke(Command(resume="smaller"), THREAD)
    assert "no smaller configuration of load" in state["messages"][-1].text


# --- bookings ------------------------------------------------------------------------------------------------


def with_ledger(ledger, plan, tools, timeline=None, **executor):
    source = timeline or machine
    graph = StateGraph(ToolRouterState, context_schema=RouterContext)
    runs = ToolExecutorNode(tools, ledger=ledger, timeline=source, tenant="vision", **executor)
    router = ToolRouterNode(StaticPlanner(plan), ledger=ledger, timeline=source)
    add_router_nodes(graph, router, runs).add_edge(START, "router")
    return graph.compile()


def test_booking_when_tools_run_is_held_meanwhile_and_freed_after():
    ledger, seen = InMemoryLedger(epoch_times=True), []

    def look() -> str:
        """Looks at the ledger."""
        seen.append([(b.tenant, len(b.reservations)) for b in ledger.bookings()])
        return "ok"

    state = with_ledger(ledger, static_plan("look", latency_ms=50), [look]).invoke({"request": "x"})
    assert seen == [[("vision", 1)]]
    assert state["tool_plan"]["booking_id"]
    assert ledger.bookings() == ()


def test_booking_when_a_tool_fails_is_freed():
    ledger = InMemoryLedger(epoch_times=True)

    def fail() -> str:
        """Fails."""
        raise RuntimeError("no")

    state = with_ledger(ledger, static_plan("fail", "fail", latency_ms=5), [fail]).invoke({"request": "x"})
    assert [r["status"] for r in state["tool_results"].values()] == ["failed", "not_run"]
    assert ledger.bookings() == ()


def test_booking_when_the_machine_is_full_waits_and_then_says_what_is_missing():
    ledger = InMemoryLedger(epoch_times=True)
    now = int(time.time() * 1000)
    ledger.book([Reservation(now - 1000, now + 3_600_000, (8000, 1024, 0, 0))], expected_version=0)

    def curve():
        return SystemTimeline.from_rows(
            [(0, 8, 32, 0, 0)], tail="strict", horizon_ms=60_000, epoch_ms=int(time.time() * 1000)
        )

    graph = with_ledger(ledger, static_plan("load", config=BIG), TOOLS, timeline=curve, max_wait_s=0.2)
    state = graph.invoke({"request": "x"})
    assert state["tool_plan"]["status"] == "infeasible"
    assert "no room" in state["messages"][-1].text
    assert len(ledger.bookings()) == 1


@pytest.mark.parametrize(("cores", "most"), [(1, 2), (2, 1)])
def test_parallel_steps_when_booked_run_at_once_as_far_as_the_machine_allows(cores, most):
    inside, seen, lock = [0], [], threading.Lock()

    def work() -> str:
        """Works for a moment."""
        with lock:
            inside[0] += 1
            seen.append(inside[0])
        time.sleep(0.2)
        with lock:
            inside[0] -= 1
        return "ok"

    config = ResourceConfig(cpu_core=cores, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0)
    plan = static_plan("work", "work", links="parallel", config=config, latency_ms=200)
    ledger = InMemoryLedger(epoch_times=True)
    graph = with_ledger(ledger, plan, [work], timeline=lambda: machine(3))
    results = graph.invoke({"request": "x"})["tool_results"]
    assert {r["status"] for r in results.values()} == {"done"}
    assert max(seen) == most


def test_plan_when_made_sees_what_others_have_booked_but_books_nothing():
    ledger, seen = InMemoryLedger(epoch_times=True), []
    now = int(time.time() * 1000)
    ledger.book([Reservation(now, now + 60_000, (8000, 1024, 0, 0))], expected_version=0)

    class Looking(StaticPlanner):
        def plan(self, request, registry=None, profiling=None, timeline=None, **options):
            copy = options["ledger"]
            seen.append(copy.snapshot().reservations)
            copy.book([Reservation(now, now + 1, (1, 1, 0, 0))], expected_version=copy.snapshot().version)
            return super().plan(request)

    make_graph(Looking(static_plan()), ledger=ledger).invoke({"request": "x"})
    assert seen == [ledger.snapshot().reservations]
    assert len(ledger.bookings()) == 1


# --- durability ----------------------------------------------------------------------------------------------

RESUME = """
import json, sys
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from graphs.router_agent import make_graph
from tomas_router.langgraph import StaticPlanner, footprint_over, static_plan
from tomas_router.schema.profiling import ResourceConfig
config = {"configurable": {"thread_id": "t"}}
with SqliteSaver.from_conn_string(sys.argv[1]) as saver:
    plan = static_plan("load", config=ResourceConfig(cpu_core=4, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0))
    graph = make_graph(StaticPlanner(plan), approve=footprint_over(cpu_core=2), checkpointer=saver)
    given = {"request": "x"} if sys.argv[2] == "ask" else Command(resume="approve")
    state = graph.invoke(given, config)
    print(json.dumps({"asked": "__interrupt__" in state, "results": state.get("tool_results")}))
"""


@pytest.mark.parametrize("strict", ["false", "true"])
def test_graph_when_resumed_in_another_process_goes_on_from_sqlite(tmp_path, strict):
    pytest.importorskip("langgraph.checkpoint.sqlite")
    env = os.environ | {"LANGGRAPH_STRICT_MSGPACK": strict}

    def run(what):
        command = [sys.executable, "-W", "error::UserWarning", "-c", RESUME, str(tmp_path / "state.db"), what]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert run("ask")["asked"]
    assert run("approve")["results"]["s1"]["status"] == "simulated"


def test_state_when_checkpointed_is_plain_json_only():
    graph = build(static_plan("load"), TOOLS, fill_args=fill, registry=ToolRegistry.from_langchain(TOOLS))
    graph.invoke({"request": "x"}, THREAD)
    for snapshot in graph.get_state_history(THREAD):
        values = {key: value for key, value in snapshot.values.items() if key != "messages"}
        assert json.loads(json.dumps(values)) == values


def test_graph_when_threads_run_at_once_keeps_their_plans_apart():
    graph = make_graph(StaticPlanner(lambda request: static_plan(request.instruction)), checkpointer=InMemorySaver())

    async def all_at_once():
        names = [f"tool_{i}" for i in range(12)]
        states = await asyncio.gather(
            *(graph.ainvoke({"request": n}, {"configurable": {"thread_id": n}}) for n in names)
        )
        return names, [state["tool_plan"]["steps"][0]["tool_name"] for state in states]

    names, planned = asyncio.run(all_at_once())
    assert planned == names
