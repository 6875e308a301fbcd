from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("langchain")

pytestmark = pytest.mark.m5


def run(module, *requests):
    command = [sys.executable, "-m", module, *requests]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def test_existing_agent_when_asked_is_shown_one_tool_and_calls_it():
    done = run("graphs.existing_agent", "Count the words of the report")
    assert done.stdout.strip() == "I was shown count_words. 6 words", done.stderr


def test_supervisor_when_two_agents_want_the_gpu_books_one_after_the_other():
    from graphs.supervisor import make_graph

    text = "Transcribe the recording of the interview"
    plans = make_graph().invoke({"requests": {"one": text, "two": text}})["plans"]
    steps = sorted((plan["steps"][0] for plan in plans.values()), key=lambda step: step["start_ms"])
    first_ends = steps[0]["start_ms"] + steps[0]["expected_latency_ms"]
    together = sum(step["resource_config"]["gpu_sm"] for step in steps)
    assert together <= 100 or steps[1]["start_ms"] >= first_ends


@pytest.mark.parametrize("module", ["graphs.router_agent", "graphs.existing_agent", "graphs.supervisor"])
def test_graph_when_started_without_a_request_says_how(module):
    done = run(module)
    assert done.returncode != 0
    assert "usage:" in done.stderr
