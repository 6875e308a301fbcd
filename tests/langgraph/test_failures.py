"""Every row of the failure table in docs/langgraph.md, in agents and in nodes, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import pytest

pytest.importorskip("langchain")

from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, StateGraph

from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router import ProfilingTable, SystemTimeline
from tomas_router.executors.command import run_command
from tomas_router.langgraph import (
    InjectedResources,
    RouterContext,
    StaticPlanner,
    ToolExecutorNode,
    ToolRouterMiddleware,
    ToolRouterNode,
    ToolRouterState,
    add_router_nodes,
    footprint_over,
    running_call,
    static_plan,
)
from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.ledger import InMemoryLedger, Reservation
from tomas_router.runtime.ledger_errors import LedgerFileError
from tomas_router.schema.profiling import ResourceConfig

DOCS = Path(__file__).parents[2] / "docs" / "langgraph.md"
THREAD = {"configurable": {"thread_id": "t"}}
ROW = {"input_size": "small", "cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 50}
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def memory(**options):
    return InMemoryLedger(epoch_times=True, **options)


def profile(name, *gib):
    return ProfilingTable.from_rows([ROW | {"tool": name, "cpu_mem_gb": amount} for amount in gib])


def router(*names, ledger=None, **options):
    given = {"ledger": ledger, "resources": None if ledger is None else machine()} | options
    return ToolRouterMiddleware(StaticPlanner(given.pop("plan", None) or static_plan(*names)), **given)


def run(made, given=None, config=THREAD, asynchronous=False):
    given = ask() if given is None else given
    return asyncio.run(made.ainvoke(given, config)) if asynchronous else made.invoke(given, config)


def now_machine():
    return SystemTimeline.from_rows([(0, 3, 32, 0, 0)], tail="hold", epoch_ms=wall_clock_ms())


def graph(plan, tools, ledger=None, checkpointer=None, approve=None, awaited=False, **executor):
    timeline = None if ledger is None else now_machine
    made = StateGraph(ToolRouterState, context_schema=RouterContext)
    node = ToolExecutorNode(tools, ledger=ledger, timeline=timeline, **executor)
    planner = plan if hasattr(plan, "plan") else StaticPlanner(plan)
    add_router_nodes(made, ToolRouterNode(planner, ledger=ledger, timeline=timeline, approve=approve), node)
    if awaited:
        made.nodes.pop("tools")
        made.add_node("tools", node.acall)
    return made.add_edge(START, "router").compile(checkpointer=checkpointer)


def eventually(what, within_s=10.0):
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.01)
    return False


class Gate:
    """A tool that says when it is inside and stays there until it is let go."""

    def __init__(self):
        self.inside, self.go_on, self.left = threading.Event(), threading.Event(), threading.Event()

    def stay(self):
        self.inside.set()
        self.go_on.wait(30)
        self.left.set()


# --- out of memory -------------------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def hungry(needs_gib, got):
    @tool
    def hungry(resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
        """Needs memory."""
        got.append(resources.cpu_mem_gb)
        if resources.cpu_mem_gb < needs_gib:
            raise OutOfMemoryError("CUDA out of memory")
        return "enough"

    return hungry


def hungry_agent(got, needs_gib, *gib, ledger=None, **options):
    middleware = router("hungry", ledger=ledger, profiling=profile("hungry", *gib), **options)
    return agent([calls(("hungry", {}))], [hungry(needs_gib, got)], middleware)[0]


@BOTH
@pytest.mark.parametrize("with_ledger", [False, True])
def test_out_of_memory_when_a_larger_configuration_is_measured_runs_in_it(with_ledger, asynchronous):
    got, ledger = [], memory() if with_ledger else None
    answers = tool_answers(run(hungry_agent(got, 4, 0.25, 8, ledger=ledger), asynchronous=asynchronous))
    assert (answers[0].content, got) == ("enough", [0.25, 8])
    assert ledger is None or ledger.bookings() == ()


@BOTH
def test_out_of_memory_when_it_happens_again_tells_the_model_and_frees_the_booking(asynchronous):
    got, ledger = [], memory()
    answer = tool_answers(run(hungry_agent(got, 4, 0.25, 2, 8, ledger=ledger), asynchronous=asynchronous))[0]
    assert answer.status == "error"
    assert "ran out of memory again, with 2 GiB" in answer.content
    assert (got, ledger.bookings()) == ([0.25, 2], ())


@BOTH
def test_out_of_memory_when_nothing_larger_is_measured_tells_the_model(asynchronous):
    got = []
    answer = tool_answers(run(hungry_agent(got, 4, 0.25, ledger=memory()), asynchronous=asynchronous))[0]
    assert answer.status == "error"
    assert "ran out of memory, and not more of it can be had" in answer.content
    assert got == [0.25]


def test_out_of_memory_when_more_would_have_to_be_approved_does_not_take_it():
    got = []
    made = hungry_agent(got, 4, 0.25, 8, ledger=memory(), approval=footprint_over(cpu_mem_gb=4))
    assert "not more of it can be had" in tool_answers(run(made))[0].content
    assert got == [0.25]


def test_degrading_when_another_configuration_would_have_to_be_approved_does_not_take_it():
    ledger = memory()
    now = wall_clock_ms()
    ledger.book([Reservation(now - 1000, now + 3_600_000, (2000, 0, 0, 0))], expected_version=0)
    rows = ProfilingTable.from_rows([ROW | {"tool": "hungry", "cpu_core": 1, "cpu_mem_gb": 16}])
    plan = static_plan("hungry", config=ResourceConfig(cpu_core=2, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0))
    options = {"on_insufficient": "degrade", "max_wait_s": 0.1, "profiling": rows, "ledger": ledger, "plan": plan}
    for approval, status in ((footprint_over(cpu_mem_gb=4), "error"), (None, "success")):
        made, _ = agent([calls(("hungry", {}))], [hungry(0, [])], router(approval=approval, **options))
        assert tool_answers(run(made))[0].status == status


@pytest.mark.parametrize(("gib", "status"), [((0.25, 8), "done"), ((0.25, 2), "failed"), ((0.25,), "failed")])
def test_out_of_memory_when_in_a_node_is_tried_once_more_with_more(gib, status):
    got, ledger = [], memory()
    plan = static_plan("hungry", "hungry", links="parallel", latency_ms=5)
    made = graph(plan, [hungry(4, got)], ledger, profiling=profile("hungry", *gib))
    results = made.invoke({"request": "x"})["tool_results"]
    assert {result["status"] for result in results.values()} == {status}
    assert sorted(got) == sorted([*gib, *gib])
    assert ledger.bookings() == ()


def test_out_of_memory_when_another_step_still_runs_is_tried_once_more_and_done():
    got, ledger = [], memory()

    @tool
    def patient() -> str:
        """Runs until the other one has ended, and holds its part of the booking meanwhile."""
        ended = eventually(lambda: len(got) == 2 and len(ledger.bookings()) == 1)
        time.sleep(0.1)
        return f"the other one ended: {ended}"

    plan = static_plan("hungry", "patient", links="parallel", latency_ms=5)
    made = graph(plan, [hungry(4, got), patient], ledger, profiling=profile("hungry", 0.25, 8))
    results = made.invoke({"request": "x"})["tool_results"]
    assert [(r["status"], r["output"]) for _, r in sorted(results.items())] == [
        ("done", "enough"),
        ("done", "the other one ended: True"),
    ]
    assert (got, ledger.bookings()) == ([0.25, 8], ())


def test_out_of_memory_when_more_needs_the_whole_machine_gives_back_what_was_not_enough_first():
    got, ledger = [], memory()
    rows = ProfilingTable.from_rows([ROW | {"tool": "hungry", "cpu_core": 3, "cpu_mem_gb": 8}])
    plan = static_plan("hungry", "hungry", links="parallel", latency_ms=5)
    results = graph(plan, [hungry(4, got)], ledger, profiling=rows, max_wait_s=5).invoke({"request": "x"})
    assert {result["status"] for result in results["tool_results"].values()} == {"done"}
    assert sorted(got) == [0.25, 0.25, 8, 8]


# --- time limits ---------------------------------------------------------------------------------------------


@BOTH
def test_time_limit_when_passed_tells_the_model_and_keeps_the_booking_until_the_thread_has_ended(asynchronous):
    gate, ledger = Gate(), memory()

    @tool
    def stuck() -> str:
        """Cannot be stopped."""
        gate.stay()
        return "late"

    made, _ = agent([calls(("stuck", {}))], [stuck], router("stuck", ledger=ledger, timeout_s=0.2, lease_ms=300))
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert answer.status == "error"
    assert "stuck took longer than 0.2 s" in answer.content
    time.sleep(0.6)  # twice the lease
    assert len(ledger.bookings()) == 1  # heartbeats go on
    gate.go_on.set()
    assert eventually(lambda: not ledger.bookings())


def test_time_limit_when_a_coroutine_passes_it_ends_the_coroutine_and_the_booking():
    ledger, ended = memory(), []

    @tool
    async def slow() -> str:
        """Can be stopped."""
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(len(ledger.bookings()))
        return "late"

    made, _ = agent([calls(("slow", {}))], [slow], router("slow", ledger=ledger, timeout_s=0.2))
    answer = tool_answers(run(made, asynchronous=True))[0]
    assert "slow took longer than 0.2 s" in answer.content
    assert (ended, ledger.bookings()) == ([1], ())


def test_time_limit_when_it_is_that_of_the_plan_is_read_from_the_step():
    @tool
    def slow() -> str:
        """Takes a while."""
        time.sleep(1)
        return "late"

    made, _ = agent([calls(("slow", {}))], [slow], router(plan=static_plan("slow", latency_ms=5), timeout_s="plan"))
    assert "took longer than 0.05 s" in tool_answers(run(made))[0].content


def test_time_limit_when_the_tool_raises_a_timeout_of_its_own_is_not_taken_for_it():
    @tool
    def asks() -> str:
        """Asks somebody who does not answer."""
        raise TimeoutError("the server did not answer")

    made, _ = agent([calls(("asks", {}))], [asks], router("asks", timeout_s=20))
    with pytest.raises(TimeoutError, match="the server did not answer"):
        run(made)


@BOTH
def test_time_limit_when_a_command_passes_it_ends_the_process_and_then_the_booking(asynchronous):
    ledger = memory()

    @tool
    def command() -> str:
        """Runs a program."""
        return run_command([sys.executable, "-c", "import time; time.sleep(60)"]).stdout

    made, _ = agent([calls(("command", {}))], [command], router("command", ledger=ledger, timeout_s=0.3))
    begun = time.monotonic()
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert "command took longer than 0.3 s" in answer.content
    assert eventually(lambda: not ledger.bookings())
    assert time.monotonic() - begun < 30


def test_time_limit_when_passed_in_a_node_stops_commands_and_reports_functions():
    def command() -> str:
        """Runs a program."""
        return run_command([sys.executable, "-c", "import time; time.sleep(60)"]).stdout

    def function() -> str:
        """Cannot be stopped."""
        time.sleep(0.3)
        return "late"

    plan = static_plan("command", "function", links="parallel", latency_ms=10)
    results = graph(plan, [command, function]).invoke({"request": "x"})["tool_results"]
    assert (results["s1"]["status"], "timed out" in results["s1"]["note"]) == ("failed", True)
    assert (results["s2"]["status"], "its time limit is 100 ms" in results["s2"]["note"]) == ("done", True)


# --- cancelling ----------------------------------------------------------------------------------------------


class Custom(BaseTool):
    """A tool without ``func``."""

    name: str = "custom"
    description: str = "Cannot be stopped."
    gate: object = None

    def _run(self) -> str:
        self.gate.stay()
        return "ended"


def function_tool(gate):
    @tool("custom")
    def custom() -> str:
        """Cannot be stopped."""
        gate.stay()
        return "ended"

    return custom


def command_tool(gate):
    @tool("custom")
    async def custom() -> str:
        """A coroutine that waits for a process."""
        gate.inside.set()
        return await asyncio.to_thread(run_command, [sys.executable, "-c", "import time; time.sleep(60)"])

    return custom


def cancelled(made, gate, ledger, given, config):
    """Cancels a run as soon as its tool is inside; gives the number of bookings right after."""

    async def cancel():
        task = asyncio.create_task(made.ainvoke(given, config))
        while not gate.inside.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held = len(ledger.bookings())
        gate.go_on.set()
        while ledger.bookings():
            await asyncio.sleep(0.01)
        return held

    return asyncio.run(asyncio.wait_for(cancel(), 30))


@pytest.mark.parametrize("make", [lambda gate: Custom(gate=gate), function_tool], ids=["class", "function"])
def test_cancelling_when_a_thread_runs_keeps_the_booking_until_it_has_ended(make):
    gate, ledger = Gate(), memory()
    made, _ = agent([calls(("custom", {}))], [make(gate)], router("custom", ledger=ledger))
    assert cancelled(made, gate, ledger, ask(), THREAD) == 1
    assert gate.left.is_set()


def test_cancelling_when_a_process_runs_ends_it_and_then_the_booking():
    gate, ledger = Gate(), memory()
    made, _ = agent([calls(("custom", {}))], [command_tool(gate)], router("custom", ledger=ledger))
    begun = time.monotonic()
    cancelled(made, gate, ledger, ask(), THREAD)
    assert time.monotonic() - begun < 25


@pytest.mark.parametrize(("awaited", "ran"), [(False, ["stay", "after"]), (True, ["stay"])])
def test_cancelling_when_a_node_runs_keeps_the_booking_until_its_threads_have_ended(awaited, ran):
    gate, ledger, seen = Gate(), memory(), []

    def stay() -> str:
        """Cannot be stopped."""
        seen.append("stay")
        gate.stay()
        return "ended"

    def after() -> str:
        """Comes later."""
        seen.append("after")
        return "ended"

    made = graph(static_plan("stay", "after", latency_ms=5), [stay, after], ledger, awaited=awaited)
    assert cancelled(made, gate, ledger, {"request": "x"}, THREAD) == 1
    assert seen == ran


# --- lost leases ---------------------------------------------------------------------------------------------


@BOTH
def test_lease_when_lost_lets_a_function_go_on_and_says_so(asynchronous, caplog):
    ledger = memory()

    @tool
    def works() -> str:
        """Works on."""
        ledger.cancel(ledger.bookings()[0].booking_id)
        assert eventually(lambda: running_call().should_stop() == "lease lost")
        return "done"

    made, _ = agent([calls(("works", {}))], [works], router("works", ledger=ledger, lease_ms=150))
    events = []
    if asynchronous:

        async def collect():
            events.extend([e async for e in made.astream(ask(), THREAD, stream_mode="custom")])

        asyncio.run(collect())
    else:
        events.extend(made.stream(ask(), THREAD, stream_mode="custom"))
    assert (events[-1]["status"], events[-1]["lease_lost"]) == ("done", True)
    assert "works lost its booking while it ran" in caplog.text


@BOTH
def test_lease_when_lost_stops_a_command_and_tells_the_model(asynchronous):
    ledger = memory()

    @tool
    def command() -> str:
        """Runs a program."""
        ledger.cancel(ledger.bookings()[0].booking_id)
        return run_command([sys.executable, "-c", "import time; time.sleep(60)"]).stdout

    made, _ = agent([calls(("command", {}))], [command], router("command", ledger=ledger, lease_ms=150))
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert (answer.status, "lease lost" in answer.content) == ("error", True)


def test_lease_when_lost_in_a_node_stops_a_command_and_what_needs_it():
    ledger = memory()

    def command() -> str:
        """Runs a program."""
        ledger.cancel(ledger.bookings()[0].booking_id)
        return run_command([sys.executable, "-c", "import time; time.sleep(60)"]).stdout

    plan = static_plan("command", "command", latency_ms=1000)
    results = graph(plan, [command], ledger, lease_ms=150).invoke({"request": "x"})["tool_results"]
    assert [results[step]["status"] for step in ("s1", "s2")] == ["failed", "not_run"]
    assert "lease lost" in results["s1"]["note"]


@BOTH
def test_lease_when_lost_before_the_tool_begins_does_not_run_it(asynchronous):
    class Forgetful(InMemoryLedger):
        def book(self, *args, **options):
            booking = super().book(*args, **options)
            self.cancel(booking)
            return booking

    @tool
    def never() -> str:
        """Must not run."""
        raise AssertionError

    made, _ = agent([calls(("never", {}))], [never], router("never", ledger=Forgetful(epoch_times=True)))
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert "never was not run: booking" in answer.content


# --- room, tools, planners -----------------------------------------------------------------------------------


@BOTH
def test_room_when_there_is_none_in_time_tells_the_model_and_leaves_the_line(asynchronous):
    ledger, now = memory(), wall_clock_ms()
    ledger.book([Reservation(now - 1000, now + 3_600_000, (3000, 0, 0, 0))], expected_version=0)

    @tool
    def never() -> str:
        """Must not run."""
        raise AssertionError

    made, _ = agent([calls(("never", {}))], [never], router("never", ledger=ledger, max_wait_s=0.1))
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert (answer.status, "waited 100 ms" in answer.content) == ("error", True)
    assert (ledger.waiting(), len(ledger.bookings())) == ((), 1)


@BOTH
def test_tool_when_it_raises_frees_its_booking_and_is_not_tried_again(asynchronous):
    ledger, tried = memory(), []

    @tool
    def fails() -> str:
        """Fails."""
        tried.append(1)
        raise ValueError("broken tool")

    made, _ = agent([calls(("fails", {}))], [fails], router("fails", ledger=ledger))
    with pytest.raises(ValueError, match="broken tool"):
        run(made, asynchronous=asynchronous)
    assert (tried, ledger.bookings()) == ([1], ())


class Broken:
    def plan(self, *args, **options):
        raise RuntimeError("the planner is down")


@BOTH
def test_planner_when_it_fails_leaves_an_agent_all_its_tools(asynchronous):
    @tool
    def works() -> str:
        """Works."""
        return "done"

    middleware = ToolRouterMiddleware(Broken(), ledger=memory(), resources=machine())
    made, _ = agent([calls(("works", {}))], [works], middleware)
    assert tool_answers(run(made, asynchronous=asynchronous))[0].content == "done"


def test_planner_when_it_fails_in_a_node_raises_before_anything_is_booked():
    ledger = memory()
    with pytest.raises(RuntimeError, match="the planner is down"):
        graph(Broken(), [], ledger).invoke({"request": "x"})
    assert ledger.snapshot().version == 0


# --- the ledger ----------------------------------------------------------------------------------------------


class Gone(InMemoryLedger):
    """A ledger some of whose calls fail."""

    def __init__(self, *broken):
        super().__init__(epoch_times=True)
        for name in broken:
            setattr(self, name, self._fail)

    def _fail(self, *args, **options):
        raise LedgerFileError("the disk is gone")


@tool
def works() -> str:
    """Works."""
    return "done"


@BOTH
@pytest.mark.parametrize("broken", ["book", "completion", "snapshot"])
@pytest.mark.parametrize(("on_ledger_failure", "status"), [("refuse", "error"), ("run", "success")])
def test_ledger_when_it_cannot_be_used_refuses_the_call_or_runs_it_as_told(
    broken, on_ledger_failure, status, asynchronous
):
    middleware = router("works", ledger=Gone(broken), on_ledger_failure=on_ledger_failure)
    made, _ = agent([calls(("works", {}))], [works], middleware)
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert answer.status == status
    assert status == "success" or "works was not run: the disk is gone" in answer.content


@BOTH
@pytest.mark.parametrize("broken", ["release", "complete"])
def test_ledger_when_it_fails_after_the_tool_has_run_does_not_undo_the_answer(broken, asynchronous, caplog):
    made, _ = agent([calls(("works", {}))], [works], router("works", ledger=Gone(broken)))
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert (answer.status, answer.content) == ("success", "done")
    assert "the disk is gone" in caplog.text


@pytest.mark.parametrize(("on_ledger_failure", "status"), [("refuse", "infeasible"), ("run", "planned")])
def test_ledger_when_it_cannot_be_used_by_a_node_refuses_the_plan_or_runs_it_as_told(on_ledger_failure, status):
    made = graph(static_plan("works"), [works], Gone("snapshot", "book"), on_ledger_failure=on_ledger_failure)
    state = made.invoke({"request": "x"})
    assert state["tool_plan"]["status"] == status
    assert bool(state["tool_results"]) is (on_ledger_failure == "run")
    assert on_ledger_failure == "run" or "the disk is gone" in state["messages"][-1].text


# --- the table -----------------------------------------------------------------------------------------------

TABLE = {
    "no room within `max_wait_s`": [test_room_when_there_is_none_in_time_tells_the_model_and_leaves_the_line],
    "the tool raises": [test_tool_when_it_raises_frees_its_booking_and_is_not_tried_again],
    "out of memory": [
        test_out_of_memory_when_a_larger_configuration_is_measured_runs_in_it,
        test_out_of_memory_when_it_happens_again_tells_the_model_and_frees_the_booking,
        test_out_of_memory_when_nothing_larger_is_measured_tells_the_model,
        test_out_of_memory_when_more_would_have_to_be_approved_does_not_take_it,
        test_out_of_memory_when_in_a_node_is_tried_once_more_with_more,
    ],
    "the time limit is over (`timeout_s`)": [
        test_time_limit_when_passed_tells_the_model_and_keeps_the_booking_until_the_thread_has_ended,
        test_time_limit_when_a_coroutine_passes_it_ends_the_coroutine_and_the_booking,
        test_time_limit_when_a_command_passes_it_ends_the_process_and_then_the_booking,
        test_time_limit_when_passed_in_a_node_stops_commands_and_reports_functions,
    ],
    "the run is cancelled": [
        test_cancelling_when_a_thread_runs_keeps_the_booking_until_it_has_ended,
        test_cancelling_when_a_process_runs_ends_it_and_then_the_booking,
        test_cancelling_when_a_node_runs_keeps_the_booking_until_its_threads_have_ended,
    ],
    "the lease is lost": [
        test_lease_when_lost_lets_a_function_go_on_and_says_so,
        test_lease_when_lost_stops_a_command_and_tells_the_model,
        test_lease_when_lost_in_a_node_stops_a_command_and_what_needs_it,
        test_lease_when_lost_before_the_tool_begins_does_not_run_it,
    ],
    "the process is killed": ["test_durability.py"],
    "planning fails": [
        test_planner_when_it_fails_leaves_an_agent_all_its_tools,
        test_planner_when_it_fails_in_a_node_raises_before_anything_is_booked,
    ],
    "the ledger cannot be used": [
        test_ledger_when_it_cannot_be_used_refuses_the_call_or_runs_it_as_told,
        test_ledger_when_it_fails_after_the_tool_has_run_does_not_undo_the_answer,
        test_ledger_when_it_cannot_be_used_by_a_node_refuses_the_plan_or_runs_it_as_told,
    ],
}
"""The rows of the documentation, and the tests that hold them to it."""


def test_table_when_documented_has_the_rows_that_are_tested_here():
    section = DOCS.read_text(encoding="utf-8").partition("### When something fails")[2].partition("\n#")[0]
    rows = re.findall(r"^\| ([^|]+) \|", section, flags=re.MULTILINE)
    assert [row.strip() for row in rows if row.strip() not in ("what", "---")] == list(TABLE)
