"""Tools of a real MCP server in its own process, through langchain-mcp-adapters: stdio and streamable HTTP."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("langchain")
pytest.importorskip("langchain_mcp_adapters")

from langchain_core.messages import AIMessage
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools

from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router import Planner, ProfilingTable, ToolRegistry
from tomas_router.langgraph import LiveTools, StaticPlanner, ToolRouterMiddleware, static_plan
from tomas_router.runtime.ledger import InMemoryLedger

ROOT = Path(__file__).parents[2]
SERVER = "tests.langgraph.mcp_server"
START_S = 60
COUNT = ("count_words", {"text": "one two one"})


@pytest.fixture(scope="module")
def url():
    """Of a server that speaks streamable HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", SERVER, "http", str(port)], cwd=ROOT)
    try:
        _until_it_answers(process, port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


def _until_it_answers(process, port):
    for _ in range(START_S * 20):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


@pytest.fixture
def client(url):
    return MultiServerMCPClient({"words": {"transport": "streamable_http", "url": url}})


async def use(client, name):
    """Calls a tool of the server by itself."""
    tool = next(t for t in await client.get_tools() if t.name == name)
    return await tool.ainvoke({})


def test_tools_when_served_over_stdio_are_read_with_schema_version_and_profile():
    client = MultiServerMCPClient(
        {"words": {"transport": "stdio", "command": sys.executable, "args": ["-m", SERVER, "stdio"], "cwd": str(ROOT)}}
    )

    async def read_and_call():
        async with client.session("words") as session:
            tools = await load_mcp_tools(session)
            made, _ = agent([calls(COUNT)], tools, ToolRouterMiddleware(StaticPlanner(static_plan("count_words"))))
            return tools, tool_answers(await made.ainvoke(ask()))

    tools, answers = asyncio.run(read_and_call())
    spec = ToolRegistry.from_langchain(tools)["count_words"]
    assert (spec.desc, spec.version, spec.tags) == ("Counts the words of a text or report.", "1.0", ("domain:text",))
    assert spec.parameters is not None
    assert spec.parameters["required"] == ["text"]
    assert [row.latency_ms for row in ProfilingTable.from_langchain(tools).rows("count_words")] == [40, 80]
    assert answers[0].text == "3"


def test_call_when_the_server_sends_a_profile_books_what_it_says(client):
    ledger, seen = InMemoryLedger(epoch_times=True), []

    class Watching(InMemoryLedger):
        def book(self, reservations, **options):
            seen.extend(reservations)
            return super().book(reservations, **options)

    ledger = Watching(epoch_times=True)
    tools = asyncio.run(client.get_tools())
    router = ToolRouterMiddleware(
        None, profiling=ProfilingTable.from_langchain(tools), ledger=ledger, resources=machine()
    )
    made, _ = agent([calls(COUNT)], tools, router)
    assert tool_answers(asyncio.run(made.ainvoke(ask())))[0].text == "3"
    assert [r.demand[0] for r in seen] == [1000]


def test_graph_when_tools_are_a_servers_runs_them_and_refers_to_their_results(client):
    live = LiveTools(client.get_tools)
    plan = static_plan(
        "count_words", "count_words", args={"s1": {"text": "a b"}, "s2": {"text": {"$from": "s1", "path": "$.result"}}}
    )
    graph = make_graph(StaticPlanner(plan), tools=live.now, registry=live.registry)
    results = graph.invoke({"request": "count"})["tool_results"]
    assert results["s1"]["output"] == {"result": 2}
    assert results["s2"]["status"] == "failed"  # a number is no text, and the server says so
    assert "valid string" in results["s2"]["note"]


def test_graph_when_a_servers_tool_reports_an_error_fails_the_step(client):
    live = LiveTools(client.get_tools)
    graph = make_graph(StaticPlanner(static_plan("fail", args={"s1": {"text": "tea"}})), tools=live.now)
    result = graph.invoke({"request": "x"})["tool_results"]["s1"]
    assert (result["status"], "no tea today" in result["note"]) == ("failed", True)


def test_agent_when_the_server_learns_a_tool_plans_and_calls_it_without_training(client):
    live = LiveTools(client.get_tools, max_age_s=0)
    planner = Planner.load()
    router = ToolRouterMiddleware(planner, narrow="per_turn", max_tools=1)
    wanted = ("translate", {"text": "hello", "language": "French"})

    async def conversation():
        says = [calls(wanted), AIMessage("I cannot"), calls(wanted)]
        made, model = agent(says, [], live, router)
        request = ask("Translate this letter into French.")
        before = await made.ainvoke(request)
        await use(client, "learn")
        after = await made.ainvoke(request)
        await use(client, "forget")
        shown_again = ToolRegistry.from_langchain(await live.anow()).names
        return model.shown, tool_answers(before)[0], tool_answers(after)[0], shown_again

    shown, before, after, names = asyncio.run(conversation())
    assert "translate" not in shown[0]
    assert "not a valid tool" in before.text
    assert shown[-1] == ["translate"]
    assert after.text == "hello in French"
    assert "translate" not in names


def test_turn_when_the_server_changes_a_planned_tool_is_planned_again_by_name(client):
    live = LiveTools(client.get_tools, max_age_s=0)

    class Counting(StaticPlanner):
        def plan(self, request, registry=None, *args, **options):
            made = super().plan(request, registry, *args, **options)
            tool = registry["count_words"]
            said = {"tool_version": tool.version, "tool_schema_hash": tool.schema_hash}
            return made.model_copy(update={"steps": (made.steps[0].model_copy(update=said),)})

    planner = Counting(static_plan("count_words"))

    async def conversation():
        made, _ = agent([calls(("change", {}))], [], live, ToolRouterMiddleware(planner, on_unplanned_call="allow"))
        return [event async for event in made.astream(ask(), stream_mode="custom")]

    events = asyncio.run(conversation())
    reasons = [event["reason"] for event in events if event["type"] == "replanned"]
    assert reasons == ["count_words was planned in version 1.0, now it has 2.0"]
    assert len(planner.calls) == 2
