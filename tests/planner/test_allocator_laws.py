"""Laws that every single-step allocation obeys, and agreement with a brute-force grid."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.independent_checker import Run, earliest_completion_on_grid, violations
from tomas_router.errors import InfeasibleError
from tomas_router.planner import Allocation, ResourceOption, allocate
from tomas_router.planner.demand import IntegerOptions
from tomas_router.planner.skyline import Skyline
from tomas_router.planner.sweep import earliest_starts
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.residual import FOREVER_MS, ResidualCapacity
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

QUANTITY = st.tuples(*[st.integers(0, 4)] * 4)


@dataclass(frozen=True)
class Case:
    rows: tuple[tuple[int, ...], ...]  # time_ms and four quantities
    options: tuple[tuple[tuple[int, int, int, int], int], ...]  # demand, latency_ms
    horizon_ms: int
    release_ms: int

    def timeline(self, shift_ms: int = 0) -> SystemTimeline:
        rows = [(row[0] + shift_ms, *row[1:]) for row in self.rows]
        return SystemTimeline.from_rows(rows, horizon_ms=self.horizon_ms + shift_ms)

    def resource_options(self) -> list[ResourceOption]:
        return [ResourceOption(*map(float, demand), float(latency)) for demand, latency in self.options]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    times = sorted(draw(st.sets(st.integers(0, 30), min_size=1, max_size=6)))
    rows = tuple((t, *draw(QUANTITY)) for t in times)
    options = tuple(draw(st.lists(st.tuples(QUANTITY, st.integers(1, 12)), min_size=1, max_size=4)))
    return Case(rows, options, times[-1] + draw(st.integers(1, 20)), draw(st.integers(0, 40)))


def answer(case: Case) -> Allocation | None:
    try:
        return allocate(case.resource_options(), case.timeline(), case.release_ms)
    except InfeasibleError:
        return None


@given(cases())
@settings(max_examples=200, deadline=None)
def test_completion_equals_brute_force_on_a_1_ms_grid(case: Case) -> None:
    got = answer(case)
    best = earliest_completion_on_grid(case.rows, case.options, horizon_ms=case.horizon_ms, release_ms=case.release_ms)
    assert (got.end_ms if got else None) == best


@given(cases())
@settings(max_examples=100, deadline=None)
def test_answer_passes_the_independent_checker(case: Case) -> None:
    got = answer(case)
    if got is not None:
        run = Run(got.start_ms, got.end_ms, case.options[got.option_index][0])
        assert violations(case.rows, [run], horizon_ms=case.horizon_ms, release_ms=case.release_ms) == []


@given(cases(), QUANTITY)
@settings(max_examples=100, deadline=None)
def test_more_capacity_never_worsens_completion(case: Case, extra: tuple[int, ...]) -> None:
    richer = Case(
        tuple((row[0], *(v + e for v, e in zip(row[1:], extra, strict=True))) for row in case.rows),
        case.options, case.horizon_ms, case.release_ms,
    )  # fmt: skip
    before, after = answer(case), answer(richer)
    if before is not None:
        assert after is not None
        assert after.end_ms <= before.end_ms


@given(cases(), st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_later_release_never_improves_completion(case: Case, delay_ms: int) -> None:
    before = answer(case)
    after = answer(Case(case.rows, case.options, case.horizon_ms, case.release_ms + delay_ms))
    if after is not None:
        assert before is not None
        assert before.end_ms <= after.end_ms


@given(cases(), st.integers(1, 10**12))
@settings(max_examples=100, deadline=None)
def test_shifting_curve_and_release_shifts_the_answer(case: Case, shift_ms: int) -> None:
    got = answer(case)
    try:
        shifted = allocate(case.resource_options(), case.timeline(shift_ms), case.release_ms + shift_ms)
    except InfeasibleError:
        shifted = None
    assert (got is None) == (shifted is None)
    if got is not None and shifted is not None:
        assert (shifted.option_index, shifted.start_ms) == (got.option_index, got.start_ms + shift_ms)


@given(cases(), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_splitting_a_piece_changes_nothing(case: Case, at_ms: int) -> None:
    held = [row for row in case.rows if row[0] < at_ms]
    if held and at_ms < case.horizon_ms and at_ms not in {row[0] for row in case.rows}:
        rows = tuple(sorted((*case.rows, (at_ms, *held[-1][1:]))))
        assert answer(Case(rows, case.options, case.horizon_ms, case.release_ms)) == answer(case)


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_of_options_never_changes_the_completion(case: Case, random: object) -> None:
    shuffled = list(case.options)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    got = answer(case)
    other = answer(Case(case.rows, tuple(shuffled), case.horizon_ms, case.release_ms))
    assert (got.end_ms if got else None) == (other.end_ms if other else None)


@given(cases(), QUANTITY, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_dominated_option_changes_nothing(case: Case, more: tuple[int, ...], longer_ms: int) -> None:
    demand, latency = case.options[0]
    worse = tuple(d + m for d, m in zip(demand, more, strict=True))
    options = (*case.options, (worse, latency + longer_ms))
    assert answer(Case(case.rows, options, case.horizon_ms, case.release_ms)) == answer(case)


@given(cases(), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_answer_on_a_coarse_lower_envelope_is_feasible_on_the_exact_curve(case: Case, width_ms: int) -> None:
    first = case.rows[0][0]
    coarse = []
    for start in range(first, case.horizon_ms, width_ms):
        at_start = [row for row in case.rows if row[0] <= start][-1]
        inside = [at_start, *(row for row in case.rows if start < row[0] < start + width_ms)]
        coarse.append((start, *(min(row[r] for row in inside) for r in range(1, 5))))
    got = answer(Case(tuple(coarse), case.options, case.horizon_ms, case.release_ms))
    if got is not None:
        run = Run(got.start_ms, got.end_ms, case.options[got.option_index][0])
        assert violations(case.rows, [run], horizon_ms=case.horizon_ms, release_ms=case.release_ms) == []


@given(cases())
@settings(max_examples=100, deadline=None)
def test_booking_then_cancelling_restores_the_curve_exactly(case: Case) -> None:
    ledger, timeline = InMemoryLedger(), case.timeline()
    untouched = ResidualCapacity.of(timeline, ledger.snapshot().reservations)
    try:
        got = allocate(case.resource_options(), timeline, case.release_ms, ledger)
    except InfeasibleError:
        assert ledger.snapshot().reservations == ()
        return
    assert len(ledger.snapshot().reservations) == 1
    assert got.booking_id is not None
    assert ledger.cancel(got.booking_id)
    restored = ResidualCapacity.of(timeline, ledger.snapshot().reservations)
    assert restored.starts_N.tolist() == untouched.starts_N.tolist()
    assert restored.free_RN.tolist() == untouched.free_RN.tolist()


@given(cases())
@settings(max_examples=200, deadline=None)
def test_skyline_and_sweep_agree_on_every_earliest_start(case: Case) -> None:
    residual = ResidualCapacity.of(case.timeline())
    options = IntegerOptions.of(case.resource_options())
    skyline = Skyline.of(residual)
    scanned = [
        skyline.first_start(options.demand(k), int(options.latency_K[k]), case.release_ms, FOREVER_MS)
        for k in range(len(options))
    ]
    swept = earliest_starts(residual, options, case.release_ms).tolist()
    assert [FOREVER_MS if start is None else start for start in scanned] == swept
