from __future__ import annotations

import contextlib
import threading

import pytest

from tomas_router.runtime.ledger import InMemoryLedger, LedgerConflictError, LedgerSnapshot, Reservation

pytestmark = pytest.mark.m3

ONE_CORE = Reservation(0, 1000, (1000, 1024, 0, 0))


def test_new_ledger_is_empty_at_version_zero() -> None:
    assert InMemoryLedger().snapshot() == LedgerSnapshot(0, ())


def test_booking_and_cancelling_move_the_version_and_restore_the_contents() -> None:
    ledger = InMemoryLedger()
    booking = ledger.book([ONE_CORE, ONE_CORE], expected_version=0)
    assert ledger.snapshot() == LedgerSnapshot(1, (ONE_CORE, ONE_CORE))
    assert ledger.reservations(booking) == (ONE_CORE, ONE_CORE)
    assert ledger.cancel(booking)
    assert ledger.snapshot() == LedgerSnapshot(2, ())


def test_second_cancel_of_a_booking_changes_nothing() -> None:
    ledger = InMemoryLedger()
    booking = ledger.book([ONE_CORE], expected_version=0)
    assert ledger.cancel(booking)
    assert not ledger.cancel(booking)
    assert not ledger.cancel("never booked")
    assert ledger.snapshot().version == 2


def test_booking_against_an_old_version_is_refused_and_books_nothing() -> None:
    ledger = InMemoryLedger()
    ledger.book([ONE_CORE], expected_version=0)
    with pytest.raises(LedgerConflictError, match="at version 1, the booking was decided on version 0"):
        ledger.book([ONE_CORE], expected_version=0)
    assert len(ledger.snapshot().reservations) == 1


def test_of_many_threads_on_one_snapshot_exactly_one_wins() -> None:
    ledger, start = InMemoryLedger(), threading.Barrier(8)
    won: list[str] = []

    def attempt() -> None:
        start.wait()
        with contextlib.suppress(LedgerConflictError):
            won.append(ledger.book([ONE_CORE], expected_version=0))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "demand", "message"),
    [
        (10, 10, (0, 0, 0, 0), "end_ms must lie after start_ms 10, got 10"),
        (0, 1, (0, -1, 0, 0), "demand must be >= 0"),
    ],
)
def test_impossible_reservation_is_refused(
    start_ms: int, end_ms: int, demand: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Reservation(start_ms, end_ms, demand)
