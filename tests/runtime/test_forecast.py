from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomas_router import SystemTimeline
from tomas_router.errors import InfeasibleError
from tomas_router.planner import ResourceOption, allocate
from tomas_router.runtime.forecast import ChangeQuantile, LedgerAware, LowestSeen, Persistence, without_bookings
from tomas_router.runtime.ledger import InMemoryLedger, Reservation

pytestmark = pytest.mark.m2

MINUTE = 60_000
EPOCH = 1_700_000_000_000


def history(*cores: float, every_ms: int = MINUTE, epoch_ms: int | None = EPOCH) -> SystemTimeline:
    return SystemTimeline.from_rows([(i * every_ms, c, 8, 50, 4) for i, c in enumerate(cores)], epoch_ms=epoch_ms)


@pytest.mark.parametrize("forecaster", [Persistence(), LowestSeen(), ChangeQuantile()])
def test_forecast_when_made_begins_now_and_offers_nothing_behind_its_horizon(forecaster):
    curve = forecaster.forecast(history(4, 5, 6), 150_000)
    assert (curve.times_ms[0], curve.horizon_ms, curve.tail) == (0, 150_000, "strict")
    assert curve.epoch_ms == EPOCH + 2 * MINUTE
    assert forecaster.forecast(history(4, epoch_ms=None), 1).epoch_ms is None


@pytest.mark.parametrize("forecaster", [Persistence(), LowestSeen(), ChangeQuantile()])
@pytest.mark.parametrize("horizon_ms", [0, -5])
def test_forecast_when_the_horizon_is_not_ahead_is_refused(forecaster, horizon_ms):
    with pytest.raises(ValueError, match=f"horizon_ms must be >= 1, got {horizon_ms}"):
        forecaster.forecast(history(4, 5), horizon_ms)


def test_persistence_when_asked_repeats_the_last_row():
    assert Persistence().forecast(history(4, 5, 6), MINUTE).capacity.tolist() == [[6, 8, 50, 4]]


def test_lowest_seen_when_asked_takes_each_resource_over_its_window_alone():
    seen = SystemTimeline.from_rows([(0, 1, 9, 50, 4), (MINUTE, 7, 3, 50, 4), (2 * MINUTE, 5, 6, 50, 4)])
    assert LowestSeen(MINUTE).forecast(seen, 1).capacity.tolist() == [[5, 3, 50, 4]]
    assert LowestSeen(2 * MINUTE).forecast(seen, 1).capacity.tolist() == [[1, 3, 50, 4]]


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_change_quantile_when_nothing_changed_is_persistence(rows):
    curve = ChangeQuantile(0.1).forecast(history(*[4] * rows), 10 * MINUTE)
    assert curve.capacity.tolist() == [[4, 8, 50, 4]] * 10


def test_change_quantile_when_the_past_fell_steadily_falls_on():
    falling = history(*range(60, 30, -1))
    cores = ChangeQuantile(0.5).forecast(falling, 5 * MINUTE).capacity[:, 0]
    assert cores.tolist() == [30, 29, 28, 27, 26]  # the lower end of each minute: 31 now, 30 in a minute


def test_change_quantile_when_the_past_rose_never_exceeds_what_was_seen():
    assert ChangeQuantile(0.9).forecast(history(*range(30)), 5 * MINUTE).capacity[:, 0].max() == 29


def test_change_quantile_when_more_careful_never_offers_more():
    rng = np.random.default_rng(3)
    bursty = history(*rng.choice([2.0, 8.0], 60))
    curves = [ChangeQuantile(q).forecast(bursty, 10 * MINUTE).capacity for q in (0.05, 0.2, 0.5)]
    assert (curves[0] <= curves[1]).all()
    assert (curves[1] <= curves[2]).all()


@given(st.lists(st.floats(0, 64), min_size=1, max_size=40), st.integers(1, 50 * MINUTE), st.floats(0, 1))
def test_change_quantile_when_given_anything_stays_within_what_was_seen(cores, horizon_ms, quantile):
    curve = ChangeQuantile(quantile).forecast(history(*cores), horizon_ms)
    assert curve.capacity.min() >= 0
    assert curve.capacity[:, 0].max() <= max(cores)
    assert curve.times_ms[-1] < horizon_ms


@pytest.mark.parametrize("options", [{"quantile": 1.5}, {"quantile": float("nan")}, {"step_ms": 0}])
def test_change_quantile_when_misconfigured_says_so(options):
    with pytest.raises(ValueError, match="must be"):
        ChangeQuantile(**options)


def test_bookings_when_given_back_count_while_they_were_active():
    booked = Reservation(EPOCH + MINUTE, EPOCH + 3 * MINUTE, (2000, 1024, 600, 0))
    others = without_bookings(history(4, 2, 2, 4), [booked])
    assert others.capacity.tolist() == [[4, 8, 50, 4], [4, 9, 100, 4], [4, 9, 100, 4], [4, 8, 50, 4]]


def test_step_when_planned_ledger_aware_starts_when_our_own_step_ends():
    """Four cores; ours takes three of them for another two minutes, and the machine shows one free."""
    ledger = InMemoryLedger()
    ledger.book([Reservation(EPOCH, EPOCH + 4 * MINUTE, (3000, 0, 0, 0))], expected_version=0)
    wanted = [ResourceOption(cpu_core=4, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0, latency_ms=1000)]
    seen = history(1, 1, 1)
    with pytest.raises(InfeasibleError):
        allocate(wanted, Persistence().forecast(seen, 10 * MINUTE), ledger=ledger)
    aware = LedgerAware(Persistence(), ledger).forecast(seen, 10 * MINUTE)
    assert allocate(wanted, aware, ledger=ledger).start_ms == 2 * MINUTE


def test_history_when_without_an_epoch_is_refused_beside_a_ledger():
    with pytest.raises(ValueError, match="history must have an epoch_ms beside a ledger"):
        LedgerAware(Persistence(), InMemoryLedger()).forecast(history(1, epoch_ms=None), MINUTE)
