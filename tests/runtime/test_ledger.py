"""What every ledger promises; each test runs over all of them."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from tests.runtime.ledgers import KINDS, MINUTE_MS, NOON_MS, HandClock, book, minute
from tomas_router.errors import InfeasibleError
from tomas_router.runtime.ledger import (
    BookingTerms,
    EpochMissingError,
    InMemoryLedger,
    LeaseLostError,
    Ledger,
    LedgerConflictError,
    LedgerSnapshot,
    Reservation,
)

pytestmark = pytest.mark.m3

FIRST, SECOND = minute(0), minute(1, (500, 0, 10, 64))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Ledger:
    return KINDS[request.param](tmp_path, clock)


# ---- booking ------------------------------------------------------------------------------------------------


def test_ledger_when_new_is_empty_at_version_zero(ledger: Ledger) -> None:
    assert ledger.snapshot() == LedgerSnapshot(0, ())
    assert ledger.bookings() == ()


def test_booking_and_cancelling_move_the_version_and_restore_the_contents(ledger: Ledger) -> None:
    booking = ledger.book([FIRST, SECOND], expected_version=0)
    assert ledger.snapshot() == LedgerSnapshot(1, (FIRST, SECOND))
    assert ledger.booking(booking).reservations == {0: FIRST, 1: SECOND}
    assert ledger.cancel(booking)
    assert ledger.snapshot() == LedgerSnapshot(2, ())


def test_cancel_when_repeated_changes_nothing(ledger: Ledger) -> None:
    booking = ledger.book([FIRST], expected_version=0)
    assert ledger.cancel(booking)
    assert not ledger.cancel(booking)
    assert not ledger.cancel("never booked")
    assert ledger.snapshot().version == 2


def test_book_when_decided_on_an_old_version_is_refused_and_books_nothing(ledger: Ledger) -> None:
    ledger.book([FIRST], expected_version=0)
    with pytest.raises(LedgerConflictError, match="at version 1, the booking was decided on version 0"):
        ledger.book([SECOND], expected_version=0)
    assert ledger.snapshot().reservations == (FIRST,)


def test_book_when_many_threads_share_one_snapshot_lets_exactly_one_win(ledger: Ledger) -> None:
    start = threading.Barrier(8)
    won: list[str] = []

    def attempt() -> None:
        start.wait()
        with contextlib.suppress(LedgerConflictError):
            won.append(ledger.book([FIRST], expected_version=0))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_book_when_there_is_nothing_to_book_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="at least one reservation"):
        ledger.book([], expected_version=0)
    assert ledger.snapshot().version == 0


def test_book_when_times_are_not_epoch_times_says_what_is_missing(ledger: Ledger) -> None:
    with pytest.raises(EpochMissingError, match=r"start_ms must be in epoch milliseconds .* got 0; .* epoch_ms"):
        ledger.book([Reservation(0, 1000, (1, 0, 0, 0))], expected_version=0)


def test_book_alone_when_nothing_is_wrong_decides_on_the_newest_snapshot(ledger: Ledger) -> None:
    book(ledger, FIRST, tenant="a")
    seen: list[LedgerSnapshot] = []

    def decide(snapshot: LedgerSnapshot) -> list[Reservation]:
        seen.append(snapshot)
        return [SECOND]

    booking = ledger.book_alone(decide, terms=BookingTerms(tenant="b"))
    assert seen == [LedgerSnapshot(1, (FIRST,))]
    assert seen[0].of_tenant("a") == (FIRST,)
    assert ledger.booking(booking).tenant == "b"
    assert ledger.snapshot() == LedgerSnapshot(2, (FIRST, SECOND))


def test_book_alone_when_the_decision_fails_changes_nothing(ledger: Ledger) -> None:
    def decide(snapshot: LedgerSnapshot) -> list[Reservation]:
        raise InfeasibleError("no room")

    with pytest.raises(InfeasibleError, match="no room"):
        ledger.book_alone(decide)
    assert ledger.snapshot() == LedgerSnapshot(0, ())
    assert book(ledger, FIRST)


def test_book_alone_when_a_lease_has_just_ended_sees_and_leaves_no_half_state(ledger: Ledger, clock: HandClock) -> None:
    """A decision that fails takes the end of the lease back with it; the next look ends it again."""
    book(ledger, FIRST, lease_ms=10)
    clock.now_ms += 10

    def decide(snapshot: LedgerSnapshot) -> list[Reservation]:
        assert snapshot.reservations == ()
        raise InfeasibleError("no room")

    with pytest.raises(InfeasibleError):
        ledger.book_alone(decide)
    assert ledger.snapshot() == LedgerSnapshot(2, ())
    ledger.book([SECOND], expected_version=2)
    assert ledger.snapshot() == LedgerSnapshot(3, (SECOND,))


def test_book_alone_when_threads_compete_lets_one_decide_at_a_time(ledger: Ledger) -> None:
    seen: list[int] = []

    def decide(snapshot: LedgerSnapshot) -> list[Reservation]:
        seen.append(snapshot.version)
        return [FIRST]

    threads = [threading.Thread(target=ledger.book_alone, args=(decide,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(8))


def test_booking_when_read_back_says_for_whom_and_by_whom_it_was_made(ledger: Ledger) -> None:
    booking = ledger.booking(book(ledger, FIRST, tenant="vision", thread_id="t-7", plan_id="p-1", lease_ms=5000))
    assert (booking.tenant, booking.thread_id, booking.plan_id) == ("vision", "t-7", "p-1")
    assert (booking.booked_ms, booking.lease_until_ms) == (NOON_MS, NOON_MS + 5000)
    assert booking.holder.pid == os.getpid()
    assert booking.holder.is_running()
    assert ledger.bookings() == (booking,)


# ---- leases -------------------------------------------------------------------------------------------------


def test_lease_when_not_extended_ends_and_the_booking_stops_counting(ledger: Ledger, clock: HandClock) -> None:
    lost, kept = book(ledger, FIRST, lease_ms=5000), book(ledger, SECOND, lease_ms=5001)
    clock.now_ms += 5000
    assert ledger.snapshot() == LedgerSnapshot(3, (SECOND,))
    assert [b.booking_id for b in ledger.bookings()] == [kept]
    assert not ledger.cancel(lost)


def test_lease_when_extended_in_time_holds_and_disturbs_no_planner(ledger: Ledger, clock: HandClock) -> None:
    booking = book(ledger, FIRST, lease_ms=5000)
    for _ in range(4):
        clock.now_ms += 4999
        assert ledger.extend(booking, lease_ms=5000).lease_until_ms == clock.now_ms + 5000
    assert ledger.snapshot() == LedgerSnapshot(1, (FIRST,))


def test_lease_when_extended_by_less_than_it_has_keeps_its_end(ledger: Ledger) -> None:
    booking = book(ledger, FIRST, lease_ms=5000)
    assert ledger.extend(booking, lease_ms=1).lease_until_ms == NOON_MS + 5000


def test_lease_when_none_is_asked_for_ends_with_the_last_reservation(ledger: Ledger, clock: HandClock) -> None:
    booking = book(ledger, SECOND, FIRST)
    assert ledger.booking(booking).lease_until_ms == SECOND.end_ms
    clock.now_ms = SECOND.end_ms
    assert ledger.snapshot().reservations == ()


def test_lease_when_the_clock_is_set_back_stays_lost(ledger: Ledger, clock: HandClock) -> None:
    booking = book(ledger, FIRST, lease_ms=5000)
    clock.now_ms += 5000
    seen = ledger.snapshot()
    assert seen.reservations == ()
    clock.now_ms -= 4000
    with pytest.raises(LeaseLostError):
        ledger.extend(booking, lease_ms=5000)
    ledger.book([FIRST], expected_version=seen.version)


@pytest.mark.parametrize("use", ["extend", "release", "booking"])
def test_lost_lease_when_used_says_when_it_ended(ledger: Ledger, clock: HandClock, use: str) -> None:
    booking = book(ledger, FIRST, lease_ms=5000)
    clock.now_ms += 6234
    arguments = {"lease_ms": 1} if use == "extend" else {}
    with pytest.raises(LeaseLostError, match=rf"{booking}: the lease ended at 2027-01-15T08:00:05.000Z, 1234 ms ago"):
        getattr(ledger, use)(booking, **arguments)


def test_released_booking_when_used_says_that_it_was_released(ledger: Ledger) -> None:
    booking = book(ledger, FIRST, lease_ms=5000)
    ledger.release(booking)
    with pytest.raises(LeaseLostError, match=r"was released at 2027-01-15T08:00:00.000Z"):
        ledger.extend(booking, lease_ms=5000)


def test_unknown_booking_when_used_is_not_known(ledger: Ledger) -> None:
    with pytest.raises(LeaseLostError, match="booking b-0 is not known"):
        ledger.release("b-0")


def test_ended_booking_when_a_day_has_passed_is_forgotten(ledger: Ledger, clock: HandClock) -> None:
    old = book(ledger, FIRST)
    ledger.release(old)
    clock.now_ms += 25 * 60 * MINUTE_MS
    ledger.release(book(ledger, minute(25 * 60)))
    with pytest.raises(LeaseLostError, match="is not known"):
        ledger.release(old)


# ---- early and late -----------------------------------------------------------------------------------------


def test_step_when_released_early_leaves_the_others(ledger: Ledger) -> None:
    booking = book(ledger, FIRST, SECOND)
    ledger.release(booking, step=0)
    assert ledger.snapshot() == LedgerSnapshot(2, (SECOND,))
    assert ledger.booking(booking).reservations == {1: SECOND}


def test_step_when_the_last_one_is_released_ends_the_booking(ledger: Ledger) -> None:
    booking = book(ledger, FIRST, SECOND)
    ledger.release(booking, step=1)
    ledger.release(booking, step=0)
    assert ledger.bookings() == ()
    with pytest.raises(LeaseLostError, match="was released"):
        ledger.release(booking)


def test_late_step_when_extended_holds_on_and_planners_see_it(ledger: Ledger, clock: HandClock) -> None:
    booking = book(ledger, FIRST, lease_ms=MINUTE_MS)
    clock.now_ms += MINUTE_MS - 1
    late = ledger.extend(booking, end_ms=FIRST.end_ms + 700)
    assert late.lease_until_ms == FIRST.end_ms + 700
    assert ledger.snapshot() == LedgerSnapshot(2, (Reservation(FIRST.start_ms, FIRST.end_ms + 700, FIRST.demand),))


def test_late_step_of_several_when_extended_is_named(ledger: Ledger) -> None:
    booking = book(ledger, FIRST, SECOND, lease_ms=5000)
    with pytest.raises(ValueError, match=r"step must be one of \[0, 1\] in booking .*, got None"):
        ledger.extend(booking, end_ms=SECOND.end_ms + 1)
    held = ledger.extend(booking, lease_ms=9000, step=1, end_ms=SECOND.end_ms + 1)
    assert (held.reservations[0], held.reservations[1].end_ms) == (FIRST, SECOND.end_ms + 1)
    assert held.lease_until_ms == NOON_MS + 9000
    assert ledger.booking(booking) == held


def test_end_when_earlier_than_booked_changes_nothing(ledger: Ledger) -> None:
    booking = book(ledger, FIRST)
    assert ledger.extend(booking, end_ms=FIRST.start_ms + 1).reservations == {0: FIRST}
    assert ledger.snapshot().version == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "extend needs lease_ms, end_ms or both"),
        ({"step": 0, "lease_ms": 5}, "extend needs end_ms beside step 0"),
        ({"lease_ms": 0}, "lease_ms must be > 0, got 0"),
        ({"step": 2, "end_ms": NOON_MS}, r"step must be one of \[0\] in booking .*, got 2"),
    ],
)
def test_extend_when_arguments_are_wrong_is_refused(ledger: Ledger, arguments: dict[str, int], message: str) -> None:
    booking = book(ledger, FIRST)
    with pytest.raises(ValueError, match=message):
        ledger.extend(booking, **arguments)
    assert ledger.snapshot().version == 1


def test_release_when_the_step_is_wrong_is_refused(ledger: Ledger) -> None:
    booking = book(ledger, FIRST)
    with pytest.raises(ValueError, match=r"step must be one of \[0\] in booking .*, got 1"):
        ledger.release(booking, step=1)
    assert ledger.snapshot() == LedgerSnapshot(1, (FIRST,))


# ---- ledgers on a timeline's own clock, and impossible values ------------------------------------------------


def test_lease_when_times_are_a_timelines_own_and_none_is_asked_for_does_not_end() -> None:
    ledger = InMemoryLedger()
    booking = book(ledger, Reservation(0, 1000, (1, 0, 0, 0)))
    assert ledger.booking(booking).lease_until_ms is None
    assert ledger.extend(booking, lease_ms=5).lease_until_ms is None


def test_lease_when_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="lease_ms must be > 0, got -1"):
        BookingTerms(lease_ms=-1)


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "demand", "message"),
    [
        (10, 10, (0, 0, 0, 0), "end_ms must lie after start_ms 10, got 10"),
        (0, 1, (0, -1, 0, 0), "demand must be >= 0"),
    ],
)
def test_reservation_when_impossible_is_refused(
    start_ms: int, end_ms: int, demand: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Reservation(start_ms, end_ms, demand)
