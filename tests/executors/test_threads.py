from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from tomas_router.executors.execution import NotExecutableError
from tomas_router.executors.plain import plain
from tomas_router.executors.threads import ThreadExecutor
from tomas_router.planner.static import static_plan


def test_chain_when_run_passes_outputs_on_in_order():
    seen = []

    def call(step, outputs):
        seen.append((step.id, dict(outputs)))
        return {"from": step.id}

    report = ThreadExecutor(call).execute(static_plan("a", "b", latency_ms=5))
    assert seen == [("s1", {}), ("s2", {"s1": {"from": "s1"}})]
    assert [step.status for step in report.steps] == ["done", "done"]
    assert report.results()["s2"]["output"] == {"from": "s2"}


def test_parallel_steps_when_run_are_in_the_tools_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    report = ThreadExecutor(lambda step, outputs: both.wait()).execute(static_plan("a", "b", links="parallel"))
    assert {step.status for step in report.steps} == {"done"}


def test_steps_when_planned_one_after_another_never_overlap_even_when_late():
    plan = static_plan("a", "b", "c", latency_ms=1)
    plan = plan.model_copy(update={"steps": tuple(s.model_copy(update={"depends_on": ()}) for s in plan.steps)})
    inside, most = [], []

    def call(step, outputs):
        inside.append(step.id)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.remove(step.id)

    ThreadExecutor(call).execute(plan)
    assert max(most) == 1


def test_step_when_it_fails_keeps_dependants_back_and_lets_others_run():
    plan = static_plan("bad", "after_bad", "alone", latency_ms=1)
    alone = plan.steps[2].model_copy(update={"depends_on": (), "start_ms": 0})
    plan = plan.model_copy(update={"steps": (*plan.steps[:2], alone)})

    def call(step, outputs):
        if step.tool_name == "bad":
            raise MemoryError("out of memory")
        return step.tool_name

    by_id = ThreadExecutor(call).execute(plan).results()
    assert [by_id[i]["status"] for i in ("s1", "s2", "s3")] == ["failed", "not_run", "done"]
    assert "MemoryError: out of memory" in by_id["s1"]["note"]
    assert "s1" in by_id["s2"]["note"]


def test_hold_when_a_step_fails_is_left_too():
    held, left = [], []

    @contextmanager
    def hold(position, step):
        held.append(position)
        try:
            yield
        finally:
            left.append(position)

    def call(step, outputs):
        raise ValueError("no")

    ThreadExecutor(call, hold).execute(static_plan("a"))
    assert held == left == [0]


def test_events_when_listened_to_tell_admission_and_end_with_both_times():
    events = []
    ThreadExecutor(lambda step, outputs: 1, on_event=events.append).execute(static_plan("a", latency_ms=5))
    assert [event["type"] for event in events] == ["tool_admitted", "tool_finished"]
    assert events[0]["resources"]["cpu_core"] == 1
    assert events[1]["expected_ms"] == 5
    assert events[1]["took_ms"] >= 0


def test_step_when_over_its_time_limit_is_done_and_says_so():
    plan = static_plan("slow", latency_ms=1)  # limit 10 ms
    report = ThreadExecutor(lambda step, outputs: threading.Event().wait(0.05)).execute(plan)
    assert report.steps[0].status == "done"
    assert "time limit is 10 ms" in report.steps[0].note


def test_plan_when_nothing_is_planned_is_refused():
    with pytest.raises(NotExecutableError):
        ThreadExecutor(lambda step, outputs: None).execute(static_plan())


@pytest.mark.parametrize(
    ("output", "expected"), [((1, 2), [1, 2]), (float("nan"), "nan"), ({1}, "{1}"), ({"a": None}, {"a": None})]
)
def test_output_when_stored_is_plain_json(output, expected):
    assert plain(output) == expected


def test_steps_when_the_run_is_stopped_do_not_begin():
    began = []
    executor = ThreadExecutor(lambda step, outputs: began.append(step.id), stopped=lambda: bool(began))
    results = executor.execute(static_plan("a", "b", latency_ms=5)).results()
    assert (began, results["s1"]["status"]) == (["s1"], "done")
    assert (results["s2"]["status"], results["s2"]["note"]) == ("not_run", "the run was cancelled before it")
