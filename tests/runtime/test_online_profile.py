"""A profile that learns from runs: latency, memory, failures, and what it leaves alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tomas_router.runtime.online_profile import (
    ObservedRun,
    OnlineProfile,
    least_waste_gib,
    upper_latency_ms,
)
from tomas_router.schema.plan import PlanStep
from tomas_router.schema.profiling import ProfileRow, ProfilingTable, ResourceConfig

pytestmark = pytest.mark.m3

ROW = ProfileRow(tool="resize", input_size="small", cpu_core=1, cpu_mem_gb=2.0, gpu_sm=0, gpu_mem_gb=0, latency_ms=1000)
RUN = ObservedRun("resize", "small", 1, 0, 2.0, 0.0, 1000, 800, cpu_mem_gb=1.0, gpu_mem_gb=0.0)


def _died(reserved_gib: float) -> ObservedRun:
    return replace(RUN, reserved_cpu_mem_gb=reserved_gib, cpu_mem_gb=None, outcome="out_of_memory")


def test_tool_without_rows_when_it_ran_once_has_a_row_with_room():
    online = OnlineProfile()
    online.observe(RUN)
    (row,) = online.table().rows("resize", "small")
    assert row.cpu_mem_gb == pytest.approx(1.1)
    assert row.latency_ms == pytest.approx(880)


def test_room_when_runs_repeat_gets_smaller():
    online = OnlineProfile()
    for _ in range(16):
        online.observe(RUN)
    (row,) = online.table().rows("resize")
    assert 1.0 < row.cpu_mem_gb < 1.06
    assert 800 < row.latency_ms < 840


def test_run_when_it_died_is_given_twice_the_memory_until_one_ends_well():
    online = OnlineProfile()
    for reserved, expected in ((0.5, 1.0), (1.0, 2.0)):
        online.observe(_died(reserved))
        assert online.table().rows("resize")[0].cpu_mem_gb == expected
    online.observe(replace(RUN, cpu_mem_gb=1.4))
    assert online.table().rows("resize")[0].cpu_mem_gb == pytest.approx(1.54)


def test_run_when_it_only_ever_died_still_has_a_latency_to_plan_with():
    online = OnlineProfile()
    online.observe(replace(_died(0.5), latency_ms=50))
    assert online.table().rows("resize")[0].latency_ms == 1000


def test_run_when_gpu_memory_ran_out_leaves_host_memory_alone():
    online = OnlineProfile()
    online.observe(
        replace(RUN, gpu_sm=50, reserved_gpu_mem_gb=3.0, outcome="out_of_memory", lacked="gpu_mem_gb", cpu_mem_gb=None)
    )
    (row,) = online.table().rows("resize")
    assert (row.cpu_mem_gb, row.gpu_mem_gb) == (2.0, 6.0)


def test_measured_row_when_runs_are_few_is_not_lowered_and_then_follows_them():
    online = OnlineProfile(ProfilingTable([ROW]))
    online.observe(RUN)
    assert online.table().all_rows == (ROW,)
    online.observe(RUN)
    online.observe(RUN)
    (row,) = online.table().all_rows
    assert row.cpu_mem_gb < 1.1
    assert row.latency_ms < 900


def test_measured_row_when_the_first_run_takes_more_is_raised_at_once():
    online = OnlineProfile(ProfilingTable([ROW]))
    online.observe(replace(RUN, latency_ms=3000, cpu_mem_gb=1.9))
    (row,) = online.table().all_rows
    assert row.latency_ms > 3000
    assert row.cpu_mem_gb == pytest.approx(2.09)


def test_variants_of_a_configuration_when_one_runs_stay_apart():
    small = ROW.model_copy(update={"cpu_mem_gb": 0.5, "latency_ms": 4000})
    online = OnlineProfile(ProfilingTable([ROW, small]))
    for _ in range(3):
        online.observe(replace(RUN, reserved_cpu_mem_gb=0.5, cpu_mem_gb=0.3, latency_ms=3000))
    first, second = online.table().all_rows
    assert first == ROW
    assert second.cpu_mem_gb < 0.4


def test_table_when_nothing_worth_telling_changes_is_the_same_object():
    online = OnlineProfile(ProfilingTable([ROW]))
    for _ in range(40):
        online.observe(RUN)
    before = online.table()
    online.observe(replace(RUN, latency_ms=801))
    assert online.table() is before


def test_memory_when_one_run_in_many_is_huge_lets_that_one_fail_rather_than_hold_it_for_all():
    usual = [(1.0, 1000.0)] * 40
    assert least_waste_gib([*usual, (30.0, 1000.0)]) < 1.1
    assert least_waste_gib([*usual, *[(30.0, 1000.0)] * 40]) > 30


def test_latency_when_runs_are_many_is_their_upper_quantile():
    assert upper_latency_ms([float(ms) for ms in range(1, 100)]) == 90
    assert upper_latency_ms([100.0]) == pytest.approx(110)


def test_step_when_placed_says_what_was_reserved():
    config = ResourceConfig(cpu_core=2, cpu_mem_gb=4, gpu_sm=50, gpu_mem_gb=8)
    step = PlanStep(
        id="s1", tool_id=0, tool_name="draw", input_size="large", confidence=1, resource_config=config,
        expected_latency_ms=500, start_ms=0,
    )  # fmt: skip
    run = ObservedRun.of(step, 450, cpu_mem_gb=3, gpu_mem_gb=7)
    assert (run.cpu_core, run.gpu_sm, run.reserved_cpu_mem_gb, run.reserved_gpu_mem_gb) == (2, 50, 4, 8)
    with pytest.raises(ValueError, match="only placed steps can be observed"):
        ObservedRun.of(step.model_copy(update={"resource_config": None}), 450)


@pytest.mark.parametrize(("name", "value"), [("latency_ms", 0), ("cpu_mem_gb", -1), ("gpu_mem_gb", float("nan"))])
def test_run_when_an_amount_is_impossible_is_refused(name, value):
    with pytest.raises(ValueError, match=f"resize: {name} must be"):
        replace(RUN, **{name: value})


def test_runs_when_threads_report_them_together_are_all_counted():
    online = OnlineProfile()

    def report(tool: str) -> None:
        for _ in range(50):
            online.observe(replace(RUN, tool=tool))

    threads = [threading.Thread(target=report, args=(f"tool_{i % 2}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(online.table().tools) == ["tool_0", "tool_1"]
    assert all(800 <= row.latency_ms < 840 for row in online.table().all_rows)
