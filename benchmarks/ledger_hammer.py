"""Processes hammer one ledger file; one of them is killed in the middle; then every change is checked.

    python -m benchmarks.ledger_hammer                                # 60 s, 2 processes
    python -m benchmarks.ledger_hammer --seconds 20 --processes 4

The check is independent of the ledger: triggers in the file write down every reservation that is made or freed, in the
order of the transactions, and the log is replayed here with plain sums. Exit code 1 when capacity was ever exceeded.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tomas_router.planner.allocator import GREEDY, StepDemand, allocate_plan
from tomas_router.planner.demand import ResourceOption
from tomas_router.runtime.ledger import BookingTerms, LeaseLostError, LedgerConflictError, Reservation
from tomas_router.runtime.sqlite_ledger import SqliteLedger
from tomas_router.runtime.timeline import SystemTimeline

CAPACITY = ((0, 8, 32, 100, 16), (1500, 6, 24, 100, 12))  # time_ms, then as in a timeline; the last row holds
LEASE_MS = 400
MOST_HELD = 8
COUNTERS = ("bookings", "conflicts", "heartbeats", "releases", "lost leases")
COLUMNS = ("start_ms", "end_ms", "cpu_milli", "cpu_mib", "gpu_permille", "gpu_mib")
NEW, OLD = (", ".join(f"{row}.{column}" for column in COLUMNS) for row in ("new", "old"))
CREATE_AUDIT = f"""
CREATE TABLE audit (change INTEGER PRIMARY KEY, sign INTEGER, {", ".join(COLUMNS)});
CREATE TRIGGER audit_made AFTER INSERT ON reservations BEGIN INSERT INTO audit VALUES (NULL, 1, {NEW}); END;
CREATE TRIGGER audit_freed AFTER DELETE ON reservations BEGIN INSERT INTO audit VALUES (NULL, -1, {OLD}); END;
CREATE TRIGGER audit_changed AFTER UPDATE ON reservations BEGIN
    INSERT INTO audit VALUES (NULL, -1, {OLD});
    INSERT INTO audit VALUES (NULL, 1, {NEW});
END;
"""

Audited = tuple[int, int, tuple[int, ...]]  # start, end, demand


@dataclass(frozen=True)
class Outcome:
    """What happened, and what the audit found."""

    seconds: float
    counts: dict[str, int]
    killed_held: int
    """Bookings that the killed process had when it was killed."""
    killed_left: int
    """Those of them that still counted when their leases were over."""
    reservations_audited: int
    over_commits: tuple[str, ...]
    unexplained: int
    """Reservations in which the file and the replayed log differ at the end; 0 says that the log is complete."""
    integrity: str
    crashed: int
    """Processes that ended with an error of their own."""

    @property
    def passed(self) -> bool:
        return (
            not self.crashed
            and not self.over_commits
            and not self.killed_left
            and not self.unexplained
            and self.integrity == "ok"
        )


class CountingLedger(SqliteLedger):
    """Counts refused bookings."""

    conflicts = 0

    def book(self, reservations: Sequence[Reservation], *, expected_version: int, **terms: Any) -> str:
        try:
            return super().book(reservations, expected_version=expected_version, **terms)
        except LedgerConflictError:
            self.conflicts += 1
            raise


def hammer(
    folder: Path, seconds: float, processes: int = 2, start_method: Literal["spawn", "fork"] = "spawn", seed: int = 0
) -> Outcome:
    """Runs it; the first process is killed after half the time and another one takes its place."""
    path, epoch_ms = folder / "hammered.ledger", time.time_ns() // 1_000_000
    SqliteLedger(path).snapshot()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(CREATE_AUDIT)
    context = multiprocessing.get_context(start_method)
    counters = [context.Array("q", len(COUNTERS), lock=False) for _ in range(processes + 1)]
    ready = context.Barrier(processes + 1)
    stop = context.Event()

    def start(number: int, barrier: Any) -> Any:
        arguments = (path, epoch_ms, seed + number, counters[number], barrier, stop)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        return process

    workers = [start(number, ready) for number in range(processes)]
    ready.wait(timeout=120)
    began = time.monotonic()
    time.sleep(seconds / 2)
    victim = workers[0]
    crashed = sum(not worker.is_alive() for worker in workers)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    held = [b.booking_id for b in SqliteLedger(path).bookings() if b.holder.pid == victim.pid]
    workers[0] = start(processes, None)
    time.sleep(seconds / 2)
    stop.set()
    for worker in workers:
        worker.join(timeout=60)
    crashed += sum(worker.exitcode != 0 for worker in workers)
    took = time.monotonic() - began
    time.sleep(LEASE_MS / 1000)
    left = {b.booking_id for b in SqliteLedger(path).bookings()} & set(held)
    totals = {name: sum(c[i] for c in counters) for i, name in enumerate(COUNTERS)}
    return _audited(path, epoch_ms, took, totals, len(held), len(left), crashed)


def _work(path: Path, epoch_ms: int, seed: int, counters: Any, barrier: Any, stop: Any) -> None:
    """Plans, holds, extends and frees at random; some bookings are left to their lease."""
    rng, ledger, held = random.Random(seed), CountingLedger(path), list[str]()
    timeline = SystemTimeline.from_rows(CAPACITY, tail="hold", epoch_ms=epoch_ms)
    ledger.snapshot()
    if barrier is not None:
        barrier.wait(timeout=120)
    while not stop.is_set():
        release_ms = time.time_ns() // 1_000_000 - epoch_ms
        placed = allocate_plan(_steps(rng), timeline, release_ms, ledger, limits=GREEDY, terms=BookingTerms(LEASE_MS))
        counters[0], counters[1] = counters[0] + 1, ledger.conflicts
        held.append(str(placed[0].booking_id))
        if rng.random() < 0.05:
            held.pop()  # nobody frees it, as after a crash
        try:
            if held and rng.random() < 0.5:
                ledger.extend(rng.choice(held), lease_ms=LEASE_MS)
                counters[2] += 1
            while len(held) > rng.randint(0, MOST_HELD):
                ledger.release(held.pop(rng.randrange(len(held))))
                counters[3] += 1
        except LeaseLostError:
            counters[4] += 1


def _steps(rng: random.Random) -> list[StepDemand]:
    """One to three steps, the later ones mostly after the first."""
    steps = []
    for number in range(rng.randint(1, 3)):
        gpu = rng.random() < 0.4
        options = [
            ResourceOption(
                rng.randint(1, 6), rng.randint(1, 12), 50 if gpu else 0, 6 if gpu else 0, rng.randint(5, 200)
            )
            for _ in range(rng.randint(1, 2))
        ]
        steps.append(StepDemand(options, (0,) if number and rng.random() < 0.7 else ()))
    return steps


def alone(path: Path, rounds: int = 500) -> dict[str, float]:
    """Median time of each use in microseconds, with one process and 50 reservations in the ledger."""
    ledger, now_ms = SqliteLedger(path), time.time_ns() // 1_000_000
    piece = Reservation(now_ms, now_ms + 600_000, (1, 1, 0, 0))
    ledger.book([piece] * 50, expected_version=ledger.snapshot().version)
    took: dict[str, list[float]] = {}

    def timed(name: str, use: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = use()
        took.setdefault(name, []).append((time.perf_counter() - began) * 1e6)
        return answer

    for _ in range(rounds):
        version = timed("snapshot", ledger.snapshot).version
        booking = timed("book 3 steps", partial(ledger.book, [piece] * 3, expected_version=version))
        timed("extend", partial(ledger.extend, booking, lease_ms=900_000))
        timed("release", partial(ledger.release, booking))
    return {name: statistics.median(times) for name, times in took.items()}


# --- the independent check -----------------------------------------------------------------------------------


def _audited(
    path: Path, epoch_ms: int, seconds: float, counts: dict[str, int], killed_held: int, killed_left: int, crashed: int
) -> Outcome:
    with contextlib.closing(sqlite3.connect(path)) as db:
        changes = db.execute(f"SELECT sign, {', '.join(COLUMNS)} FROM audit ORDER BY change").fetchall()
        stored = db.execute(f"SELECT {', '.join(COLUMNS)} FROM reservations")
        remaining = sorted((s, e, tuple(demand)) for s, e, *demand in stored)
        integrity = str(db.execute("PRAGMA integrity_check").fetchone()[0])
    found, alive = replay([(sign, (s, e, tuple(demand))) for sign, s, e, *demand in changes], epoch_ms)
    return Outcome(
        seconds=seconds,
        counts=counts,
        killed_held=killed_held,
        killed_left=killed_left,
        reservations_audited=sum(sign > 0 for sign, *_ in changes),
        over_commits=tuple(found),
        unexplained=abs(len(alive) - len(remaining))
        + sum(x != y for x, y in zip(sorted(alive), remaining, strict=False)),
        integrity=integrity,
        crashed=crashed,
    )


def replay(changes: Sequence[tuple[int, Audited]], epoch_ms: int) -> tuple[list[str], list[Audited]]:
    """Every moment at which a change left more booked than there is, and what is alive at the end."""
    found: list[str] = []
    alive: list[Audited] = []
    for sign, piece in changes:
        if sign < 0:
            alive.remove(piece)
            continue
        alive.append(piece)
        start, end, _ = piece
        near = [other for other in alive if other[0] < end and start < other[1]]
        edges = {epoch_ms + row[0] for row in CAPACITY}
        moments = {start, *(m for m in edges | {other[0] for other in near} if start <= m < end)}
        for moment in moments:
            found += _exceeded(near, moment, epoch_ms)
    return found, alive


def _exceeded(near: Sequence[Audited], moment: int, epoch_ms: int) -> list[str]:
    row = [row for row in CAPACITY if epoch_ms + row[0] <= moment][-1]
    free = (row[1] * 1000, row[2] * 1024, row[3] * 10, row[4] * 1024)
    used = [sum(demand[r] for s, e, demand in near if s <= moment < e) for r in range(4)]
    return [f"at {moment}: {used} of {list(free)}"] if any(u > f for u, f in zip(used, free, strict=True)) else []


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--start-method", choices=("spawn", "fork"), default="spawn")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        microseconds = alone(Path(folder) / "alone.ledger")
        outcome = hammer(Path(folder), args.seconds, args.processes, args.start_method)
    print("one process alone: " + ", ".join(f"{name} {us:.0f} us" for name, us in microseconds.items()))
    rates = ", ".join(f"{count / outcome.seconds:.0f} {name}/s" for name, count in outcome.counts.items())
    print(f"{args.processes} processes ({args.start_method}), {outcome.seconds:.0f} s: {rates}")
    print(
        f"killed with -9: held {outcome.killed_held} bookings, {outcome.killed_left} left when their leases were over"
    )
    print(
        f"audit: {outcome.reservations_audited} reservations replayed, {len(outcome.over_commits)} over-commits, "
        f"{outcome.unexplained} not explained by the log; integrity {outcome.integrity}; {outcome.crashed} crashed"
    )
    for line in outcome.over_commits[:10]:
        print(f"  {line}")
    print("passed" if outcome.passed else "FAILED")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
