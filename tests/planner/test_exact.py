"""Plans by CP-SAT: equal to brute force, never over the curve, and honest about what is proved."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.planner.independent_checker import Run, violations
from tests.planner.test_allocate_plan import Problem, brute_force, problems, solve
from tests.planner.test_planner import CHAIN, IDLE, PROFILING, REGISTRY, planner
from tests.planner.test_planner import curve as planner_curve
from tomas_router.errors import InfeasibleError, MissingExtraError
from tomas_router.planner import ResourceOption, StepDemand, allocate_plan
from tomas_router.planner.allocator import GREEDY, Proof
from tomas_router.planner.demand import IntegerOptions
from tomas_router.planner.exact import solve_exactly
from tomas_router.planner.plan_problem import PlanProblem
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.residual import ResidualCapacity
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

CP_SAT_ALONE = SearchLimits(budget_ms=0.0, exact_ms=60_000.0)
"""Without the exhaustive search, which would leave nothing to it."""


def steps_of(count: int) -> list[StepDemand]:
    """Independent steps that a fast, wide option makes worse than two narrow ones."""
    wide, narrow = ResourceOption(4, 4, 0, 0, 1000), ResourceOption(2, 4, 0, 0, 1500)
    return [StepDemand([wide, narrow])] * count


def curve(**kwargs: object) -> SystemTimeline:
    return SystemTimeline.from_rows([(0, 4, 32, 100, 16)], **{"horizon_ms": 60_000, **kwargs})


@given(problems())
@settings(max_examples=60, deadline=None)
def test_cp_sat_reaches_the_brute_force_makespan_and_proves_it(problem: Problem) -> None:
    rows, _, before, horizon = problem
    placed = solve(problem, CP_SAT_ALONE)
    best = brute_force(problem)
    assert (max(a.end_ms for a in placed) if placed else None) == best
    if placed is not None:
        assert best is not None
        assert placed[0].proof == Proof("optimal", best)
        runs = [Run(a.start_ms, a.end_ms, (a.config.cpu_core, 0, 0, 0)) for a in placed]
        curve_rows = [(t, cpu, 9, 0, 0) for t, cpu in rows]
        assert violations(curve_rows, runs, horizon_ms=horizon, depends_on=before) == []


@given(problems())
@settings(max_examples=40, deadline=None)
def test_cp_sat_and_the_exhaustive_search_agree_on_makespan_and_cost(problem: Problem) -> None:
    by_branching, by_cp_sat = solve(problem, SearchLimits(budget_ms=60_000.0)), solve(problem, CP_SAT_ALONE)
    costs = [
        None if placed is None else sum(a.config.cpu_core * a.latency_ms for a in placed)
        for placed in (by_branching, by_cp_sat)
    ]
    assert costs[0] == costs[1]


def test_exact_plan_when_list_scheduling_is_worse_is_better_and_proved() -> None:
    assert max(a.end_ms for a in allocate_plan(steps_of(2), curve(), limits=GREEDY)) == 2000
    placed = allocate_plan(steps_of(2), curve(), limits=CP_SAT_ALONE)
    assert [(a.option_index, a.start_ms) for a in placed] == [(1, 0), (1, 0)]
    assert placed[0].proof == Proof("optimal", 1500)


def test_exact_plan_on_every_resource_and_a_held_tail_passes_the_checker() -> None:
    rows = [(1_000, 4, 8, 50, 8), (4_000, 2, 8, 100, 16), (9_000, 3, 4, 80, 6)]
    timeline = SystemTimeline.from_rows(rows, horizon_ms=10_000, tail="hold")
    gpu, cpu = ResourceOption(1, 2, 60, 5, 2500.4), ResourceOption(2, 3, 0, 0, 6000)
    steps = [StepDemand([gpu, cpu], before) for before in ((), (), (0,), (1,), (2, 3))]
    placed = allocate_plan(steps, timeline, 500, limits=CP_SAT_ALONE)
    runs = [
        Run(a.start_ms, a.end_ms, (a.config.cpu_core, a.config.cpu_mem_gb, a.config.gpu_sm, a.config.gpu_mem_gb))
        for a in placed
    ]
    before = [step.depends_on for step in steps]
    assert violations(rows, runs, horizon_ms=None, depends_on=before, release_ms=500) == []
    assert placed[0].proof is not None
    assert placed[0].proof.status == "optimal"
    assert [a.beyond_horizon for a in placed] == [a.end_ms > 10_000 for a in placed]
    assert any(a.beyond_horizon for a in placed)


def test_exact_plan_when_steps_fit_only_alone_is_proved_infeasible() -> None:
    steps = [StepDemand([ResourceOption(3, 4, 0, 0, 6000)])] * 2
    with pytest.raises(InfeasibleError, match="each step fits alone, but no schedule fits them together; step 1"):
        allocate_plan(steps, curve(horizon_ms=9_000), limits=CP_SAT_ALONE)
    with pytest.raises(InfeasibleError, match="none of 1 schedules tried"):
        allocate_plan(steps, curve(horizon_ms=9_000), limits=GREEDY)


def test_exact_plan_when_time_is_over_keeps_the_known_schedule_and_a_true_bound() -> None:
    steps = [StepDemand(s.options, (i - 3,) if i >= 3 else ()) for i, s in enumerate(steps_of(24))]
    quick = allocate_plan(steps, curve(), limits=GREEDY)
    hurried = allocate_plan(steps, curve(), limits=replace(CP_SAT_ALONE, exact_ms=0.001))
    assert max(a.end_ms for a in hurried) <= max(a.end_ms for a in quick)
    assert hurried[0].proof is not None
    assert hurried[0].proof.bound_ms <= 18_000  # 24 steps, two at a time, 1.5 s each


def test_exact_plan_when_numbers_are_too_large_for_the_solver_is_not_called_proved() -> None:
    options = IntegerOptions.of([ResourceOption(4e8, 4, 0, 0, 1e9), ResourceOption(3, 4, 0, 0, 1e13)])
    timeline = SystemTimeline.from_rows([(0, 5e8, 32, 0, 0)], horizon_ms=None, tail="hold")
    problem = PlanProblem(ResidualCapacity.of(timeline), (options, options), ((), ()), 0)
    result = solve_exactly(problem, None, 1000)
    assert (result.schedule, result.proved, result.bound_ms) == (None, False, 10**9)


def test_exact_plan_with_a_ledger_is_booked_beside_what_others_hold() -> None:
    ledger = InMemoryLedger()
    allocate_plan([StepDemand([ResourceOption(2, 1, 0, 0, 1000)])], curve(), ledger=ledger)
    placed = allocate_plan(steps_of(2), curve(), ledger=ledger, limits=CP_SAT_ALONE)
    assert placed[0].proof == Proof("optimal", 2500)
    assert len(ledger.snapshot().reservations) == 3


def test_exact_plan_without_or_tools_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python.cp_model", None)
    with pytest.raises(MissingExtraError, match=r"tomas-router\[exact\]"):
        allocate_plan(steps_of(2), curve(), limits=CP_SAT_ALONE)
    assert allocate_plan(steps_of(2), curve())[0].proof == Proof("optimal", 1500)


def test_plan_on_request_says_that_its_placement_is_optimal() -> None:
    plan = planner(CHAIN, limits=SearchLimits(budget_ms=0.0, exact_ms=60_000.0)).plan(
        "x", REGISTRY, PROFILING, planner_curve(*IDLE)
    )
    assert plan.optimality is not None
    assert (plan.optimality.status, plan.optimality.bound_ms) == ("optimal", plan.makespan_ms)
    quick = planner(CHAIN, limits=GREEDY).plan("x", REGISTRY, PROFILING, planner_curve(*IDLE))
    assert quick.optimality is not None
    assert quick.optimality.bound_ms <= (plan.makespan_ms or 0)
