"""The real development server serves the graphs of langgraph.json, and its detector of blocking calls stays silent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("langgraph_api")

ROOT = Path(__file__).parents[2]
START_S = 120
REQUEST = "Transcribe the recording of the meeting and summarise the transcript."
BLOCKS = """
import time
from typing import TypedDict
from langgraph.graph import START, StateGraph

class State(TypedDict):
    request: str

async def sleep(state: State) -> State:
    time.sleep(0.05)
    return state

graph = StateGraph(State).add_node("sleep", sleep).add_edge(START, "sleep").compile()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """``langgraph dev`` on a free port, with the repository's graphs and one that blocks; yields its address."""
    folder = tmp_path_factory.mktemp("dev")  # the server keeps its state in the folder where it is started
    config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    config["dependencies"] = [str(ROOT)]
    config["graphs"] = {name: target.replace("./", f"{ROOT}/", 1) for name, target in config["graphs"].items()}
    (folder / "blocks.py").write_text(BLOCKS, encoding="utf-8")
    config["graphs"]["blocks"] = f"{folder}/blocks.py:graph"
    (folder / "langgraph.json").write_text(json.dumps(config), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **quiet}, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _until_it_answers(process, f"http://127.0.0.1:{port}/ok", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _until_it_answers(process, address, log):
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text(encoding="utf-8")[-4000:]
            time.sleep(0.1)
    raise TimeoutError(log.read_text(encoding="utf-8")[-4000:])


def final_state(server, graph, given):
    body = json.dumps({"assistant_id": graph, "input": given}).encode()
    asked = urllib.request.Request(f"{server}/runs/wait", body, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return json.load(answer)


def test_server_when_the_router_is_asked_plans_and_runs_without_blocking(server):
    state = final_state(server, "router_agent", {"request": REQUEST})
    assert state["tool_plan"]["status"] == "planned", state
    assert set(state["tool_results"]) == {step["id"] for step in state["tool_plan"]["steps"]}


def test_server_when_the_existing_agent_is_asked_calls_the_planned_tool(server):
    state = final_state(
        server, "existing_agent", {"messages": [{"role": "user", "content": "Count the words of the report"}]}
    )
    assert state["messages"][-1]["content"] == "I was shown count_words. 6 words", state


def test_server_when_the_supervisor_is_asked_plans_for_both_agents(server):
    text = "Transcribe the recording of the interview"
    state = final_state(server, "supervisor", {"requests": {"one": text, "two": text}})
    assert set(state["plans"]) == {"one", "two"}, state


def test_server_when_a_graph_blocks_says_so(server):
    """Otherwise the silence of the tests above would mean nothing."""
    state = final_state(server, "blocks", {"request": "x"})
    assert "Blocking call to time.sleep" in json.dumps(state)
