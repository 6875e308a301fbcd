"""Allocation over ledgers in epoch time: timelines of several agents, terms, conflicts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.planner.independent_checker import Run, violations
from tests.runtime.ledgers import KINDS, NOON_MS, HandClock
from tomas_router.errors import InfeasibleError
from tomas_router.planner import ResourceOption, StepDemand, allocate, allocate_plan
from tomas_router.planner.allocator import GREEDY
from tomas_router.runtime.ledger import BookingTerms, EpochMissingError, Ledger, LedgerSnapshot
from tomas_router.runtime.sqlite_ledger import SqliteLedger
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m3

TWO_CORES = ((0, 2, 32, 100, 16),)
JOB = ResourceOption(2, 4, 0, 0, 1000)


def two_cores(epoch_ms: int | None = NOON_MS, horizon_ms: int = 60_000) -> SystemTimeline:
    return SystemTimeline.from_rows(TWO_CORES, horizon_ms=horizon_ms, epoch_ms=epoch_ms)


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return KINDS[request.param](tmp_path, HandClock())


def test_agents_when_submitted_at_different_times_share_the_machine(ledger: Ledger) -> None:
    early, later = two_cores(NOON_MS), two_cores(NOON_MS + 400)
    assert allocate([JOB], early, ledger=ledger).end_ms == 1000
    assert allocate([JOB], later, ledger=ledger).start_ms == 600
    assert [r.start_ms for r in ledger.snapshot().reservations] == [NOON_MS, NOON_MS + 1000]


def test_agent_when_another_ends_before_its_epoch_is_not_held_up(ledger: Ledger) -> None:
    allocate([JOB], two_cores(NOON_MS), ledger=ledger)
    assert allocate([JOB], two_cores(NOON_MS + 1000), ledger=ledger).start_ms == 0


def test_timeline_without_epoch_when_the_ledger_is_shared_says_what_to_set(ledger: Ledger) -> None:
    timeline = two_cores(epoch_ms=None)
    with pytest.raises(EpochMissingError, match=f"timeline {timeline.timeline_id}: epoch_ms must be set .* got None"):
        allocate([JOB], timeline, ledger=ledger)
    assert ledger.snapshot() == LedgerSnapshot(0, ())
    assert allocate([JOB], timeline.with_epoch(NOON_MS), ledger=ledger).start_ms == 0


def test_plan_when_booked_carries_its_terms_and_one_lease(ledger: Ledger) -> None:
    terms = BookingTerms(lease_ms=2500, tenant="vision", plan_id="p")
    placed = allocate_plan([StepDemand([JOB]), StepDemand([JOB], (0,))], two_cores(), ledger=ledger, terms=terms)
    (booking,) = ledger.bookings()
    assert {a.booking_id for a in placed} == {booking.booking_id}
    assert (booking.tenant, booking.plan_id, booking.lease_until_ms) == ("vision", "p", NOON_MS + 2500)
    assert [booking.reservations[i].start_ms - NOON_MS for i in (0, 1)] == [placed[0].start_ms, placed[1].start_ms]


def test_lease_when_it_ends_gives_the_machine_to_the_next(tmp_path: Path) -> None:
    clock = HandClock()
    ledger = SqliteLedger(tmp_path / "l", clock_ms=clock)
    long_job, timeline = ResourceOption(2, 4, 0, 0, 50_000), two_cores()
    allocate([long_job], timeline, ledger=ledger, terms=BookingTerms(lease_ms=3000))
    with pytest.raises(InfeasibleError):
        allocate([long_job], timeline, ledger=ledger)
    clock.now_ms += 3000
    assert allocate([long_job], timeline, release_ms=3000, ledger=ledger).start_ms == 3000


def test_late_step_when_extended_moves_the_next_plan(ledger: Ledger) -> None:
    first = allocate([JOB], two_cores(), ledger=ledger)
    assert first.booking_id is not None
    ledger.extend(first.booking_id, end_ms=NOON_MS + 1700)
    assert allocate([JOB], two_cores(), ledger=ledger).start_ms == 1700


def test_plan_when_overtaken_by_another_object_on_the_file_is_made_again(tmp_path: Path) -> None:
    class Overtaken(SqliteLedger):
        """Somebody else takes the machine after the first snapshot is read."""

        def snapshot(self) -> LedgerSnapshot:
            seen = super().snapshot()
            if seen.version == 0:
                allocate([JOB], two_cores(), ledger=SqliteLedger(self.path, clock_ms=HandClock()))
            return seen

    assert allocate([JOB], two_cores(), ledger=Overtaken(tmp_path / "l", clock_ms=HandClock())).start_ms == 1000


def test_threads_when_each_opens_the_file_never_overcommit(tmp_path: Path) -> None:
    rows = ((0, 4, 32, 100, 16), (3000, 2, 32, 100, 16))
    timeline = SystemTimeline.from_rows(rows, tail="hold", epoch_ms=NOON_MS)
    steps = [
        StepDemand([ResourceOption(2, 4, 0, 0, 700), ResourceOption(1, 4, 0, 0, 1200)]),
        StepDemand([ResourceOption(2, 4, 0, 0, 300)], (0,)),
    ]
    runs: list[Run] = []

    def plan_some(shared: SqliteLedger | None) -> None:
        ledger = shared or SqliteLedger(tmp_path / "l", clock_ms=HandClock())
        for _ in range(4):
            for a in allocate_plan(steps, timeline, ledger=ledger, limits=GREEDY):
                c = a.config
                runs.append(Run(a.start_ms, a.end_ms, (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb)))

    one_object = SqliteLedger(tmp_path / "l", clock_ms=HandClock())
    threads = [threading.Thread(target=plan_some, args=(ledger,)) for ledger in (one_object, one_object, None, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 32
    assert violations(rows, runs, horizon_ms=None) == []
