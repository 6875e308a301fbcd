"""Forks, spawned workers, crashes: one ledger file, several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ledger_hammer import CAPACITY, hammer, replay
from tests.runtime.ledgers import DEMAND
from tomas_router.runtime.ledger import BookingTerms, LedgerConflictError, Reservation
from tomas_router.runtime.sqlite_ledger import SqliteLedger

pytestmark = pytest.mark.m3

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.ledger"


def soon(lasts_ms: int = 60_000) -> Reservation:
    start = time.time_ns() // 1_000_000
    return Reservation(start, start + lasts_ms, DEMAND)


def book_patiently(ledger: SqliteLedger, times: int, lease_ms: int = 60_000) -> list[str]:
    made: list[str] = []
    while len(made) < times:
        try:
            version = ledger.snapshot().version
            made.append(ledger.book([soon()], expected_version=version, terms=BookingTerms(lease_ms)))
        except LedgerConflictError:
            continue
    return made


def integrity(path: Path) -> str:
    with sqlite3.connect(path) as db:
        return str(db.execute("PRAGMA integrity_check").fetchone()[0])


# ---- hammering ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_processes_when_one_is_killed_never_exceed_the_capacity(tmp_path: Path, start_method: Any) -> None:
    outcome = hammer(tmp_path, seconds=1.5, processes=2, start_method=start_method)
    assert outcome.over_commits == ()
    assert outcome.unexplained == 0
    assert outcome.integrity == "ok"
    assert (outcome.killed_left, outcome.crashed) == (0, 0)
    assert outcome.counts["bookings"] > 20
    assert outcome.reservations_audited >= outcome.counts["bookings"]


def test_audit_when_more_is_booked_than_there_is_finds_the_moment() -> None:
    whole, half = (8000, 32 * 1024, 1000, 16 * 1024), (4000, 0, 0, 0)
    (_, *first_row), (drop_ms, *_) = CAPACITY
    assert [first_row[0] * 1000, first_row[1] * 1024] == list(whole[:2])
    assert replay([(1, (0, 100, whole)), (-1, (0, 100, whole)), (1, (50, 60, half))], 0) == ([], [(50, 60, half)])
    assert len(replay([(1, (0, 100, whole)), (1, (50, 60, half))], 0)[0]) == 1
    assert len(replay([(1, (0, drop_ms + 1, whole))], 0)[0]) == 1  # the drop comes inside


# ---- spawn --------------------------------------------------------------------------------------------------


def _book_in_child(ledger: SqliteLedger, times: int, made: Any) -> None:
    made.put(book_patiently(ledger, times))


def test_ledger_when_handed_to_a_spawned_process_is_the_same_file(path: Path) -> None:
    context, ledger = multiprocessing.get_context("spawn"), SqliteLedger(path)
    mine = book_patiently(ledger, 1)
    made = context.Queue()
    child = context.Process(target=_book_in_child, args=(ledger, 2, made))
    child.start()
    theirs = made.get(timeout=60)
    child.join(timeout=60)
    held = ledger.bookings()
    assert [b.booking_id for b in held] == mine + theirs
    assert [b.holder.pid for b in held] == [os.getpid(), child.pid, child.pid]
    assert [b.holder.is_running() for b in held] == [True, False, False]


def test_ledger_when_pickled_keeps_its_settings(path: Path) -> None:
    again = pickle.loads(pickle.dumps(SqliteLedger(path, busy_timeout_ms=123)))  # noqa: S301
    assert (again.path, repr(again)) == (path, f"SqliteLedger('{path}')")
    assert again._file.busy_timeout_ms == 123


# ---- fork ---------------------------------------------------------------------------------------------------


@needs_fork
def test_fork_when_the_ledger_is_in_use_leaves_both_sides_working(path: Path) -> None:
    context, ledger = multiprocessing.get_context("fork"), SqliteLedger(path)
    made = context.Queue()
    mine = book_patiently(ledger, 5)
    children = [context.Process(target=_book_in_child, args=(ledger, 20, made)) for _ in range(2)]
    for child in children:
        child.start()
    mine += book_patiently(ledger, 20)
    theirs = [made.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
    assert {b.booking_id for b in ledger.bookings()} == {*mine, *theirs[0], *theirs[1]}
    assert {b.holder.pid for b in ledger.bookings()} == {os.getpid(), *(c.pid for c in children)}
    ledger.close()
    assert integrity(path) == "ok"


@needs_fork
def test_fork_when_another_thread_is_in_a_transaction_waits_for_it(path: Path) -> None:
    context, ledger = multiprocessing.get_context("fork"), SqliteLedger(path)
    inside, go_on = threading.Event(), threading.Event()

    def stay_inside() -> None:
        with ledger._file.write() as db:
            inside.set()
            go_on.wait(timeout=60)
            db.execute("UPDATE ledger SET version = 40")

    thread = threading.Thread(target=stay_inside)
    thread.start()
    inside.wait(timeout=60)
    threading.Timer(0.2, go_on.set).start()
    made = context.Queue()
    child = context.Process(target=_book_in_child, args=(ledger, 1, made))
    child.start()  # comes back when the transaction is over
    assert go_on.is_set()
    assert len(made.get(timeout=60)) == 1
    child.join(timeout=60)
    thread.join(timeout=60)
    assert ledger.snapshot().version == 41


@needs_fork
def test_fork_when_python_does_not_see_it_is_refused_in_the_child(path: Path) -> None:
    script = (
        "import ctypes, os, sys\n"
        "from tomas_router.runtime.sqlite_ledger import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1]); ledger.snapshot()\n"
        "pid = ctypes.CDLL(None).fork()\n"
        "if pid == 0:\n"
        "    try:\n"
        "        ledger.snapshot()\n"
        "    except Exception as error:\n"
        "        os.write(1, str(error).encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0); ledger.snapshot()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "was opened before a fork that Python did not see; close() it before such a fork" in done.stdout


# ---- crashes ------------------------------------------------------------------------------------------------

CRASH = """
import os, signal, sys, time
from tomas_router.runtime.ledger import BookingTerms, Reservation
from tomas_router.runtime.sqlite_ledger import SqliteLedger
ledger, where = SqliteLedger(sys.argv[1]), sys.argv[2]
now = time.time_ns() // 1_000_000
piece = [Reservation(now, now + 60_000, (1000, 0, 0, 0))]
if where == "in the transaction":
    with ledger._file.write() as db:
        db.execute("UPDATE ledger SET version = 99")
        db.execute("INSERT INTO bookings VALUES (NULL, 'b', 0, NULL, '', 0, NULL, '', NULL, NULL)")
        os.kill(os.getpid(), signal.SIGKILL)
ledger.book(piece, expected_version=ledger.snapshot().version, terms=BookingTerms(lease_ms=int(sys.argv[3])))
os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(path: Path, where: str, lease_ms: int = 60_000) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, str(path), where, str(lease_ms)], timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_crash_when_between_begin_and_commit_leaves_nothing_behind(path: Path) -> None:
    ledger = SqliteLedger(path, busy_timeout_ms=2000)
    (kept,) = book_patiently(ledger, 1)
    before = ledger.snapshot()
    crash(path, "in the transaction")
    assert ledger.snapshot() == before
    assert [b.booking_id for b in ledger.bookings()] == [kept]
    book_patiently(ledger, 1)
    assert integrity(path) == "ok"


def test_crash_when_nobody_else_has_the_file_open_is_recovered_from(path: Path) -> None:
    crash(path, "in the transaction")
    ledger = SqliteLedger(path)
    assert ledger.snapshot().version == 0
    book_patiently(ledger, 1)
    assert integrity(path) == "ok"


def test_crash_when_a_booking_is_held_frees_it_at_the_end_of_its_lease(path: Path) -> None:
    crash(path, "after the booking", lease_ms=1500)
    ledger = SqliteLedger(path)
    (booking,) = ledger.bookings()
    assert booking.holder.is_running() is False
    assert len(ledger.snapshot().reservations) == 1
    time.sleep(1.6)
    assert ledger.snapshot().reservations == ()
