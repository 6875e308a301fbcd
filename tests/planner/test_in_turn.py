"""Waiting in line: order, priorities, starvation, crashed waiters; and quotas. Each over both ledgers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.ledgers import KINDS, NOON_MS, HandClock, book, minute
from tomas_router.errors import InfeasibleError
from tomas_router.planner import ResourceOption, StepDemand, allocate, allocate_plan
from tomas_router.planner.in_turn import allocate_in_turn
from tomas_router.runtime.ledger import (
    BookingTerms,
    EpochMissingError,
    LeaseLostError,
    Ledger,
    LedgerConflictError,
    NotYourTurnError,
    Quota,
    QuotaExceededError,
)
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

SECOND_MS = 1000
FOUR_CORES = ((0, 4, 32, 100, 16),)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Ledger:
    return KINDS[request.param](tmp_path, clock)


def machine(horizon_ms: int = 60_000, epoch_ms: int | None = NOON_MS) -> SystemTimeline:
    return SystemTimeline.from_rows(FOUR_CORES, horizon_ms=horizon_ms, epoch_ms=epoch_ms)


def job(cpu: float, ms: int = 10_000) -> list[StepDemand]:
    return [StepDemand([ResourceOption(cpu, 1, 0, 0, ms)])]


def sleeper(clock: HandClock, events: dict[int, Callable[[], object]] | None = None) -> Callable[[float], None]:
    """Moves the clock, and lets things happen at given ms after noon."""
    due = dict(events or {})

    def sleep(seconds: float) -> None:
        clock.now_ms += round(seconds * 1000)
        for at in sorted(at for at in due if NOON_MS + at <= clock.now_ms):
            due.pop(at)()

    return sleep


# ---- the line -----------------------------------------------------------------------------------------------


def test_line_when_priorities_are_equal_is_first_come_first_served(ledger: Ledger, clock: HandClock) -> None:
    first = ledger.enqueue()
    second = ledger.enqueue()
    clock.now_ms += 1
    third = ledger.enqueue()
    assert [t.ticket_id for t in ledger.waiting()] == [first, second, third]
    assert [ledger.keep_place(t) for t in (third, first, second)] == [2, 0, 1]


def test_line_when_one_has_priority_lets_it_pass_those_of_its_last_seconds(ledger: Ledger, clock: HandClock) -> None:
    old = ledger.enqueue()
    clock.now_ms += 10_001
    young = ledger.enqueue()
    urgent = ledger.enqueue(priority=1)
    assert [t.ticket_id for t in ledger.waiting()] == [old, urgent, young]


def test_book_when_others_wait_is_refused_until_they_are_gone(ledger: Ledger) -> None:
    ticket = ledger.enqueue()
    with pytest.raises(NotYourTurnError, match=r"1 request must be booked first; the first waits since 2027-01-15T08:"):
        book(ledger, minute(0))
    assert ledger.leave(ticket)
    assert not ledger.leave(ticket)
    assert book(ledger, minute(0))


def test_book_when_the_priority_is_higher_passes_the_line(ledger: Ledger) -> None:
    ledger.enqueue()
    assert book(ledger, minute(0), priority=1)


def test_book_when_it_is_the_tickets_turn_gives_the_place_up(ledger: Ledger) -> None:
    first, second = ledger.enqueue(), ledger.enqueue()
    with pytest.raises(NotYourTurnError):
        book(ledger, minute(0), ticket_id=second)
    book(ledger, minute(0), ticket_id=first)
    book(ledger, minute(1), ticket_id=second)
    assert ledger.waiting() == ()
    with pytest.raises(LeaseLostError, match=f"ticket {first} is not in the line"):
        book(ledger, minute(0), ticket_id=first)


def test_book_when_the_version_is_old_keeps_the_place(ledger: Ledger) -> None:
    ticket = ledger.enqueue()
    version = ledger.snapshot().version
    with pytest.raises(LedgerConflictError):
        ledger.book([minute(0)], expected_version=version - 1, terms=BookingTerms(ticket_id=ticket))
    assert ledger.keep_place(ticket) == 0


def test_waiter_when_not_heard_of_for_its_lease_is_forgotten(ledger: Ledger, clock: HandClock) -> None:
    crashed = ledger.enqueue(lease_ms=5000)
    patient = ledger.enqueue(lease_ms=5000)
    clock.now_ms += 4000
    assert ledger.keep_place(patient, lease_ms=5000) == 1
    clock.now_ms += 1000
    assert ledger.keep_place(patient) == 0
    with pytest.raises(LeaseLostError, match="not heard of for its lease"):
        ledger.keep_place(crashed)


# ---- waiting for room ---------------------------------------------------------------------------------------


def test_plan_when_there_is_room_is_booked_without_waiting(ledger: Ledger, clock: HandClock) -> None:
    (placed,) = allocate_in_turn(job(4), machine(), ledger, max_wait_ms=0, t_inf_ms=300, clock_ms=clock)
    assert placed.start_ms == 300
    assert ledger.waiting() == ()


def test_plan_when_room_is_made_while_it_waits_starts_then(ledger: Ledger, clock: HandClock) -> None:
    blocker = allocate_plan(job(4, 55_000), machine(), ledger=ledger)[0].booking_id
    sleep = sleeper(clock, {2000: lambda: ledger.release(str(blocker))})
    (placed,) = allocate_in_turn(job(4), machine(), ledger, max_wait_ms=10_000, clock_ms=clock, sleep=sleep)
    assert 2000 <= placed.start_ms <= 2100
    assert ledger.waiting() == ()


def test_plan_when_nothing_is_freed_in_time_says_what_was_missing(ledger: Ledger, clock: HandClock) -> None:
    allocate_plan(job(4, 55_000), machine(), ledger=ledger)
    with pytest.raises(InfeasibleError, match="waited 3000 ms: ") as caught:
        allocate_in_turn(job(4), machine(), ledger, max_wait_ms=3000, clock_ms=clock, sleep=sleeper(clock))
    assert caught.value.shortfalls[0].resource == "cpu_cores"
    assert clock.now_ms == NOON_MS + 3000
    assert ledger.waiting() == ()


def test_large_plan_when_small_ones_keep_coming_is_not_starved(ledger: Ledger, clock: HandClock) -> None:
    """Without the line, each freed core would go to the next small job for ever."""
    small: list[str] = [str(allocate_plan(job(1, 50_000), machine(), ledger=ledger)[0].booking_id) for _ in range(4)]
    refused: list[str] = []

    def one_ends_and_another_comes() -> None:
        ledger.release(small.pop(0))
        try:
            now = clock.now_ms - NOON_MS
            small.append(str(allocate_plan(job(1, 50_000), machine(), now, ledger)[0].booking_id))
        except NotYourTurnError as error:
            refused.append(error.reason)

    sleep = sleeper(clock, dict.fromkeys((1000, 2000, 3000, 4000), one_ends_and_another_comes))
    (placed,) = allocate_in_turn(job(4, 40_000), machine(), ledger, max_wait_ms=20_000, clock_ms=clock, sleep=sleep)
    assert 4000 <= placed.start_ms <= 4100
    assert len(refused) == 4


@pytest.mark.parametrize("percent", [100, 10])
def test_plan_when_waiting_cannot_help_does_not_wait(ledger: Ledger, clock: HandClock, percent: int) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=percent))
    book(ledger, minute(0))
    with pytest.raises(InfeasibleError):
        allocate_in_turn(
            job(5 if percent == 100 else 1), machine(), ledger, max_wait_ms=9000, terms=of("docs"), clock_ms=clock
        )
    assert clock.now_ms == NOON_MS
    assert ledger.waiting() == ()


def test_plan_when_time_passes_until_it_cannot_end_any_more_stops_waiting(ledger: Ledger, clock: HandClock) -> None:
    allocate_plan(job(4, 55_000), machine(), ledger=ledger)
    with pytest.raises(InfeasibleError):
        allocate_in_turn(job(4), machine(), ledger, max_wait_ms=600_000, clock_ms=clock, sleep=sleeper(clock))
    assert clock.now_ms == NOON_MS + 50_050  # ten seconds before the horizon it was still possible


def test_plan_when_an_earlier_request_waits_lines_up_behind_it(ledger: Ledger, clock: HandClock) -> None:
    earlier = ledger.enqueue()
    sleep = sleeper(clock, {700: lambda: ledger.leave(earlier)})
    (placed,) = allocate_in_turn(job(1), machine(), ledger, max_wait_ms=5000, clock_ms=clock, sleep=sleep)
    assert placed.start_ms == 700


def test_waiting_when_the_timeline_has_no_epoch_is_refused(ledger: Ledger) -> None:
    with pytest.raises(EpochMissingError, match="epoch_ms must be set to wait"):
        allocate_in_turn(job(1), machine(epoch_ms=None), ledger, max_wait_ms=1)


def test_waiting_when_it_is_interrupted_leaves_the_line(ledger: Ledger, clock: HandClock) -> None:
    allocate_plan(job(4, 55_000), machine(), ledger=ledger)

    def interrupted(seconds: float) -> None:
        assert len(ledger.waiting()) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        allocate_in_turn(job(4), machine(), ledger, max_wait_ms=5000, clock_ms=clock, sleep=interrupted)
    assert ledger.waiting() == ()


# ---- quotas -------------------------------------------------------------------------------------------------


def of(tenant: str) -> BookingTerms:
    return BookingTerms(tenant=tenant)


def test_tenant_when_its_quota_is_used_up_waits_though_the_machine_is_free(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=50))
    starts = [allocate_plan(job(2), machine(), ledger=ledger, terms=of("docs"))[0].start_ms for _ in range(2)]
    assert starts == [0, 10_000]
    assert allocate_plan(job(2), machine(), ledger=ledger, terms=of("vision"))[0].start_ms == 0


def test_tenant_when_others_use_the_machine_gets_no_more_than_is_free(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=50))
    allocate_plan(job(3), machine(), ledger=ledger, terms=of("vision"))
    assert allocate_plan(job(2), machine(), ledger=ledger, terms=of("docs"))[0].start_ms == 10_000


def test_plan_when_larger_than_the_quota_is_infeasible_and_says_so(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=49))
    with pytest.raises(QuotaExceededError, match="has room, but not within the quota of tenant 'docs': ") as caught:
        allocate_plan(job(2), machine(), ledger=ledger, terms=of("docs"))
    assert [(s.resource, s.needed, s.available) for s in caught.value.shortfalls] == [("cpu_cores", 2.0, 1.96)]


def test_plan_when_the_machine_is_too_small_is_infeasible_without_blaming_the_quota(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=50))
    with pytest.raises(InfeasibleError) as caught:
        allocate_plan(job(5), machine(), ledger=ledger, terms=of("docs"))
    assert not isinstance(caught.value, QuotaExceededError)
    assert [(s.needed, s.available) for s in caught.value.shortfalls] == [(5.0, 4.0)]


def test_waiter_when_only_its_quota_holds_it_up_does_not_hold_up_others(ledger: Ledger, clock: HandClock) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=50))
    own = allocate_plan(job(2, 55_000), machine(), ledger=ledger, terms=of("docs"))[0].booking_id
    others: list[int] = []

    def another_tenant_comes() -> None:
        others.append(allocate_plan(job(1, 1000), machine(), clock.now_ms - NOON_MS, ledger)[0].start_ms)

    events = {1000: another_tenant_comes, 2000: lambda: ledger.release(str(own))}
    (placed,) = allocate_in_turn(
        job(2), machine(), ledger, max_wait_ms=5000, terms=of("docs"), clock_ms=clock, sleep=sleeper(clock, events)
    )
    assert others == [1000]
    assert placed.start_ms == 2000


def test_quota_when_the_curve_drops_is_a_share_of_what_is_left(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=50))
    timeline = SystemTimeline.from_rows(
        ((0, 2, 32, 100, 16), (5000, 4, 32, 100, 16)), horizon_ms=60_000, epoch_ms=NOON_MS
    )
    option = ResourceOption(2, 1, 0, 0, 1000)
    assert allocate([option], timeline, ledger=ledger, terms=of("docs")).start_ms == 5000


def test_quota_when_lifted_limits_no_more(ledger: Ledger) -> None:
    ledger.set_quota("docs", Quota(cpu_percent=0))
    ledger.set_quota("docs", Quota(cpu_percent=25))
    assert ledger.snapshot().quotas == {"docs": Quota(cpu_percent=25)}
    ledger.set_quota("docs", None)
    assert ledger.snapshot().quotas == {}
    assert allocate_plan(job(4), machine(), ledger=ledger, terms=of("docs"))[0].start_ms == 0


def test_quota_when_set_refuses_bookings_decided_before(ledger: Ledger) -> None:
    version = ledger.snapshot().version
    ledger.set_quota("docs", Quota(cpu_percent=0))
    with pytest.raises(LedgerConflictError):
        ledger.book([minute(0)], expected_version=version)


@pytest.mark.parametrize("percent", [-1, 101, 0.5])
def test_quota_when_no_percentage_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match=rf"gpu_percent must be a whole number from 0 to 100, got {percent}"):
        Quota(gpu_percent=percent)  # type: ignore[arg-type]
