"""One ledger, several drivers and tasks: a real actor with a name."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.on_ray.in_workers import place_steps
from tests.runtime.ledgers import DEMAND, book, minute
from tomas_router.errors import InfeasibleError
from tomas_router.runtime import ray_ledger
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import (
    BookingTerms,
    EpochMissingError,
    LeaseLostError,
    LedgerConflictError,
    NotYourTurnError,
    Quota,
    Reservation,
)
from tomas_router.runtime.ledger_errors import LedgerActorError, LedgerBusyError
from tomas_router.runtime.ray_ledger import RayLedger

FIRST, SECOND = minute(0), minute(1, (500, 0, 10, 64))


@pytest.fixture(scope="module")
def actor(cluster):
    ledger = RayLedger("shared", grace_ms=2500)
    yield ledger
    ledger.end()


@pytest.fixture
def ledger(actor):
    for booking in actor.bookings():
        actor.cancel(booking.booking_id)
    for ticket in actor.waiting():
        actor.leave(ticket.ticket_id)
    return actor


# ---- the protocol -------------------------------------------------------------------------------------------


def test_booking_when_the_version_is_the_newest_is_held_by_this_process(ledger):
    booking_id = book(ledger, FIRST, SECOND, tenant="vision", lease_ms=60_000)
    booking = ledger.booking(booking_id)
    assert booking.reservations == {0: FIRST, 1: SECOND}
    assert booking.tenant == "vision"
    assert booking.holder.pid == os.getpid()
    assert ledger.snapshot().reservations == (FIRST, SECOND)
    ledger.release(booking_id, step=0)
    assert ledger.booking(booking_id).reservations == {1: SECOND}
    assert ledger.cancel(booking_id)
    assert not ledger.cancel(booking_id)


def test_booking_when_something_changed_is_refused_with_the_ledgers_own_error(ledger):
    version = ledger.snapshot().version
    book(ledger, FIRST)
    with pytest.raises(LedgerConflictError, match=f"decided on version {version}$"):
        ledger.book([SECOND], expected_version=version)
    assert ledger.snapshot().reservations == (FIRST,)


def test_errors_when_raised_in_the_actor_are_those_of_every_ledger(ledger):
    with pytest.raises(EpochMissingError):
        book(ledger, Reservation(0, 10, DEMAND))
    with pytest.raises(LeaseLostError, match="not known"):
        ledger.extend("nothing", lease_ms=1000)
    ticket = ledger.enqueue(priority=3, tenant="a")
    assert ledger.keep_place(ticket) == 0
    assert (ledger.waiting()[0].holder.pid, ledger.waiting()[0].priority) == (os.getpid(), 3)
    with pytest.raises(NotYourTurnError, match="1 request must be booked first"):
        book(ledger, FIRST)
    assert ledger.leave(ticket)


def test_lease_when_it_ends_frees_the_booking_and_a_heartbeat_keeps_it(ledger):
    lost, kept = book(ledger, FIRST, lease_ms=300), book(ledger, SECOND, lease_ms=300)
    with KeepLease(ledger, kept, lease_ms=300) as lease:
        time.sleep(0.8)
        assert not lease.lost.is_set()
        assert [b.booking_id for b in ledger.bookings()] == [kept]
    with pytest.raises(LeaseLostError, match="the lease ended"):
        ledger.extend(lost, lease_ms=300)
    assert ledger.bookings() == ()


def test_quota_when_set_by_one_is_seen_by_all(ledger):
    ledger.set_quota("vision", Quota(cpu_percent=50))
    same = pickle.loads(pickle.dumps(ledger))  # noqa: S301 - our own
    assert same.snapshot().quotas == {"vision": Quota(cpu_percent=50)}
    ledger.set_quota("vision", None)
    assert ledger.snapshot().quotas == {}


# ---- deciding alone -----------------------------------------------------------------------------------------


def test_deciding_alone_when_others_ask_keeps_them_waiting_until_it_has_booked(ledger):
    order = []

    def decide(snapshot):
        order.append("decides")
        threading.Timer(0.1, lambda: order.append("waited")).start()
        time.sleep(0.3)
        return [FIRST]

    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(ledger.book_alone, decide)
        while not order:
            time.sleep(0.01)
        assert ledger.snapshot().reservations == (FIRST,)
    assert order == ["decides", "waited"]
    assert ledger.booking(alone.result()).holder.pid == os.getpid()


def test_deciding_alone_when_it_raises_leaves_the_ledger_as_it_was_and_open(ledger):
    def decide(snapshot):
        raise InfeasibleError("too large")

    with pytest.raises(InfeasibleError, match="too large"):
        ledger.book_alone(decide)
    assert book(ledger, FIRST)


def test_deciding_alone_when_it_takes_too_long_decides_again_on_what_others_booked(ledger, monkeypatch):
    seen = []

    def decide(snapshot):
        seen.append(snapshot.reservations)
        if len(seen) == 1:
            time.sleep(ray_ledger.ALONE_S + 0.3)
            book(ledger, FIRST)  # others are let in
        return [SECOND]

    ledger.book_alone(decide)
    assert seen == [(), (FIRST,)]
    assert ledger.snapshot().reservations == (FIRST, SECOND)


# ---- several processes --------------------------------------------------------------------------------------


def test_tasks_when_they_book_at_the_same_time_never_exceed_the_machine(ledger, tmp_path):
    import ray

    remote = ray.remote(num_cpus=0.5)(place_steps)
    both = ray.get([remote.remote(ledger, 12, tmp_path), remote.remote(ledger, 12, tmp_path)])
    placed = sorted(start for made in both for start, _ in made)
    # 24 steps on two cores fill exactly twelve minutes: nothing overlaps a third time, nothing is left idle
    assert placed == [60_000 * (number // 2) for number in range(24)]
    assert len({b.holder.pid for b in ledger.bookings()}) == 2


def test_driver_when_another_process_sees_the_bookings_of_this_one_and_leaves_its_own(ledger, cluster):
    mine = book(ledger, FIRST)
    code = (
        "import ray\n"
        f"ray.init(address={cluster['address']!r}, log_to_driver=False, configure_logging=False)\n"
        "from tests.runtime.ledgers import book, minute\n"
        "from tomas_router.runtime.ray_ledger import RayLedger\n"
        "ledger = RayLedger('shared')\n"
        "print(ledger.bookings()[0].booking_id, book(ledger, minute(5), lease_ms=60_000))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen, theirs = done.stdout.split()[-2:]
    assert seen == mine
    assert ledger.booking(theirs).holder.pid not in (os.getpid(), 0)  # its driver has gone, its lease has not


# ---- when the actor dies ------------------------------------------------------------------------------------


def until_restarted(ask):
    """Asks again while the actor lives on or does not answer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(LedgerActorError):
            ask()
        time.sleep(0.05)


def test_actor_when_it_is_restarted_has_lost_all_and_books_only_after_the_grace(ledger):
    import ray

    booking_id, version = book(ledger, FIRST, lease_ms=60_000), ledger.snapshot().version
    ray.kill(ledger._actor, no_restart=False)
    with pytest.raises(LeaseLostError, match="not known"):
        until_restarted(lambda: ledger.extend(booking_id, lease_ms=1000))
    assert ledger.snapshot().version > version
    with pytest.raises(LedgerBusyError, match="forgotten all bookings; it books again in"):
        book(ledger, FIRST)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not ledger.bookings():
        with contextlib.suppress(LedgerBusyError):
            book(ledger, FIRST)
        time.sleep(0.05)
    assert ledger.snapshot().reservations == (FIRST,)


def test_actor_when_it_was_ended_is_said_not_to_answer(cluster):
    ledger = RayLedger(uuid.uuid4().hex)
    book(ledger, FIRST, lease_ms=60_000)
    ledger.end()
    with pytest.raises(LedgerActorError, match="may not have been done"):
        ledger.snapshot()


def test_terms_when_they_name_a_holder_keep_it(ledger):
    from tomas_router.runtime.process_identity import Holder

    other = Holder("elsewhere", 7)
    assert ledger.booking(book(ledger, FIRST, holder=other)).holder == other
    assert BookingTerms().holder is None
