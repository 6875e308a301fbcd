"""Heartbeats from a real thread, in real time, over both ledgers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.runtime.ledgers import DEMAND, KINDS, book
from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import LeaseLostError, Ledger, Reservation
from tomas_router.runtime.sqlite_ledger import SqliteLedger

pytestmark = pytest.mark.m3

LEASE_MS = 600


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return KINDS[request.param](tmp_path, wall_clock_ms)


def piece(lasts_ms: int) -> Reservation:
    start = wall_clock_ms()
    return Reservation(start, start + lasts_ms, DEMAND)


def eventually(what: object, within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_lease_when_the_work_outlasts_it_is_kept_and_then_released(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000), piece(60_000), lease_ms=LEASE_MS)
    version = ledger.snapshot().version
    with KeepLease(ledger, booking, lease_ms=LEASE_MS) as lease:
        time.sleep(1.5 * LEASE_MS / 1000)
        assert ledger.snapshot().version == version  # nobody has to plan again
        assert not lease.lost.is_set()
    assert ledger.snapshot().reservations == ()
    assert not lease.lost.is_set()


def test_step_when_it_runs_late_keeps_what_it_holds(ledger: Ledger) -> None:
    booking, began = book(ledger, piece(250), lease_ms=LEASE_MS), wall_clock_ms()
    with KeepLease(ledger, booking, lease_ms=LEASE_MS):
        while wall_clock_ms() < began + 1.5 * LEASE_MS:
            now = wall_clock_ms()
            assert ledger.snapshot().reservations[0].end_ms > now
            time.sleep(0.02)
    assert ledger.bookings() == ()


def test_step_when_it_ends_in_time_is_not_prolonged(ledger: Ledger) -> None:
    first, second = piece(20_000), piece(30_000)
    booking = book(ledger, first, second, lease_ms=60_000)
    with KeepLease(ledger, booking, lease_ms=LEASE_MS, step=0):
        time.sleep(LEASE_MS / 1000)
        assert ledger.booking(booking).reservations == {0: first, 1: second}
    assert ledger.booking(booking).reservations == {1: second}


def test_booking_when_cancelled_by_somebody_else_is_reported_lost(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000), lease_ms=LEASE_MS)
    with KeepLease(ledger, booking, lease_ms=LEASE_MS) as lease:
        ledger.cancel(booking)
        assert eventually(lease.lost.is_set)


def test_booking_when_lost_at_the_end_only_is_reported_without_losing_the_work(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000), lease_ms=60_000)
    with KeepLease(ledger, booking, lease_ms=60_000) as lease:
        ledger.cancel(booking)
    assert lease.lost.is_set()


def test_booking_when_lost_before_the_work_starts_it_not(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000))
    ledger.cancel(booking)
    with pytest.raises(LeaseLostError), KeepLease(ledger, booking, lease_ms=LEASE_MS):
        pytest.fail("the block was entered")


def test_work_when_it_fails_frees_what_it_held(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000))
    with pytest.raises(RuntimeError, match="out of memory"), KeepLease(ledger, booking, lease_ms=LEASE_MS):
        raise RuntimeError("out of memory")
    assert ledger.bookings() == ()


def test_ledger_when_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    hasty, other = SqliteLedger(tmp_path / "l", busy_timeout_ms=20), SqliteLedger(tmp_path / "l")
    booking = book(hasty, piece(60_000), lease_ms=900)
    with KeepLease(hasty, booking, lease_ms=900) as lease:
        first_end = other.booking(booking).lease_until_ms or 0
        with other._file.write():
            time.sleep(0.4)  # the first heartbeat comes in vain
        assert eventually(lambda: (other.booking(booking).lease_until_ms or 0) > first_end)
        assert not lease.lost.is_set()
    assert other.bookings() == ()


def test_ledger_when_gone_at_the_end_leaves_the_work_done_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = SqliteLedger(tmp_path / "l")
    booking = book(ledger, piece(60_000), lease_ms=60_000)
    with KeepLease(ledger, booking, lease_ms=60_000):
        ledger.path.unlink()
    assert "was not released and ends with its lease" in caplog.text


def test_step_when_released_early_leaves_the_others_and_is_not_released_again(ledger: Ledger) -> None:
    booking = book(ledger, piece(60_000), piece(60_000), lease_ms=LEASE_MS)
    with KeepLease(ledger, booking, lease_ms=LEASE_MS, step=0) as lease:
        lease.release()
        assert set(ledger.booking(booking).reservations) == {1}
        lease.release()
    assert set(ledger.booking(booking).reservations) == {1}
    assert not lease.lost.is_set()
