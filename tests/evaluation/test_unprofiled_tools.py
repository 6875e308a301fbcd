"""Guessed demand: what a run makes of it, and that no guess sees the tool that it is about."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import demand_guesses
from benchmarks.demand_guesses import largest_row, mean_of_others, mean_row, nearest_by_text, quantile_of_others
from benchmarks.demand_replay import MS_PER_HOUR, really_takes, replay
from benchmarks.unprofiled_tools import load_tools, main
from tomas_router.planner.demand import ResourceOption
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m3

CURVE = SystemTimeline.from_rows([(0, 8, 64, 100, 40)], horizon_ms=100_000)


def _row(tool: str, cpu: float, memory: float, sm: float, gpu: float, latency: float) -> ProfileRow:
    return ProfileRow(
        tool=tool, input_size="small", cpu_core=cpu, cpu_mem_gb=memory, gpu_sm=sm, gpu_mem_gb=gpu, latency_ms=latency
    )


CPU = [_row("zip", 1, 2, 0, 0, 4000), _row("zip", 4, 2, 0, 0, 1000)]
GPU = [_row("draw", 1, 2, 50, 8, 2000)]


def test_run_when_its_demand_is_right_wastes_nothing():
    done = replay(CPU, CPU, CURVE, CURVE)
    assert (done.end_ms, done.deaths, done.wasted_gib_hours, done.overran) == (1000, 0, 0, False)


def test_run_when_it_has_fewer_cores_than_ever_measured_is_slower_in_proportion():
    taken = really_takes(CPU, ResourceOption(0.5, 2, 0, 0, 10))
    assert taken.latency_ms == 8000


def test_run_when_memory_is_short_dies_half_way_and_gets_twice():
    done = replay(CPU, [ResourceOption(1, 1.5, 0, 0, 4000)], CURVE, CURVE)
    assert (done.deaths, done.end_ms) == (1, 6000)
    held = 1.5 * 2000 + (3 - 2) * 4000
    assert done.wasted_gib_hours == pytest.approx(held / MS_PER_HOUR)


def test_run_when_it_needs_a_gpu_and_has_none_is_planned_again_with_one():
    done = replay(GPU, [ResourceOption(1, 2, 0, 0, 2000)], CURVE, CURVE)
    assert done.deaths == 2  # no GPU, then 4 GiB of it
    assert done.end_ms is not None


def test_run_when_it_lasts_longer_than_reserved_may_take_what_is_not_there():
    short = SystemTimeline.from_rows([(0, 8, 64, 0, 0), (2000, 1, 64, 0, 0)], horizon_ms=100_000)
    done = replay(CPU, [ResourceOption(2, 2, 0, 0, 1500)], short, short)
    assert done.overran
    assert done.over_commits
    assert not replay(CPU, CPU, short, short).over_commits


def test_run_when_nothing_fits_is_never_done():
    done = replay(CPU, [ResourceOption(9, 2, 0, 0, 1000)], CURVE, CURVE)
    assert not done.placed
    assert done.end_ms is None


def test_guesses_when_a_tool_is_left_out_do_not_depend_on_its_rows():
    registry = ToolRegistry.from_tools([{"name": n, "desc": f"{n} things"} for n in ("zip", "draw", "sort")])
    others = [*GPU, _row("sort", 2, 1, 0, 0, 500)]
    tables = [ProfilingTable([*CPU, *others]), ProfilingTable([_row("zip", 64, 99, 0, 0, 1), *others])]
    for make in (
        mean_of_others,
        quantile_of_others,
        lambda table: nearest_by_text(table, registry, mean_row),
        lambda table: nearest_by_text(table, registry, largest_row),
    ):
        one, two = (make(table)("zip", "small") for table in tables)
        assert np.array_equal(one, two)


def test_tools_when_loaded_are_told_apart_by_what_the_network_knows_of_them():
    tools = load_tools()
    assert [len(members) for members in tools.groups.values()] == [103, 12, 20]
    assert all(tools.profiling.has(tool) for members in tools.groups.values() for tool in members)


def test_script_when_run_briefly_prints_every_table(capsys, monkeypatch):
    monkeypatch.setattr(demand_guesses, "TREES", 3)
    main(["--tools", "1", "--curves", "2"])
    printed = capsys.readouterr().out
    assert printed.count("network, memory at 0.9") >= 6
    assert "Learning from runs" in printed
    assert "forecast curves" in printed
