"""Runs that are killed with -9 and resumed by another process: what has run does not run again, what has not does.

Real processes, real checkpointers (SQLite and a PostgreSQL server), all three durability modes of LangGraph.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("langgraph.checkpoint.postgres")
pytest.importorskip("psycopg")
pytest.importorskip("pwd")

from tests.langgraph import durable_agents
from tests.langgraph.durable_agents import LEASE_MS, Case, ledger_of, run_agent, run_graph
from tests.langgraph.postgres_server import postgres, server_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked from a server that is warm")

MODES = ("exit", "async", "sync")
SAVERS = ("sqlite", "postgres")
LIMITS = (None, 1)


@pytest.fixture(scope="module")
def postgres_address() -> Iterator[str]:
    programs = server_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(programs) as address:
        yield address


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([durable_agents.__name__])
    return context


@pytest.fixture
def run(processes):
    """Runs a case in a process of its own; says how that ended."""

    def run(what, case: Case) -> int | None:
        process = processes.Process(target=what, args=(case,))
        process.start()
        process.join(60)
        if process.is_alive():
            process.kill()
            pytest.fail(f"{case} did not end")
        return process.exitcode

    return run


@pytest.fixture
def case_of(request, tmp_path):
    def make(saver: str, durability: str, **options: object) -> Case:
        address = "sqlite" if saver == "sqlite" else request.getfixturevalue("postgres_address")
        return Case(str(tmp_path), address, request.node.name, durability, **options)

    return make


def effects(case: Case) -> list[list[str]]:
    return [line.split() for line in case.effects.read_text().splitlines()]


def outcome(case: Case) -> dict:
    return json.loads((Path(case.folder) / "outcome.json").read_text())


@pytest.mark.parametrize(
    ("saver", "durability", "max_concurrency", "asynchronous"), list(product(SAVERS, MODES, LIMITS, (False, True)))
)
def test_agent_when_killed_twice_repeats_only_the_call_that_was_not_recorded(
    run, case_of, saver, durability, max_concurrency, asynchronous
):
    case = case_of(saver, durability, max_concurrency=max_concurrency, asynchronous=asynchronous)
    assert run(run_agent, case.but(dies="recorded")) == -signal.SIGKILL
    assert run(run_agent, case.but(dies="acted")) == -signal.SIGKILL
    assert run(run_agent, case) == 0

    assert [name for name, _ in effects(case)] == ["first", "second", "second"]
    keys = [key for _, key in effects(case)]
    assert keys[1] == keys[2] != keys[0]  # the tool can know that it is the same call
    assert outcome(case)["answers"] == {"call-first": "first done", "call-second": "second done"}
    assert outcome(case)["last"] == "all done"


@pytest.mark.parametrize("durability", MODES)
def test_agent_when_nothing_is_recorded_repeats_the_call(run, case_of, durability):
    case = case_of("sqlite", durability, replay=False)
    assert run(run_agent, case.but(dies="recorded")) == -signal.SIGKILL
    assert run(run_agent, case) == 0
    assert [name for name, _ in effects(case)].count("first") == 2


@pytest.mark.parametrize(
    ("saver", "durability", "max_concurrency", "asynchronous"),
    [*product(SAVERS, MODES, LIMITS, (False,)), *product(SAVERS, MODES, (None,), (True,))],
)
def test_graph_when_killed_in_a_step_goes_on_with_that_step(
    run, case_of, saver, durability, max_concurrency, asynchronous
):
    case = case_of(saver, durability, max_concurrency=max_concurrency, asynchronous=asynchronous, request_id="order 7")
    assert run(run_graph, case.but(dies="acted")) == -signal.SIGKILL
    assert run(run_graph, case) == 0
    names, keys = zip(*effects(case), strict=True)
    assert names == ("first", "second", "second")
    assert keys[1] == keys[2] != keys[0]
    assert outcome(case)["results"] == {"s1": "first done", "s2": "second done"}


def test_graph_when_checkpoints_are_synchronous_needs_no_name_for_the_request(run, case_of):
    case = case_of("sqlite", "sync")
    assert run(run_graph, case.but(dies="acted")) == -signal.SIGKILL
    assert run(run_graph, case) == 0
    assert [name for name, _ in effects(case)] == ["first", "second", "second"]


def test_graph_when_the_request_is_made_again_in_a_new_turn_runs_again(run, case_of):
    case = case_of("sqlite", "sync", request_id="order 7")
    assert run(run_graph, case) == 0
    assert run(run_graph, case) == 0
    assert [name for name, _ in effects(case)] == ["first", "second"] * 2


def test_booking_when_its_process_is_killed_ends_with_its_lease(run, case_of):
    case = case_of("sqlite", "sync")
    assert run(run_agent, case.but(dies="acted")) == -signal.SIGKILL
    held = ledger_of(case).bookings()
    assert [(b.thread_id, b.holder.pid != os.getpid()) for b in held] == [(case.thread, True)]
    time.sleep(LEASE_MS / 1000)
    assert ledger_of(case).bookings() == ()
