"""Nothing that runs asynchronously may block the loop; LangGraph's development server refuses it."""

from __future__ import annotations

import asyncio
import time

import pytest

pytest.importorskip("langchain")
blockbuster = pytest.importorskip("blockbuster")

from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router import Planner
from tomas_router.langgraph import StaticPlanner, ToolRouterMiddleware, static_plan
from tomas_router.runtime.sqlite_ledger import SqliteLedger

THREAD = {"configurable": {"thread_id": "t"}}


@tool
def work(n: int) -> str:
    """Works for a moment."""
    time.sleep(0.02)
    return str(n)


@pytest.fixture
def watched():
    with blockbuster.blockbuster_ctx():
        yield


def test_watch_when_something_blocks_notices(watched):
    async def blocks():
        time.sleep(0.01)

    with pytest.raises(blockbuster.BlockingError):
        asyncio.run(blocks())


def test_middleware_when_calls_queue_on_a_ledger_in_a_file_blocks_nothing(tmp_path, request):
    ledger = SqliteLedger(tmp_path / "machine.ledger")
    planner = StaticPlanner(static_plan("work"))
    middleware = ToolRouterMiddleware(planner, ledger=ledger, resources=machine(cores=1), narrow="per_turn")
    made, _ = agent([calls(*(("work", {"n": n}) for n in range(4)))], [work], middleware, checkpointer=InMemorySaver())
    request.getfixturevalue("watched")
    answers = tool_answers(asyncio.run(made.ainvoke(ask(), THREAD)))
    assert sorted(m.content for m in answers) == ["0", "1", "2", "3"]
    assert max(r["waited_ms"] for r in middleware.report()) >= 20


def test_graph_when_the_packaged_model_plans_blocks_nothing(request):
    graph = make_graph(Planner.load(), checkpointer=InMemorySaver())
    request.getfixturevalue("watched")
    state = asyncio.run(graph.ainvoke({"request": "Transcribe the recording of the meeting."}, THREAD))
    assert state["tool_plan"]["status"] == "planned"
