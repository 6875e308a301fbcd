"""Recorded answers, keys for tools, expired plans and approvals, in one process."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest

pytest.importorskip("langchain")

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from tests.langgraph.agents import agent, ask, machine, tool_answers
from tomas_router import SystemTimeline
from tomas_router.executors.command import run_command
from tomas_router.langgraph import (
    InjectedIdempotencyKey,
    RouterContext,
    StaticPlanner,
    ToolExecutorNode,
    ToolRouterMiddleware,
    ToolRouterNode,
    ToolRouterState,
    add_router_nodes,
    footprint_over,
    footprint_text,
    static_plan,
)
from tomas_router.langgraph.completed import REPLAYED
from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.completions import MAX_RESULT_BYTES, CallKey
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.schema.profiling import ResourceConfig

THREAD = {"configurable": {"thread_id": "t"}}
BIG = ResourceConfig(cpu_core=2, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0)
BOTH = pytest.mark.parametrize("asynchronous", [False, True])


def memory():
    return InMemoryLedger(epoch_times=True)


def call(name, call_id="call-1", **args):
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": call_id}])


def router(*names, ledger=None, plan=None, **options):
    resources = None if ledger is None else machine()
    planner = plan if hasattr(plan, "plan") else StaticPlanner(plan or static_plan(*names))
    return ToolRouterMiddleware(planner, ledger=ledger, resources=resources, **options)


def run(made, given=None, config=THREAD, asynchronous=False):
    given = ask() if given is None else given
    return asyncio.run(made.ainvoke(given, config)) if asynchronous else made.invoke(given, config)


def counting(answer="done", name="acts"):
    did = []

    @tool(name)
    def acts(key: Annotated[str, InjectedIdempotencyKey()], x: int = 0) -> object:
        """Has a side effect."""
        did.append(key)
        return answer() if callable(answer) else answer

    return acts, did


# --- recorded answers ----------------------------------------------------------------------------------------


@BOTH
def test_call_when_completed_before_is_answered_from_the_ledger_without_running_or_booking(asynchronous):
    ledger, (acts, did) = memory(), counting()
    for replayed in (False, True):
        version = ledger.snapshot().version
        made, _ = agent([call("acts", x=1)], [acts], router("acts", ledger=ledger))
        answer = tool_answers(run(made, asynchronous=asynchronous))[0]
        assert (answer.content, answer.status, answer.tool_call_id) == ("done", "success", "call-1")
        assert answer.additional_kwargs.get(REPLAYED, False) is replayed
        assert (ledger.snapshot().version == version) is replayed
    assert len(did) == 1


@pytest.mark.parametrize("difference", [{"x": 2}, {"call_id": "call-2"}])
def test_call_when_arguments_or_id_differ_runs(difference):
    ledger, (acts, did) = memory(), counting()
    for options in ({"x": 1}, {"x": 1} | difference):
        made, _ = agent([call("acts", **options)], [acts], router("acts", ledger=ledger))
        run(made)
    assert len(set(did)) == 2


def test_call_when_the_thread_differs_runs():
    ledger, (acts, did) = memory(), counting()
    for thread in ("t1", "t2"):
        made, _ = agent([call("acts")], [acts], router("acts", ledger=ledger))
        run(made, config={"configurable": {"thread_id": thread}})
    assert len(set(did)) == 2


def test_call_when_a_model_counts_its_ids_anew_each_time_is_not_taken_for_an_earlier_one():
    ledger, (acts, did) = memory(), counting()
    made, _ = agent([call("acts", "0"), call("acts", "0")], [acts], router("acts", ledger=ledger))
    answers = tool_answers(run(made))
    assert [a.additional_kwargs.get(REPLAYED) for a in answers] == [None, None]
    assert len(set(did)) == 2


@pytest.mark.parametrize("options", [{"replay": False}, {"shadow": True}])
def test_call_when_replaying_is_off_runs_again(options):
    ledger, (acts, did) = memory(), counting()
    for _ in range(2):
        made, _ = agent([call("acts")], [acts], router("acts", ledger=ledger, **options))
        run(made)
    assert len(did) == 2


def test_call_when_there_is_no_thread_is_not_recorded_and_has_a_key():
    ledger, (acts, did) = memory(), counting()
    for _ in range(2):
        made, _ = agent([call("acts")], [acts], router("acts", ledger=ledger))
        made.invoke(ask())
    assert len(did) == 2
    assert len(did[0]) == 32


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda: Command(update={"messages": [ToolMessage("done", tool_call_id="call-1")]}), "got Command"),
        (lambda: ToolMessage("done", tool_call_id="call-1", artifact=object()), "must be plain JSON"),
        ("x" * (MAX_RESULT_BYTES + 1), "at most"),
    ],
)
@BOTH
def test_answer_when_it_cannot_be_recorded_is_given_and_the_log_says_what_that_means(answer, why, asynchronous, caplog):
    ledger, (acts, did) = memory(), counting(answer)
    for _ in range(2):
        made, _ = agent([call("acts")], [acts], router("acts", ledger=ledger))
        assert tool_answers(run(made, asynchronous=asynchronous))[0].status == "success"
    assert len(did) == 2
    assert "acts has run and is not recorded, so a resumed run runs it again" in caplog.text
    assert why in caplog.text


def test_answer_when_it_has_an_artifact_of_plain_json_comes_back_with_it():
    ledger = memory()

    @tool(response_format="content_and_artifact")
    def makes() -> tuple[str, dict]:
        """Makes something."""
        return "done", {"rows": [1, 2]}

    for _ in range(2):
        made, _ = agent([call("makes")], [makes], router("makes", ledger=ledger))
        answer = tool_answers(run(made))[0]
        assert (answer.content, answer.artifact) == ("done", {"rows": [1, 2]})


def test_refusals_when_made_are_never_recorded():
    ledger, (acts, did) = memory(), counting()
    for block, status in (("block", "error"), ("allow", "success")):
        middleware = router("other", ledger=ledger, on_unplanned_call=block, on_failure="none")
        made, _ = agent([call("acts")], [acts], middleware)
        assert tool_answers(run(made))[0].status == status
    assert len(did) == 1


def test_events_when_a_call_is_replayed_say_so():
    ledger, (acts, _) = memory(), counting()
    for status in ("done", "replayed"):
        made, _ = agent([call("acts")], [acts], router("acts", ledger=ledger))
        events = list(made.stream(ask(), THREAD, stream_mode="custom"))
        assert events[-1]["status"] == status


def test_command_of_a_tool_when_run_knows_limits_and_key():
    @tool
    def shows() -> str:
        """Shows its variables."""
        names = "'OMP_NUM_THREADS', 'CUDA_MPS_ACTIVE_THREAD_PERCENTAGE', 'TOMAS_IDEMPOTENCY_KEY'"
        return run_command([sys.executable, "-c", f"import os; print(*map(os.environ.get, ({names})))"]).stdout

    config = ResourceConfig(cpu_core=2, cpu_mem_gb=1, gpu_sm=30, gpu_mem_gb=4)
    made, _ = agent([call("shows")], [shows], router(plan=static_plan("shows", config=config)))
    key = CallKey.of("t", "call-1", "shows", {}).idempotency_key
    assert tool_answers(run(made))[0].content.split() == ["2", "30", key]


@pytest.mark.parametrize(("booked", "threads"), [(True, {2}), (False, {3})])
@BOTH
def test_threads_of_a_tool_when_it_is_booked_are_limited_to_its_cores(booked, threads, asynchronous):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    np = pytest.importorskip("numpy")
    np.ones((2, 2)) @ np.ones((2, 2))
    seen = []

    @tool
    def multiplies() -> str:
        """Uses BLAS."""
        seen.extend(pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas")
        return "done"

    def limit(threads):
        worker = threading.Thread(target=threadpoolctl.threadpool_limits, args=(threads,))
        worker.start()
        worker.join()

    before = [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
    limit(3)
    try:
        plan = static_plan("multiplies", config=BIG)
        made, _ = agent([call("multiplies")], [multiplies], router(plan=plan, ledger=memory() if booked else None))
        run(made, asynchronous=asynchronous)
    finally:
        limit(max(before))
    assert set(seen) == threads


# --- nodes ---------------------------------------------------------------------------------------------------


def now_machine():
    return SystemTimeline.from_rows([(0, 3, 32, 0, 0)], tail="hold", epoch_ms=wall_clock_ms())


def graph(planner, tools, ledger=None, approve=None, **executor):
    timeline = None if ledger is None else now_machine
    made = StateGraph(ToolRouterState, context_schema=RouterContext)
    node = ToolExecutorNode(tools, ledger=ledger, timeline=timeline, **executor)
    add_router_nodes(made, ToolRouterNode(planner, ledger=ledger, timeline=timeline, approve=approve), node)
    return made.add_edge(START, "router").compile(checkpointer=InMemorySaver())


def test_step_when_its_output_cannot_be_recorded_says_so_and_runs(caplog):
    did = []

    def acts() -> str:
        """Acts."""
        did.append(1)
        return "x" * (MAX_RESULT_BYTES + 1)

    made = graph(StaticPlanner(static_plan("acts", latency_ms=5)), [acts], memory())
    assert made.invoke({"request": "x"}, THREAD)["tool_results"]["s1"]["status"] == "done"
    assert "acts has run and is not recorded" in caplog.text


def test_plan_when_it_expires_after_a_step_was_completed_is_made_anew_without_repeating_that_step(caplog):
    """The process dies in the second step; when the run is resumed, its plan has expired."""
    did, ledger = [], memory()
    plans = []

    def planned(request):
        plans.append(static_plan("first", "second", latency_ms=5))
        return plans[-1]

    def first() -> str:
        """Acts."""
        did.append("first")
        return "one"

    def second() -> str:
        """Fails as a dying process does, once."""
        did.append("second")
        if did.count("second") == 1:
            raise KeyboardInterrupt
        return "two"

    made = graph(StaticPlanner(planned), [first, second], ledger)
    with pytest.raises(KeyboardInterrupt):
        made.invoke({"request": "x"}, THREAD)
    before = made.get_state(THREAD)
    old = before.values["tool_plan"] | {
        name: (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        for name, hours in (("created_at", 3), ("expires_at", 2))
    }
    made.update_state(THREAD, {"tool_plan": old}, as_node="router")
    with caplog.at_level(logging.INFO):
        state = made.invoke(Command(goto="tools"), THREAD)
    assert len(plans) == 2
    assert did == ["first", "second", "second"]
    assert {step: r["output"] for step, r in state["tool_results"].items()} == {"s1": "one", "s2": "two"}
    assert "s1 (first) is replayed" in caplog.text


def test_booking_of_a_node_when_made_names_tenant_and_thread():
    ledger, seen = memory(), []

    def looks() -> str:
        """Looks."""
        seen.extend((b.tenant, b.thread_id) for b in ledger.bookings())
        return "ok"

    made = graph(StaticPlanner(static_plan("looks", latency_ms=5)), [looks], ledger, tenant="vision")
    made.invoke({"request": "x"}, THREAD)
    assert seen == [("vision", "t")]


def test_approval_when_given_does_not_cover_the_next_turn():
    made = graph(StaticPlanner(static_plan("works", config=BIG)), None, approve=footprint_over(cpu_core=1))
    for _ in range(2):
        assert "__interrupt__" in made.invoke({"request": "x"}, THREAD)
        assert "__interrupt__" not in made.invoke(Command(resume="approve"), THREAD)


def test_executor_when_the_router_asks_people_knows_about_what():
    asks = footprint_over(cpu_core=1)
    graph_ = StateGraph(ToolRouterState, context_schema=RouterContext)
    node = ToolExecutorNode([])
    add_router_nodes(graph_, ToolRouterNode(StaticPlanner(static_plan()), approve=asks), node)
    assert node.approval is asks


# --- expired plans and approvals in agents -------------------------------------------------------------------


@BOTH
def test_turn_when_its_plan_has_expired_is_planned_again(asynchronous):
    old = datetime.now(UTC) - timedelta(hours=2)
    plans = iter([static_plan("acts", now=old), static_plan("acts", latency_ms=7)])
    planner = StaticPlanner(lambda request: next(plans))
    acts, _ = counting()
    made, _ = agent([call("acts")], [acts], router(plan=planner))
    state = run(made, asynchronous=asynchronous)
    assert len(planner.calls) == 2
    assert state["tool_plan"]["steps"][0]["expected_latency_ms"] == 7


def test_turn_when_planning_again_fails_keeps_the_plan(caplog):
    old = datetime.now(UTC) - timedelta(hours=2)
    plans = iter([static_plan("acts", now=old)])
    acts, _ = counting()
    made, _ = agent([call("acts")], [acts], router(plan=StaticPlanner(lambda request: next(plans))))
    assert run(made)["tool_plan"]["steps"][0]["tool_name"] == "acts"
    assert "planning failed" in caplog.text


def test_turn_when_planned_again_tells_why():
    old = datetime.now(UTC) - timedelta(hours=2)
    plans = iter([static_plan("acts", now=old), static_plan("acts")])
    acts, _ = counting()
    made, _ = agent([call("acts")], [acts], router(plan=StaticPlanner(lambda request: next(plans))))
    events = [e["type"] for e in made.stream(ask(), THREAD, stream_mode="custom")]
    assert events.count("replanned") == 1


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize("answer", ["approve", "reject"])
@pytest.mark.parametrize("first", ["approval", "router"])
def test_stock_approval_when_driven_by_the_plan_holds_nothing_while_a_person_thinks(mode, answer, first):
    ledger, (acts, did) = memory(), counting()
    approval = HumanInTheLoopMiddleware(
        interrupt_on={
            "acts": {
                "allowed_decisions": ["approve", "reject"],
                "when": footprint_over(cpu_core=1),
                "description": footprint_text,
            }
        },
        interrupt_mode=mode,
    )
    middleware = router(plan=static_plan("acts", config=BIG, latency_ms=1500), ledger=ledger)
    order = [approval, middleware] if first == "approval" else [middleware, approval]
    made, _ = agent([call("acts")], [acts], *order, checkpointer=InMemorySaver())
    asked = run(made)["__interrupt__"][0].value
    described = asked["description"] if mode == "per_call" else asked["action_requests"][0]["description"]
    assert described == "acts will take 2 cores and 1 GiB, for about 1.5 s."
    assert ledger.bookings() == ()
    assert middleware.report() == []

    decision = {"type": answer}
    state = made.invoke(Command(resume=decision if mode == "per_call" else {"decisions": [decision]}), THREAD)
    assert len(did) == (answer == "approve")
    assert tool_answers(state)[0].status == ("success" if answer == "approve" else "error")
    assert ledger.bookings() == ()


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_stock_approval_when_the_plan_is_small_or_has_expired_meanwhile_answers_the_same_again(mode):
    old = static_plan("acts", config=BIG, now=datetime.now(UTC) - timedelta(hours=2))
    acts, did = counting()
    approval = HumanInTheLoopMiddleware(
        interrupt_on={"acts": {"allowed_decisions": ["approve"], "when": footprint_over(cpu_core=1)}},
        interrupt_mode=mode,
    )
    made, _ = agent([call("acts")], [acts], approval, router(plan=old), checkpointer=InMemorySaver())
    assert "__interrupt__" in run(made)
    decision = {"type": "approve"}
    made.invoke(Command(resume=decision if mode == "per_call" else {"decisions": [decision]}), THREAD)
    assert len(did) == 1


def test_footprint_text_when_the_call_is_not_planned_says_so():
    assert "nobody knows what it takes" in footprint_text({"name": "x"}, {"messages": [HumanMessage("x")]})
