"""The cluster simulation: reservations hold on every node, the naive placement does not, and the check sees it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cluster_check import Ran, check_node
from benchmarks.cluster_simulation import (
    POLICIES,
    arrivals,
    best_fit,
    main,
    node_curves,
    random_nodes,
    simulate,
)
from tomas_router.evaluation.plan_check import Run, over_commits
from tomas_router.planner.allocator import GREEDY
from tomas_router.runtime.reservation import Reservation
from tomas_router.runtime.residual import ResidualCapacity
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import load_profiling_matrix
from tomas_router.schema.registry import load_tool_registry
from tomas_router.shipped import profiling_path, registry_path

pytestmark = pytest.mark.m3

TABLE = load_profiling_matrix(profiling_path(), load_tool_registry(registry_path()))
CURVE = SystemTimeline.from_rows([(0, 4, 8, 100, 10), (100, 2, 8, 50, 10), (200, 4, 8, 100, 10)], horizon_ms=400)


@pytest.fixture(scope="module")
def hour():
    return node_curves(4, [], 3), list(arrivals(TABLE, 80, 3))


def test_plans_when_booked_never_over_commit_a_node(hour):
    curves, plans = hour
    for choice in (random_nodes(2), best_fit(2)):
        outcome, cluster = simulate(curves, plans, choice, GREEDY, seed=3)
        assert outcome.placed > 30
        checks = [check_node(node.curve, node.ran) for node in cluster.nodes]
        assert not any(check.broken_plans or check.over_committed_ms for check in checks)
        assert sum(len(node.ran) for node in cluster.nodes) >= outcome.placed


def test_plans_when_nothing_is_booked_over_commit(hour):
    outcome, cluster = simulate(*hour, None, GREEDY, seed=3)
    broken = set().union(*(check_node(node.curve, node.ran).broken_plans for node in cluster.nodes))
    assert outcome.placed == 80
    assert len(broken) > 8


def test_plans_when_more_nodes_are_asked_find_a_place_more_often(hour):
    placed = [simulate(*hour, random_nodes(count), GREEDY, seed=3)[0].placed for count in (1, 4)]
    assert placed[0] < placed[1]


def test_ledgers_when_the_hour_is_over_hold_only_what_still_runs(hour):
    _, cluster = simulate(*hour, random_nodes(2), GREEDY, seed=3)
    cluster.until(10**9)
    assert not any(node.ledger.snapshot().reservations for node in cluster.nodes)
    assert np.abs(cluster._booked_N4).max() < 1e-6


def test_script_when_run_at_a_small_scale_prints_every_policy(capsys):
    main(["--scale", "0.004", "--load", "0.05"])
    table = capsys.readouterr().out
    assert all(name in table for name in POLICIES)
    assert table.count("| 0.00% |") >= len(POLICIES) - 1


@pytest.mark.parametrize(
    ("ran", "broken", "over_ms"),
    [
        ([Ran(0, 0, 100, (4, 8, 100, 10))], set(), 0),
        ([Ran(0, 0, 101, (4, 8, 100, 10))], {0}, 1),
        ([Ran(0, 0, 100, (2, 1, 0, 0)), Ran(1, 50, 150, (2, 1, 0, 0))], set(), 0),
        ([Ran(0, 0, 200, (1.5, 1, 0, 0)), Ran(1, 50, 150, (1, 1, 0, 0)), Ran(2, 160, 190, (0.5, 1, 0, 0))], {0, 1}, 50),
        ([Ran(0, 350, 401, (1, 1, 0, 0))], {0}, 1),
    ],
)  # fmt: skip
def test_check_when_a_node_is_full_or_over_full_knows_the_difference(ran, broken, over_ms):
    found = check_node(CURVE, ran)
    assert found.broken_plans == broken
    assert found.over_committed_ms == over_ms


def test_check_when_compared_with_the_slow_one_finds_the_same_plans():
    draw = np.random.default_rng(0)
    for _ in range(60):
        ran = []
        for plan in range(5):
            start, cores = int(draw.integers(0, 300)), float(draw.integers(1, 9)) / 4
            ran.append(Ran(plan, start, start + int(draw.integers(1, 150)), (cores, cores, 10 * cores, 0.1)))
        runs = [Run(str(r.plan), r.start_ms, r.end_ms - r.start_ms, r.demand) for r in ran]
        slow = bool(over_commits(runs, CURVE))
        assert bool(check_node(CURVE, ran).broken_plans) == slow


def test_residual_when_many_bookings_are_taken_at_once_is_that_of_one_after_another():
    draw = np.random.default_rng(1)
    for _ in range(50):
        booked = []
        for _ in range(6):
            start = int(draw.integers(-100, 450))
            booked.append(Reservation(start, start + int(draw.integers(1, 200)), (100, 100, 10, 10)))
        at_once = ResidualCapacity.of(CURVE, booked)
        single = ResidualCapacity.of(CURVE)
        for r in booked:
            single = single.minus(r.start_ms, r.end_ms, r.demand)
        assert at_once.merged().starts_N.tolist() == single.merged().starts_N.tolist()
        assert at_once.merged().free_RN.tolist() == single.merged().free_RN.tolist()
