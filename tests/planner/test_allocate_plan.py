"""Plans: reservations, dependencies, atomicity, and the quality of the search."""

from __future__ import annotations

import threading
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.independent_checker import Run, violations
from tomas_router.errors import InfeasibleError
from tomas_router.planner import Allocation, ResourceOption, StepDemand, allocate_plan
from tomas_router.planner.allocator import GREEDY, OPTIMISTIC_ATTEMPTS
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.ledger import InMemoryLedger, LedgerSnapshot
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

NO_TIME_LIMIT = SearchLimits(budget_ms=60_000.0)
FULL = (8, 32, 100, 16)


def curve(*rows: tuple[float, ...], horizon_ms: int | None = 9_000, **kwargs: object) -> SystemTimeline:
    return SystemTimeline.from_rows(rows, horizon_ms=horizon_ms, **kwargs)


def cpu_job(cpu: float, ms: float) -> ResourceOption:
    return ResourceOption(cpu, 4, 0, 0, ms)


def makespan(placed: tuple[Allocation, ...]) -> int:
    return max(a.end_ms for a in placed)


def test_parallel_steps_with_capacity_for_one_run_one_after_the_other() -> None:
    steps = [StepDemand([cpu_job(2, 1000)])] * 2
    placed = allocate_plan(steps, curve((0, 2, 32, 100, 16)))
    assert sorted((a.start_ms, a.end_ms) for a in placed) == [(0, 1000), (1000, 2000)]


def test_parallel_steps_with_capacity_for_both_overlap() -> None:
    steps = [StepDemand([cpu_job(2, 1000)])] * 2
    assert makespan(allocate_plan(steps, curve((0, 4, 32, 100, 16)))) == 1000


def test_fast_option_that_blocks_its_sibling_is_given_up_for_the_plan() -> None:
    steps = [StepDemand([cpu_job(4, 1000), cpu_job(2, 1500)])] * 2
    timeline = curve((0, 4, 32, 100, 16))
    assert makespan(allocate_plan(steps, timeline, limits=GREEDY)) == 2000
    assert makespan(allocate_plan(steps, timeline)) == 1500


def test_successor_released_inside_a_dip_waits_for_recovery() -> None:
    steps = [StepDemand([cpu_job(2, 1000)]), StepDemand([cpu_job(2, 1000)], (0,))]
    placed = allocate_plan(steps, curve((0, *FULL), (1000, 1, 32, 100, 16), (4000, *FULL)))
    assert [(a.start_ms, a.end_ms) for a in placed] == [(0, 1000), (4000, 5000)]


def test_step_with_time_to_spare_takes_the_cheaper_option() -> None:
    steps = [StepDemand([cpu_job(1, 5000)]), StepDemand([cpu_job(6, 1000), cpu_job(1, 3000)])]
    placed = allocate_plan(steps, curve((0, *FULL)))
    assert makespan(placed) == 5000
    assert placed[1].option_index == 1


@pytest.mark.parametrize(
    ("depends_on", "message"),
    [
        (((1,), (0,)), r"steps \[0, 1\]: depends_on contains a cycle"),
        (((0,), ()), r"steps \[0\]: depends_on contains a cycle"),
        (((), (2,)), r"step 1: depends_on must lie in 0\.\.1, got 2"),
        (((), (-1,)), r"step 1: depends_on must lie in 0\.\.1, got -1"),
    ],
)
def test_dependencies_that_are_no_graph_are_named(depends_on: tuple[tuple[int, ...], ...], message: str) -> None:
    steps = [StepDemand([cpu_job(1, 10)], before) for before in depends_on]
    with pytest.raises(ValueError, match=message):
        allocate_plan(steps, curve((0, *FULL)))


def test_impossible_step_makes_the_whole_plan_infeasible_and_books_nothing() -> None:
    ledger = InMemoryLedger()
    steps = [StepDemand([cpu_job(1, 10)]), StepDemand([cpu_job(9, 10)], (0,))]
    with pytest.raises(InfeasibleError, match="step 1: no configuration fits") as caught:
        allocate_plan(steps, curve((0, *FULL)), ledger=ledger)
    assert [(s.resource, s.needed, s.available) for s in caught.value.shortfalls] == [("cpu_cores", 9.0, 8.0)]
    assert ledger.snapshot() == LedgerSnapshot(0, ())


def test_steps_that_fit_alone_but_not_together_are_proved_infeasible() -> None:
    steps = [StepDemand([cpu_job(5, 6000)])] * 2
    with pytest.raises(InfeasibleError, match="each step fits alone, but no schedule fits them together; step 1"):
        allocate_plan(steps, curve((0, *FULL)))


def test_plan_with_ledger_is_booked_whole_under_one_id() -> None:
    ledger = InMemoryLedger()
    steps = [StepDemand([cpu_job(2, 1000)]), StepDemand([cpu_job(2, 1000)], (0,))]
    placed = allocate_plan(steps, curve((0, *FULL)), ledger=ledger)
    assert len({a.booking_id for a in placed}) == 1
    assert len(ledger.snapshot().reservations) == 2


def test_plan_is_made_again_when_another_plan_was_booked_in_between() -> None:
    class Overtaken(InMemoryLedger):
        """Another plan takes the machine after the first snapshot is read."""

        def snapshot(self) -> LedgerSnapshot:
            seen = super().snapshot()
            if seen.version == 0:
                allocate_plan(steps, timeline, ledger=other_view)
            return seen

    timeline, steps = curve((0, 2, 32, 100, 16)), [StepDemand([cpu_job(2, 1000)])]
    ledger = Overtaken()
    other_view = InMemoryLedger()
    other_view.__dict__ = ledger.__dict__  # the same bookings without the interruption
    assert allocate_plan(steps, timeline, ledger=ledger)[0].start_ms == 1000


def test_plan_when_overtaken_every_time_is_made_while_others_wait() -> None:
    class Restless(InMemoryLedger):
        attempts = 0

        def snapshot(self) -> LedgerSnapshot:
            self.attempts += 1
            return LedgerSnapshot(-1, ())

    ledger = Restless()
    one, two = (allocate_plan([StepDemand([cpu_job(8, 1000)])], curve((0, *FULL)), ledger=ledger) for _ in range(2))
    assert (one[0].start_ms, two[0].start_ms) == (0, 1000)
    assert ledger.attempts == 2 * OPTIMISTIC_ATTEMPTS
    assert one[0].booking_id == ledger.bookings()[0].booking_id


def test_threads_sharing_a_ledger_never_overcommit() -> None:
    rows = ((0, 4, 32, 100, 16), (3000, 2, 32, 100, 16))
    timeline, ledger = curve(*rows, horizon_ms=None, tail="hold"), InMemoryLedger()
    steps = [StepDemand([cpu_job(2, 700), cpu_job(1, 1200)]), StepDemand([cpu_job(2, 300)], (0,))]
    runs: list[Run] = []

    def plan_some() -> None:
        for _ in range(5):
            for a in allocate_plan(steps, timeline, ledger=ledger, limits=GREEDY):
                c = a.config
                runs.append(Run(a.start_ms, a.end_ms, (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb)))

    threads = [threading.Thread(target=plan_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 40
    assert violations(rows, runs, horizon_ms=None) == []


Problem = tuple[tuple[tuple[int, ...], ...], tuple[tuple[tuple[int, int], ...], ...], tuple[tuple[int, ...], ...], int]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Rows with (time, cpu), options (cpu, latency) per step, dependencies, horizon."""
    times = (0, *sorted(draw(st.sets(st.integers(1, 20), max_size=3))))
    rows = tuple((t, draw(st.integers(0, 5))) for t in times)
    count = draw(st.integers(1, 4))
    option = st.tuples(st.integers(1, 4), st.integers(1, 8))
    options = tuple(tuple(draw(st.lists(option, min_size=1, max_size=2))) for _ in range(count))
    before = tuple(tuple(sorted(draw(st.sets(st.integers(0, i - 1)) if i else st.just(set())))) for i in range(count))
    return rows, options, before, times[-1] + draw(st.integers(5, 25))


def solve(problem: Problem, limits: SearchLimits) -> tuple[Allocation, ...] | None:
    rows, options, before, horizon = problem
    timeline = SystemTimeline.from_rows([(t, cpu, 9, 0, 0) for t, cpu in rows], horizon_ms=horizon)
    steps = [
        StepDemand([ResourceOption(cpu, 0, 0, 0, ms) for cpu, ms in o], b) for o, b in zip(options, before, strict=True)
    ]
    try:
        return allocate_plan(steps, timeline, limits=limits)
    except InfeasibleError:
        return None


def brute_force(problem: Problem) -> int | None:
    """Least makespan over every order and option, each step at its first feasible millisecond."""
    rows, options, before, horizon = problem
    free_at = [max(r for r in rows if r[0] <= t)[1] for t in range(horizon)]
    best: int | None = None
    for order in permutations(range(len(options))):
        if any(order.index(p) > order.index(s) for s, b in enumerate(before) for p in b):
            continue
        for modes in product(*(options[s] for s in order)):
            end = _serial(order, modes, before, list(free_at))
            if end is not None and (best is None or end < best):
                best = end
    return best


def _serial(
    order: tuple[int, ...], modes: tuple[tuple[int, int], ...], before: tuple[tuple[int, ...], ...], free: list[int]
) -> int | None:
    ends: dict[int, int] = {}
    for step, (cpu, ms) in zip(order, modes, strict=True):
        release = max((ends[p] for p in before[step]), default=0)
        starts = (t for t in range(release, len(free) - ms + 1) if min(free[t : t + ms]) >= cpu)
        start = next(starts, None)
        if start is None:
            return None
        for t in range(start, start + ms):
            free[t] -= cpu
        ends[step] = start + ms
    return max(ends.values())


@given(problems())
@settings(max_examples=80, deadline=None)
def test_small_plans_reach_the_brute_force_makespan(problem: Problem) -> None:
    placed = solve(problem, NO_TIME_LIMIT)
    assert (makespan(placed) if placed else None) == brute_force(problem)


@given(problems(), st.sampled_from([GREEDY, SearchLimits(budget_ms=2.0)]))
@settings(max_examples=80, deadline=None)
def test_every_plan_passes_the_independent_checker(problem: Problem, limits: SearchLimits) -> None:
    rows, _, before, horizon = problem
    placed = solve(problem, limits)
    if placed is not None:
        runs = [Run(a.start_ms, a.end_ms, (a.config.cpu_core, 0, 0, 0)) for a in placed]
        full_rows = [(t, cpu, 9, 0, 0) for t, cpu in rows]
        assert violations(full_rows, runs, horizon_ms=horizon, depends_on=before) == []


def test_greedy_plan_is_the_same_every_time() -> None:
    steps = [StepDemand([cpu_job(3, 700), cpu_job(1, 900)], tuple(range(max(0, i - 1), i))) for i in range(6)]
    timeline = curve((0, *FULL), (1500, 2, 32, 100, 16), (2500, *FULL))
    assert len({allocate_plan(steps, timeline, limits=GREEDY) for _ in range(3)}) == 1


@pytest.mark.parametrize("limits", [GREEDY, NO_TIME_LIMIT])
def test_plan_without_steps_when_placed_is_empty(limits: SearchLimits) -> None:
    assert allocate_plan([], curve((0, 2, 32, 100, 16)), limits=limits) == ()
