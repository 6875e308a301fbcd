from __future__ import annotations

import pytest

from tomas_router.evaluation.plan_check import Run, free_at, over_commits, plan_violations
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan

pytestmark = pytest.mark.m5

CURVE = SystemTimeline.from_rows([(0, 4, 8, 50, 10), (1000, 2, 8, 50, 10)], horizon_ms=3000)


def run(start: int, latency: float, cpu: float = 1.0, sm: float = 0.0) -> Run:
    return Run("s", start, latency, (cpu, 1.0, sm, 0.0))


def test_over_commits_when_demand_equals_capacity_is_empty() -> None:
    assert over_commits([run(0, 1000, cpu=4)], CURVE) == []
    assert over_commits([run(0, 1000, cpu=2), run(0, 1000, cpu=2)], CURVE) == []


def test_over_commits_when_a_run_outlives_a_drop_by_a_millisecond_names_the_moment() -> None:
    found = over_commits([run(0, 1001, cpu=4)], CURVE)
    assert found == ["cpu_core at 1000 ms: s take 4 of 2"]


def test_over_commits_when_latency_has_a_fraction_rounds_the_end_up() -> None:
    assert over_commits([run(0, 999.2, cpu=4)], CURVE) == []
    assert over_commits([run(0, 1000.2, cpu=4)], CURVE) != []


def test_over_commits_when_two_runs_overlap_adds_them() -> None:
    assert over_commits([run(1000, 500), run(1200, 500, cpu=1.5)], CURVE) == ["cpu_core at 1200 ms: s, s take 2.5 of 2"]
    assert over_commits([run(1000, 200), run(1200, 500, cpu=1.5)], CURVE) == []


def test_over_commits_when_the_horizon_is_strict_forbids_what_lies_behind() -> None:
    assert over_commits([run(2500, 500)], CURVE) == []
    assert len(over_commits([run(2500, 501)], CURVE)) == 2  # cpu and memory
    assert over_commits([run(2500, 5000)], CURVE.with_tail("hold")) == []


def test_over_commits_when_fractions_are_binary_noise_forgives_them() -> None:
    curve = SystemTimeline.from_rows([(0, 0.3, 8, 0, 0)])
    assert over_commits([run(0, 10, cpu=0.1 + 0.2)], curve) == []
    assert over_commits([run(0, 10, cpu=0.31)], curve) != []


def test_over_commits_when_a_run_starts_before_the_curve_says_so() -> None:
    late = SystemTimeline.from_rows([(100, 4, 8, 50, 10)])
    assert free_at(late, 50) == (0, 0, 0, 0)
    assert any("before the curve begins" in text for text in over_commits([run(50, 10)], late))


def test_plan_violations_when_a_plan_is_good_or_places_nothing_is_empty() -> None:
    assert plan_violations(_plan(start_ms=600), CURVE) == []
    refused = ToolPlan(
        status="no_tool",
        reason="not_needed",
        timeline_id="x",
        created_at="2026-01-01T00:00:00Z",
        expires_at="2026-01-01T00:01:00Z",
        t_inf_ms=500,
        gate_confidence=0.1,
        model="test",
    )
    assert plan_violations(refused, CURVE) == []


def test_plan_violations_when_a_step_starts_before_the_decision_says_so() -> None:
    assert plan_violations(_plan(start_ms=499), CURVE) == ["s1 starts at 499 ms, before the decision at 500.0 ms"]


def _plan(start_ms: int) -> ToolPlan:
    step = {
        "id": "s1",
        "tool_id": 0,
        "tool_name": "translate",
        "input_size": "small",
        "resource_config": {"cpu_core": 2, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0},
        "expected_latency_ms": 400,
        "start_ms": start_ms,
        "confidence": 0.9,
        "source": "profiled",
    }
    return ToolPlan.model_validate(
        {
            "status": "planned",
            "timeline_id": "x",
            "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-01T00:01:00Z",
            "t_inf_ms": 500,
            "gate_confidence": 0.9,
            "model": "test",
            "steps": [step],
        }
    )
