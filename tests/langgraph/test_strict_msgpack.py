"""LangGraph's strict checkpoints (``LANGGRAPH_STRICT_MSGPACK=true``) take no types of ours, because there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("langchain")

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, logging, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=DeprecationWarning)
warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
heard = []
class Ear(logging.Handler):
    def emit(self, record):
        heard.append(record.getMessage())
logging.getLogger().addHandler(Ear(level=logging.WARNING))

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from graphs.router_agent import make_graph
from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router.langgraph import StaticPlanner, ToolRouterMiddleware, footprint_over, static_plan
from tomas_router.runtime.ledger import InMemoryLedger

@tool
def load(path: str) -> dict:
    "Reads a file."
    return {"text": path}

THREAD = {"configurable": {"thread_id": "t"}}
plan = static_plan("load", args={"s1": {"path": "a"}})
ask_first = footprint_over(cpu_core=0.5)

router = ToolRouterMiddleware(StaticPlanner(plan), ledger=InMemoryLedger(epoch_times=True), resources=machine())
human = HumanInTheLoopMiddleware(interrupt_on={"load": {"allowed_decisions": ["approve"], "when": ask_first}})
made, _ = agent([calls(("load", {"path": "a"}))], [load], router, human, checkpointer=InMemorySaver())
assert "__interrupt__" in made.invoke(ask(), THREAD)
state = made.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
assert tool_answers(state)[0].content == '{"text": "a"}', tool_answers(state)
kept = made.get_state(THREAD).values
assert type(kept["tool_plan"]) is dict and json.loads(json.dumps(kept["tool_plan"])) == kept["tool_plan"]

graph = make_graph(StaticPlanner(plan), tools=[load], approve=ask_first, checkpointer=InMemorySaver())
assert "__interrupt__" in graph.invoke({"request": "read a"}, THREAD)
state = graph.invoke(Command(resume="approve"), THREAD)
assert state["tool_results"]["s1"]["output"] == {"text": "a"}
kept = {k: v for k, v in graph.get_state(THREAD).values.items() if k != "messages"}
assert json.loads(json.dumps(kept)) == kept
print(json.dumps(heard))
"""


@pytest.mark.parametrize("strict", ["true", "false"])
def test_agent_and_graph_when_checkpoints_are_strict_are_interrupted_and_resumed_without_a_word(strict):
    environ = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": strict, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
