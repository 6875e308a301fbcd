from __future__ import annotations

import pytest

from tomas_router.evaluation.placement_baselines import place_greedily, place_static
from tomas_router.evaluation.resource_scores import RawStep
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "gpu", "desc": "Fast.", "tags": ["group:job"]},
        {"name": "cpu", "desc": "Slow.", "tags": ["group:job"]},
        {"name": "bare", "desc": "Never measured."},
    ]
)


def profile(tool: str, cpu: float, sm: float, latency: float) -> ProfileRow:
    return ProfileRow(
        tool=tool, input_size="small", cpu_core=cpu, cpu_mem_gb=0.1, gpu_sm=sm, gpu_mem_gb=0.0, latency_ms=latency
    )


PROFILING = ProfilingTable.from_rows(
    [profile("gpu", 1, 50, 1000), profile("gpu", 1, 20, 2000), profile("cpu", 2, 0, 5000)]
)


def step(tool: str, *needs: int) -> RawStep:
    return RawStep(tool, (1.0, 1.0, 0.0, 0.0, 1.0), "small", needs)


def curve(*rows: tuple[float, ...]) -> SystemTimeline:
    return SystemTimeline.from_rows(rows, horizon_ms=60_000)


def test_place_static_when_steps_depend_starts_one_after_the_other_with_the_largest_profile() -> None:
    runs = place_static([step("gpu"), step("cpu", 0)], PROFILING, 500)
    assert runs is not None
    assert [(r.start_ms, r.end_ms, r.demand[2]) for r in runs] == [(500, 1500, 50), (1500, 6500, 0)]


def test_place_greedily_when_the_gpu_is_short_takes_what_fits_just_then() -> None:
    def chosen(sm: float) -> tuple[float, float]:
        runs = place_greedily([step("gpu")], REGISTRY, PROFILING, curve((0, 8, 16, sm, 8)), 0)
        assert runs is not None
        return runs[0].demand[0], runs[0].demand[2]

    assert chosen(60) == (1, 50)
    assert chosen(30) == (1, 20)
    assert chosen(0) == (2, 0)  # the twin on the CPU


def test_place_greedily_when_steps_run_side_by_side_leaves_room_for_the_first() -> None:
    runs = place_greedily([step("gpu"), step("gpu")], REGISTRY, PROFILING, curve((0, 8, 16, 70, 8)), 0)
    assert runs is not None
    assert [r.demand[2] for r in runs] == [50, 20]


def test_place_greedily_when_nothing_fits_takes_the_fastest_all_the_same() -> None:
    runs = place_greedily([step("gpu")], REGISTRY, PROFILING, curve((0, 0, 0, 0, 0)), 0)
    assert runs is not None
    assert runs[0].latency_ms == 1000


def test_place_when_a_tool_has_no_profile_is_none() -> None:
    assert place_static([step("bare")], PROFILING, 0) is None
    assert place_greedily([step("bare")], REGISTRY, PROFILING, curve((0, 8, 16, 0, 0)), 0) is None
