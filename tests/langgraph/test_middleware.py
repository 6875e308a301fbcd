from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Annotated

import pytest

pytest.importorskip("langchain")

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.langgraph.agents import agent, ask, calls, machine, tool_answers
from tomas_router import Planner, ProfilingTable, ToolRegistry
from tomas_router.errors import DataValidationError
from tomas_router.langgraph import (
    InjectedResources,
    StaticPlanner,
    ToolRouterMiddleware,
    footprint_over,
    profiled,
    static_plan,
)
from tomas_router.runtime.ledger import InMemoryLedger, Reservation
from tomas_router.runtime.ledger_errors import LedgerFileError
from tomas_router.schema.plan import Alternative
from tomas_router.schema.profiling import ResourceConfig

THREAD = {"configurable": {"thread_id": "t"}}
ROW = {"input_size": "small", "cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 50}


@tool
def heavy(path: str, resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
    """Does something heavy."""
    return f"{path} on {resources.cpu_core:g} cores"


@tool
async def later(path: str, resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
    """Does something heavy, asynchronously."""
    return f"{path} later on {resources.cpu_core:g} cores"


@tool
def light(x: int) -> str:
    """Does something light."""
    return str(x)


@tool
def other(x: int) -> str:
    """Does something else."""
    return str(x)


TOOLS = [light, heavy, other]


def router(*tools, ledger=None, **options):
    planner = StaticPlanner(static_plan(*tools))
    resources = None if ledger is None else machine()
    return ToolRouterMiddleware(planner, ledger=ledger, resources=options.pop("resources", resources), **options)


def memory():
    return InMemoryLedger(epoch_times=True)


def run(made, given=None, config=THREAD, asynchronous=False):
    given = ask() if given is None else given
    return asyncio.run(made.ainvoke(given, config)) if asynchronous else made.invoke(given, config)


# --- planning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_turn_when_it_has_several_calls_is_planned_once(asynchronous):
    middleware = router("heavy")
    made, _ = agent([calls(("heavy", {"path": "a"})), calls(("heavy", {"path": "b"}))], TOOLS, middleware)
    state = run(made, asynchronous=asynchronous)
    assert len(middleware.planner.calls) == 1
    assert state["tool_plan"]["steps"][0]["tool_name"] == "heavy"
    assert [m.content for m in tool_answers(state)] == ["a on 1 cores", "b on 1 cores"]


def test_turn_when_a_person_speaks_again_is_planned_again():
    middleware = router("heavy")
    made, _ = agent([], TOOLS, middleware, checkpointer=InMemorySaver())
    run(made, ask("one"))
    run(made, ask("two"))
    assert [call.instruction for call in middleware.planner.calls] == ["one", "two"]


def test_registry_when_not_given_is_that_of_the_agents_tools():
    seen = []

    class Looking(StaticPlanner):
        def plan(self, request, registry=None, profiling=None, timeline=None, **options):
            seen.append((registry.names, profiling.rows("heavy")[0].latency_ms))
            return super().plan(request)

    carrying = profiled([ROW])(heavy.model_copy())
    made, _ = agent([], [light, carrying], ToolRouterMiddleware(Looking(static_plan())))
    run(made)
    assert seen == [(("light", "heavy"), 50)]


def test_agent_when_the_packaged_model_plans_offers_the_right_tool():
    @tool
    def transcribe_audio(path: str) -> str:
        """Turns speech in an audio recording into text."""
        return path

    @tool
    def send_email(to: str, body: str) -> str:
        """Sends an e-mail to a person."""
        return to

    @tool
    def resize_image(path: str, width: int) -> str:
        """Changes the size of a picture."""
        return path

    middleware = ToolRouterMiddleware(Planner.load(), narrow="per_turn", max_tools=1)
    made, model = agent([], [send_email, transcribe_audio, resize_image], middleware)
    run(made, ask("Transcribe the recording of yesterday's meeting."))
    assert model.shown == [["transcribe_audio"]]


# --- narrowing -----------------------------------------------------------------------------------------------


def shown(narrow, turns, **options):
    plans = iter(turns)
    middleware = ToolRouterMiddleware(
        StaticPlanner(lambda request: static_plan(*next(plans))), narrow=narrow, **options
    )
    made, model = agent([], TOOLS, middleware, checkpointer=InMemorySaver())
    for number in range(len(turns)):
        run(made, ask(str(number)))
    return model.shown


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ("off", [["light", "heavy", "other"]] * 2),
        ("per_turn", [["heavy"], ["light"]]),
        ("per_thread", [["heavy"], ["light", "heavy"]]),
    ],
)
def test_tools_when_narrowed_are_those_of_the_plan_in_the_agents_order(narrow, expected):
    assert shown(narrow, [("heavy",), ("light",)]) == expected


def test_tools_when_always_included_are_shown():
    assert shown("per_turn", [("heavy",)], always_include=["other"]) == [["heavy", "other"]]


def test_tools_when_used_in_the_thread_stay():
    plans = iter([static_plan("heavy"), static_plan("light")])
    middleware = ToolRouterMiddleware(StaticPlanner(lambda request: next(plans)), narrow="per_turn")
    made, model = agent([calls(("heavy", {"path": "a"}))], TOOLS, middleware, checkpointer=InMemorySaver())
    run(made, ask("one"))
    run(made, ask("two"))
    assert model.shown[-1] == ["light", "heavy"]


@pytest.mark.parametrize(
    ("max_tools", "expected"), [(None, ["light", "heavy", "other"]), (2, ["heavy", "other"]), (1, ["heavy"])]
)
def test_alternatives_when_there_is_room_are_shown_by_confidence(max_tools, expected):
    plan = static_plan("heavy")
    alternatives = (Alternative(tool_name="light", confidence=0.1), Alternative(tool_name="other", confidence=0.2))
    plan = plan.model_copy(update={"steps": (plan.steps[0].model_copy(update={"alternatives": alternatives}),)})
    middleware = ToolRouterMiddleware(StaticPlanner(plan), narrow="per_turn", max_tools=max_tools)
    made, model = agent([], TOOLS, middleware)
    run(made)
    assert model.shown == [expected]


def test_provider_tools_when_narrowed_are_kept():
    search = {"type": "web_search", "name": "web_search"}
    made, model = agent([], [*TOOLS, search], router("heavy", narrow="per_turn"))
    run(made)
    assert model.shown == [["heavy", "web_search"]]


def test_shadow_when_on_changes_nothing_but_plans():
    middleware = router("heavy", narrow="per_turn", on_unplanned_call="block", shadow=True)
    made, model = agent([calls(("light", {"x": 1}))], TOOLS, middleware)
    state = run(made)
    assert model.shown[0] == ["light", "heavy", "other"]
    assert tool_answers(state)[0].content == "1"
    assert state["tool_plan"]["steps"][0]["tool_name"] == "heavy"


def test_tools_when_two_have_one_name_are_refused():
    with pytest.raises(DataValidationError, match="must be unique"):
        ToolRouterMiddleware(StaticPlanner(static_plan()), ToolRegistry.from_langchain([light, light]))


# --- failures of the planner ---------------------------------------------------------------------------------


class Broken:
    def plan(self, *args, **options):
        raise RuntimeError("the planner is down")


@pytest.mark.parametrize(
    ("on_failure", "expected"),
    [
        ("all", [["light", "heavy", "other"]]),
        ("none", [["other"]]),
        (lambda request, error: ["heavy"], [["heavy", "other"]]),
    ],
)
def test_planner_when_it_fails_leaves_the_tools_that_on_failure_says(on_failure, expected, caplog):
    middleware = ToolRouterMiddleware(Broken(), on_failure=on_failure, narrow="per_turn", always_include=["other"])
    made, model = agent([], TOOLS, middleware)
    state = run(made)
    assert model.shown == expected
    assert state["messages"][-1].text == "done"
    assert "the planner is down" in caplog.text


# --- disagreement --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_call_when_blocked_gets_one_answer_that_names_the_plan_and_does_not_run(asynchronous):
    ran = []

    @tool
    def forbidden() -> str:
        """Must not run."""
        ran.append(1)
        return "ran"

    made, _ = agent([calls(("forbidden", {}))], [heavy, forbidden], router("heavy", on_unplanned_call="block"))
    answers = tool_answers(run(made, asynchronous=asynchronous))
    assert [(m.status, m.name) for m in answers] == [("error", "forbidden")]
    assert "Planned: heavy" in answers[0].content
    assert ran == []


def test_call_when_two_were_blocked_in_the_turn_may_run():
    says = [calls(("light", {"x": n})) for n in range(3)]
    made, _ = agent(says, TOOLS, router("heavy", on_unplanned_call="block"))
    assert [m.status for m in tool_answers(run(made))] == ["error", "error", "success"]


def test_call_when_nothing_may_fail_over_stays_blocked():
    says = [calls(("light", {"x": n})) for n in range(3)]
    made, _ = agent(says, TOOLS, router("heavy", on_unplanned_call="block", on_failure="none"))
    assert [m.status for m in tool_answers(run(made))] == ["error"] * 3


def test_call_when_unplanned_is_warned_about_and_admitted_all_the_same(caplog):
    ledger, seen = memory(), []

    @tool
    def measured() -> str:
        """Has a profile."""
        seen.append(len(ledger.bookings()))
        return "ran"

    measured = profiled([ROW])(measured)
    with caplog.at_level(logging.WARNING):
        made, _ = agent([calls(("measured", {}))], [heavy, measured], router("heavy", ledger=ledger))
        run(made)
    assert "measured was called, but the plan has heavy" in caplog.text
    assert seen == [1]


def test_call_when_the_tool_is_unknown_gets_one_answer():
    made, _ = agent([calls(("nonsense", {}))], TOOLS, router("heavy"))
    answers = tool_answers(run(made))
    assert [m.status for m in answers] == ["error"]
    assert "nonsense" in answers[0].content


def test_calls_of_one_message_when_planned_run_in_the_order_of_the_plan():
    order, both = [], threading.Barrier(1)

    def make(name):
        def body() -> str:
            both.wait()
            time.sleep(0.05)
            order.append(name)
            return name

        body.__name__ = name
        body.__doc__ = f"Does {name}."
        return tool(body)

    for asynchronous in (False, True):
        order.clear()
        made, _ = agent(
            [calls(("second", {}), ("first", {}))], [make("first"), make("second")], router("first", "second")
        )
        run(made, asynchronous=asynchronous)
        assert order == ["first", "second"]


def test_calls_of_one_message_when_one_thread_runs_them_do_not_wait_for_each_other_for_ever():
    made, _ = agent([calls(("light", {"x": 1}), ("heavy", {"path": "a"}))], TOOLS, router("heavy", "light"))
    state = run(made, config=THREAD | {"max_concurrency": 1})
    assert {m.status for m in tool_answers(state)} == {"success"}


# --- admission -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_calls_when_more_than_fit_wait_and_never_exceed_the_machine(asynchronous):
    ledger, inside, most, lock = memory(), [0], [0], threading.Lock()

    @tool
    def work(n: int) -> str:
        """Takes one core."""
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        with lock:
            inside[0] -= 1
        return str(n)

    middleware = router("work", ledger=ledger, resources=machine(cores=2))
    made, _ = agent([calls(*(("work", {"n": n}) for n in range(6)))], [work], middleware)
    state = run(made, asynchronous=asynchronous)
    assert len(tool_answers(state)) == 6
    assert most[0] == 2
    assert ledger.bookings() == ()
    report = middleware.report()
    assert [r["status"] for r in report] == ["done"] * 6
    assert max(r["waited_ms"] for r in report) >= 50


def full(ledger, cores=3):
    now = int(time.time() * 1000)
    ledger.book(
        [Reservation(now - 1000, now + 3_600_000, (cores * 1000, 1024, 0, 0))],
        expected_version=ledger.snapshot().version,
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("options", "text"), [({"on_insufficient": "fail"}, "cpu"), ({"max_wait_s": 0.1}, "waited 100 ms")]
)
def test_call_when_there_is_no_room_tells_the_model(options, text, asynchronous):
    ledger = memory()
    full(ledger)
    middleware = router("heavy", ledger=ledger, **options)
    made, _ = agent([calls(("heavy", {"path": "a"}))], TOOLS, middleware)
    answer = tool_answers(run(made, asynchronous=asynchronous))[0]
    assert answer.status == "error"
    assert text in answer.content
    assert middleware.report()[0]["status"] == "no_room"
    assert ledger.waiting() == ()


def test_call_when_degrading_takes_what_starts_at_once_and_says_so():
    ledger = memory()
    full(ledger, cores=2)
    rows = [ROW | {"tool": "heavy", "cpu_core": cores, "latency_ms": 100 / cores} for cores in (1, 3)]
    plan = static_plan("heavy", config=ResourceConfig(cpu_core=3, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0))
    middleware = ToolRouterMiddleware(
        StaticPlanner(plan),
        profiling=ProfilingTable.from_rows(rows),
        ledger=ledger,
        resources=machine(),
        on_insufficient="degrade",
    )
    made, _ = agent([calls(("heavy", {"path": "a"}))], TOOLS, middleware)
    assert tool_answers(run(made))[0].content == "a on 1 cores"
    assert middleware.report()[0]["degraded"] is True


def test_call_when_the_tool_is_asynchronous_gets_its_resources():
    made, _ = agent([calls(("later", {"path": "a"}))], [later], router("later", ledger=memory()))
    assert tool_answers(run(made, asynchronous=True))[0].content == "a later on 1 cores"


def test_call_when_the_model_writes_resources_itself_does_not_get_them():
    says = [
        calls(("heavy", {"path": "a", "resources": {"cpu_core": 64, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}}))
    ]
    made, _ = agent(says, TOOLS, router("heavy"))
    assert tool_answers(run(made))[0].content == "a on 1 cores"


def test_light_call_when_the_machine_is_full_runs():
    ledger = memory()
    full(ledger)
    made, _ = agent([calls(("light", {"x": 1}))], TOOLS, ToolRouterMiddleware(None, ledger=ledger, resources=machine()))
    assert tool_answers(run(made))[0].content == "1"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_call_when_out_of_memory_is_tried_once_more_with_more(asynchronous):
    got = []

    @tool
    def hungry(resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
        """Needs memory."""
        got.append(resources.cpu_mem_gb)
        if resources.cpu_mem_gb < 4:
            raise MemoryError
        return "enough"

    rows = [ROW | {"tool": "hungry", "cpu_mem_gb": gib} for gib in (0.25, 2, 8)]
    middleware = ToolRouterMiddleware(
        StaticPlanner(static_plan("hungry")),
        profiling=ProfilingTable.from_rows(rows[::2]),
        ledger=memory(),
        resources=machine(),
    )
    made, _ = agent([calls(("hungry", {}))], [hungry], middleware)
    assert tool_answers(run(made, asynchronous=asynchronous))[0].content == "enough"
    assert got == [0.25, 8]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_call_when_the_tool_raises_frees_its_booking_and_passes_the_error_on(asynchronous):
    ledger = memory()

    @tool
    def fails() -> str:
        """Fails."""
        raise RuntimeError("broken tool")

    middleware = router("fails", ledger=ledger)
    made, _ = agent([calls(("fails", {}))], [fails], middleware)
    with pytest.raises(RuntimeError, match="broken tool"):
        run(made, asynchronous=asynchronous)
    assert ledger.bookings() == ()
    assert middleware.report()[0]["status"] == "failed"


class GoneLedger(InMemoryLedger):
    def book(self, *args, **options):
        raise LedgerFileError("the disk is gone")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("on_ledger_failure", "status"), [("refuse", "error"), ("run", "success")])
def test_call_when_the_ledger_is_gone_is_refused_or_runs_as_told(on_ledger_failure, status, asynchronous):
    ledger = GoneLedger(epoch_times=True)
    rows = ProfilingTable.from_rows([ROW | {"tool": "light"}])
    middleware = ToolRouterMiddleware(
        None, profiling=rows, ledger=ledger, resources=machine(), on_ledger_failure=on_ledger_failure
    )
    made, _ = agent([calls(("light", {"x": 1}))], TOOLS, middleware)
    assert tool_answers(run(made, asynchronous=asynchronous))[0].status == status


def test_call_when_cancelled_keeps_its_booking_until_its_thread_has_ended():
    ledger, inside, go_on = memory(), threading.Event(), threading.Event()

    @tool
    def stuck() -> str:
        """Cannot be stopped."""
        inside.set()
        go_on.wait(20)
        return "ended"

    made, _ = agent([calls(("stuck", {}))], [stuck], router("stuck", ledger=ledger))

    async def cancel():
        task = asyncio.create_task(made.ainvoke(ask(), THREAD))
        while not inside.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held = len(ledger.bookings())
        go_on.set()
        for _ in range(500):
            if not ledger.bookings():
                break
            await asyncio.sleep(0.01)
        return held, len(ledger.bookings())

    assert asyncio.run(cancel()) == (1, 0)


def test_call_when_cancelled_in_the_line_leaves_it():
    ledger = memory()
    full(ledger)
    made, _ = agent([calls(("heavy", {"path": "a"}))], TOOLS, router("heavy", ledger=ledger))

    async def cancel():
        task = asyncio.create_task(made.ainvoke(ask(), THREAD))
        while not ledger.waiting():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(500):
            if not ledger.waiting():
                break
            await asyncio.sleep(0.01)
        return ledger.waiting(), len(ledger.bookings())

    assert asyncio.run(cancel()) == ((), 1)


def test_booking_when_held_names_tenant_and_thread():
    ledger, seen = memory(), []

    @tool
    def look() -> str:
        """Looks."""
        seen.extend((b.tenant, b.thread_id) for b in ledger.bookings())
        return "ok"

    made, _ = agent([calls(("look", {}))], [look], router("look", ledger=ledger, tenant="vision"))
    run(made)
    assert seen == [("vision", "t")]


class Counter(BaseTool):
    """A tool with a state of its own."""

    name: str = "counter"
    description: str = "Counts."
    count: int = 0

    def _run(self) -> str:
        self.count += 1
        return str(self.count)


class AwaitedCounter(Counter):
    async def _arun(self) -> str:
        self.count += 10
        return str(self.count)


@pytest.mark.parametrize(
    ("kind", "asynchronous", "expected"),
    [(Counter, False, ["1", "2"]), (Counter, True, ["1", "2"]), (AwaitedCounter, True, ["10", "20"])],
)
def test_tool_when_it_has_a_state_of_its_own_keeps_it(kind, asynchronous, expected):
    says = [calls(("counter", {})), calls(("counter", {}))]
    made, _ = agent(says, [kind()], router("counter", ledger=memory()))
    assert [m.content for m in tool_answers(run(made, asynchronous=asynchronous))] == expected


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tool_when_it_reads_the_runtime_gets_it(asynchronous):
    @tool
    def reads(x: int, runtime: ToolRuntime) -> str:
        """Reads the runtime."""
        return f"{x} {runtime.config['configurable']['thread_id']} {len(runtime.state['messages'])}"

    made, _ = agent([calls(("reads", {"x": 1}))], [reads], router("reads", ledger=memory(), timeout_s=20))
    assert tool_answers(run(made, asynchronous=asynchronous))[0].content == "1 t 2"


# --- the rest ------------------------------------------------------------------------------------------------


def test_events_when_streamed_tell_queue_admission_and_end():
    ledger = memory()
    made, _ = agent([calls(("heavy", {"path": "a"}))], TOOLS, router("heavy", ledger=ledger))
    events = list(made.stream(ask(), THREAD, stream_mode="custom"))
    assert [e["type"] for e in events] == ["tool_admitted", "tool_finished"]
    assert events[1]["expected_ms"] == 100


@pytest.mark.parametrize(("least", "skipped"), [(0.9, True), (None, False)])
def test_fast_path_when_on_calls_a_tool_without_arguments_at_once(least, skipped):
    @tool
    def now() -> str:
        """Tells the time."""
        return "noon"

    made, model = agent([], [now, light], router("now", fast_path=least))
    state = run(made)
    assert bool(tool_answers(state)) is skipped
    assert len(model.shown) == 1


def test_fast_path_when_an_argument_is_required_asks_the_model():
    made, _ = agent([], TOOLS, router("light", fast_path=0.5))
    assert tool_answers(run(made)) == []


def test_stock_approval_when_driven_by_the_plan_asks_for_large_calls_only():
    big = static_plan("light", config=ResourceConfig(cpu_core=8, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0))
    for plan, asks in ((big, True), (static_plan("light"), False)):
        approval = HumanInTheLoopMiddleware(
            interrupt_on={"light": {"allowed_decisions": ["approve"], "when": footprint_over(cpu_core=4)}}
        )
        made, _ = agent(
            [calls(("light", {"x": 1}))],
            TOOLS,
            ToolRouterMiddleware(StaticPlanner(plan)),
            approval,
            checkpointer=InMemorySaver(),
        )
        state = run(made)
        assert ("__interrupt__" in state) is asks
        if asks:
            state = made.invoke(Command(resume={"decisions": [{"type": "approve"}]}), THREAD)
        assert tool_answers(state)[0].content == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"narrow": "sometimes"},
        {"on_unplanned_call": "no"},
        {"on_failure": "some"},
        {"on_insufficient": "cry"},
        {"on_ledger_failure": "x"},
    ],
)
def test_middleware_when_an_option_is_unknown_says_which_exist(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        ToolRouterMiddleware(None, **options)


def test_middleware_when_a_ledger_has_no_machine_refuses():
    with pytest.raises(ValueError, match="needs a timeline"):
        ToolRouterMiddleware(None, ledger=memory())


def test_turn_when_the_last_message_is_empty_plans_nothing():
    middleware = router("heavy")
    made, _ = agent([], TOOLS, middleware)
    made.invoke({"messages": [HumanMessage("")]})
    assert middleware.planner.calls == []
