"""A ledger that the processes of one host share: threads, forked and spawned workers, containers with one local volume.

Every change is one transaction that is alone from its first statement, so the version that a booking was decided on is
compared and moved in one step. What is safe where: docs/ledger.md.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tomas_router.runtime.booking import Booking, BookingTerms, wall_clock_ms
from tomas_router.runtime.completions import KEEP_COMPLETIONS_MS, CallKey, Completion, written
from tomas_router.runtime.ledger import (
    KEEP_ENDED_MS,
    NO_TERMS,
    WAITING_LEASE_MS,
    Decision,
    LedgerSnapshot,
    release_if_held,
    require_clock,
)
from tomas_router.runtime.ledger_errors import LedgerFileError, lease_lost, version_conflict
from tomas_router.runtime.process_identity import Holder, this_process
from tomas_router.runtime.quota import Quota
from tomas_router.runtime.reservation import Reservation
from tomas_router.runtime.sqlite_completions import COMPLETIONS_SCHEMA, read_completion, write_completion
from tomas_router.runtime.sqlite_file import SqliteFile
from tomas_router.runtime.waiting_line import Ticket, in_turn, place, require_turn

APPLICATION_ID = 0x746C6467  # "tldg"
SCHEMA_VERSION = 2
BUSY_TIMEOUT_MS = 10_000

SCHEMA = """
CREATE TABLE ledger (version INTEGER NOT NULL);
INSERT INTO ledger VALUES (0);
CREATE TABLE bookings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    booking_id TEXT NOT NULL UNIQUE,
    booked_ms INTEGER NOT NULL,
    lease_until_ms INTEGER,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT,
    tenant TEXT NOT NULL,
    thread_id TEXT,
    plan_id TEXT
);
CREATE INDEX bookings_by_lease ON bookings (lease_until_ms) WHERE lease_until_ms IS NOT NULL;
CREATE TABLE reservations (
    number INTEGER NOT NULL REFERENCES bookings ON DELETE CASCADE,
    step INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL CHECK (end_ms > start_ms),
    cpu_milli INTEGER NOT NULL,
    cpu_mib INTEGER NOT NULL,
    gpu_permille INTEGER NOT NULL,
    gpu_mib INTEGER NOT NULL,
    tool TEXT NOT NULL,
    PRIMARY KEY (number, step)
) WITHOUT ROWID;
CREATE TABLE quotas (
    tenant TEXT PRIMARY KEY,
    cpu_percent INTEGER NOT NULL,
    cpu_mem_percent INTEGER NOT NULL,
    gpu_percent INTEGER NOT NULL,
    gpu_mem_percent INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tickets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ticket_id TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL,
    enqueued_ms INTEGER NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT,
    tenant TEXT NOT NULL
);
CREATE TABLE ended (booking_id TEXT PRIMARY KEY, how TEXT NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX ended_by_time ON ended (at_ms);
"""

BOOKING_COLUMNS = "number, booking_id, booked_ms, lease_until_ms, host, pid, started, tenant, thread_id, plan_id"
TICKET_COLUMNS = "ticket_id, priority, enqueued_ms, lease_until_ms, host, pid, started, tenant"
RESERVATION_COLUMNS = "start_ms, end_ms, cpu_milli, cpu_mib, gpu_permille, gpu_mib, tool"


class SqliteLedger:
    """The ledger in one file; times of reservations are epoch milliseconds.

    One object may serve several threads, survives a fork, and can be pickled for a spawned process.
    """

    epoch_times = True

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        clock_ms: Callable[[], int] = wall_clock_ms,
        keep_completions_ms: int = KEEP_COMPLETIONS_MS,
    ) -> None:
        """Names the file; it is opened on first use.

        Args:
            path: a file in a folder on a local file system.
            create: make the file when it is missing.
            busy_timeout_ms: how long to wait for another process's change, usually a fraction of a millisecond.
            clock_ms: now in epoch milliseconds, for leases.
            keep_completions_ms: how long completed calls are remembered.

        Raises:
            LedgerFileError: the folder is missing or on a network file system, or there is no file to open.
        """
        self._file = SqliteFile(path, SCHEMA + COMPLETIONS_SCHEMA, APPLICATION_ID, SCHEMA_VERSION, busy_timeout_ms)
        if not create and not self.path.exists():
            raise LedgerFileError(f"{path}: there is no such ledger")
        self._clock_ms, self._keep_completions_ms = clock_ms, keep_completions_ms
        self._seen = LedgerSnapshot(-1, ())

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._file.path

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.path, self._file.busy_timeout_ms, self._clock_ms, self._keep_completions_ms)

    def __repr__(self) -> str:
        return f"SqliteLedger({str(self.path)!r})"

    def close(self) -> None:
        """Closes this process's connection; the next use opens another."""
        self._file.close()
        self._seen = LedgerSnapshot(-1, ())

    def snapshot(self) -> LedgerSnapshot:
        while True:
            with self._file.read() as db:
                if not _any_lost(db, self._clock_ms()):
                    return self._read(db)
            with self._file.write() as db:
                self._expire(db)

    def book(
        self, reservations: Sequence[Reservation], *, expected_version: int, terms: BookingTerms = NO_TERMS
    ) -> str:
        with self._file.write() as db:
            now_ms = self._expire(db)
            version = _version(db)
            if version != expected_version:
                raise version_conflict(version, expected_version)
            return _book(db, reservations, terms, now_ms)

    def book_alone(self, decide: Decision, *, terms: BookingTerms = NO_TERMS) -> str:
        with self._file.write() as db:
            now_ms = self._expire(db)
            return _book(db, decide(_snapshot(db, _version(db))), terms, now_ms)

    def extend(
        self, booking_id: str, *, lease_ms: int | None = None, step: int | None = None, end_ms: int | None = None
    ) -> Booking:
        with self._file.write() as db:
            now_ms = self._expire(db)
            number, before = _held(db, booking_id, now_ms)
            after = before.extended(now_ms, lease_ms, step, end_ms)
            db.execute("UPDATE bookings SET lease_until_ms = ? WHERE number = ?", (after.lease_until_ms, number))
            for position, reservation in after.reservations.items():
                if reservation != before.reservations[position]:
                    db.execute(
                        "UPDATE reservations SET end_ms = ? WHERE number = ? AND step = ?",
                        (reservation.end_ms, number, position),
                    )
                    _move_version(db)
        return after

    def release(self, booking_id: str, *, step: int | None = None) -> None:
        with self._file.write() as db:
            now_ms = self._expire(db)
            number, held = _held(db, booking_id, now_ms)
            rest = None if step is None else held.without(step)
            if rest is None:
                _end(db, [(booking_id, "released", now_ms)], now_ms)
            else:
                db.execute("DELETE FROM reservations WHERE number = ? AND step = ?", (number, step))
            _move_version(db)

    def cancel(self, booking_id: str) -> bool:
        return release_if_held(self, booking_id)

    def booking(self, booking_id: str) -> Booking:
        with self._file.write() as db:
            return _held(db, booking_id, self._expire(db))[1]

    def bookings(self) -> tuple[Booking, ...]:
        with self._file.write() as db:
            self._expire(db)
            return tuple(booking for _, booking in _read_bookings(db))

    def set_quota(self, tenant: str, quota: Quota | None) -> None:
        with self._file.write() as db:
            db.execute("DELETE FROM quotas WHERE tenant = ?", (tenant,))
            if quota is not None:
                db.execute("INSERT INTO quotas VALUES (?, ?, ?, ?, ?)", (tenant, *quota.percents))
            _move_version(db)

    def enqueue(self, *, priority: int = 0, tenant: str = "", lease_ms: int = WAITING_LEASE_MS) -> str:
        ticket_id, holder = uuid.uuid4().hex, this_process()
        with self._file.write() as db:
            now_ms = self._expire(db)
            db.execute(
                f"INSERT INTO tickets ({TICKET_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (ticket_id, priority, now_ms, now_ms + lease_ms, holder.host, holder.pid, holder.started, tenant),
            )
        return ticket_id

    def keep_place(self, ticket_id: str, *, lease_ms: int = WAITING_LEASE_MS) -> int:
        with self._file.write() as db:
            now_ms = self._expire(db)
            ahead = place(_line(db, now_ms), ticket_id)
            db.execute("UPDATE tickets SET lease_until_ms = ? WHERE ticket_id = ?", (now_ms + lease_ms, ticket_id))
        return ahead

    def leave(self, ticket_id: str) -> bool:
        with self._file.write() as db:
            return db.execute("DELETE FROM tickets WHERE ticket_id = ?", (ticket_id,)).rowcount > 0

    def waiting(self) -> tuple[Ticket, ...]:
        with self._file.read() as db:
            return in_turn(_line(db, self._clock_ms()))

    def completion(self, key: CallKey) -> Completion | None:
        with self._file.read() as db:
            return read_completion(db, key, self._clock_ms() - self._keep_completions_ms)

    def complete(self, key: CallKey, tool: str, result: Any) -> None:
        text, now_ms = written(tool, result), self._clock_ms()
        with self._file.write() as db:
            write_completion(db, key, tool, text, now_ms, now_ms - self._keep_completions_ms)

    def _read(self, db: sqlite3.Connection) -> LedgerSnapshot:
        """What changes reservations or quotas moves the version, so an unmoved version is the last answer again.

        Only for read transactions: what is remembered must have been committed.
        """
        version = _version(db)
        seen = self._seen  # another thread may replace it
        if seen.version != version:
            seen = self._seen = _snapshot(db, version)
        return seen

    def _expire(self, db: sqlite3.Connection) -> int:
        """Ends leases whose time is over, and returns that time."""
        now_ms = self._clock_ms()
        if _any_lost(db, now_ms):
            lost = db.execute("SELECT booking_id, lease_until_ms FROM bookings WHERE lease_until_ms <= ?", (now_ms,))
            _end(db, [(booking_id, "expired", until) for booking_id, until in lost.fetchall()], now_ms)
            _move_version(db)
        db.execute("DELETE FROM tickets WHERE lease_until_ms <= ?", (now_ms,))
        return now_ms


def _unpickled(path: Path, busy_timeout_ms: int, clock_ms: Callable[[], int], keep_ms: int) -> SqliteLedger:
    return SqliteLedger(path, busy_timeout_ms=busy_timeout_ms, clock_ms=clock_ms, keep_completions_ms=keep_ms)


def _snapshot(db: sqlite3.Connection, version: int) -> LedgerSnapshot:
    owned = f"SELECT tenant, {RESERVATION_COLUMNS} FROM reservations JOIN bookings USING (number)"
    rows = db.execute(f"{owned} ORDER BY number, step").fetchall()
    quotas = {tenant: Quota(*percents) for tenant, *percents in db.execute("SELECT * FROM quotas")}
    reservations = tuple(_reservation(values) for _, *values in rows)
    return LedgerSnapshot(version, reservations, tuple(tenant for tenant, *_ in rows), quotas)


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT version FROM ledger").fetchone()[0])


def _move_version(db: sqlite3.Connection) -> None:
    db.execute("UPDATE ledger SET version = version + 1")


def _any_lost(db: sqlite3.Connection, now_ms: int) -> bool:
    row = db.execute("SELECT EXISTS (SELECT 1 FROM bookings WHERE lease_until_ms <= ?)", (now_ms,)).fetchone()
    return bool(row[0])


def _end(db: sqlite3.Connection, ended: Iterable[tuple[str, str, int]], now_ms: int) -> None:
    """Removes bookings and remembers (booking, how, when) for a day."""
    for booking_id, how, at_ms in ended:
        db.execute("DELETE FROM bookings WHERE booking_id = ?", (booking_id,))
        db.execute("INSERT INTO ended VALUES (?, ?, ?)", (booking_id, how, at_ms))
    db.execute("DELETE FROM ended WHERE at_ms < ?", (now_ms - KEEP_ENDED_MS,))


def _book(db: sqlite3.Connection, reservations: Sequence[Reservation], terms: BookingTerms, now_ms: int) -> str:
    require_clock(reservations, epoch_times=True)
    require_turn(_line(db, now_ms), terms, now_ms)
    booking_id = uuid.uuid4().hex
    db.execute("DELETE FROM tickets WHERE ticket_id = ?", (terms.ticket_id,))
    _insert(db, Booking.of(booking_id, reservations, terms, now_ms, epoch_times=True))
    _move_version(db)
    return booking_id


def _insert(db: sqlite3.Connection, b: Booking) -> None:
    holder = (b.holder.host, b.holder.pid, b.holder.started)
    number = db.execute(
        f"INSERT INTO bookings ({BOOKING_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (b.booking_id, b.booked_ms, b.lease_until_ms, *holder, b.tenant, b.thread_id, b.plan_id),
    ).lastrowid
    db.executemany(
        f"INSERT INTO reservations (number, step, {RESERVATION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(number, step, r.start_ms, r.end_ms, *r.demand, r.tool) for step, r in b.reservations.items()],
    )


def _held(db: sqlite3.Connection, booking_id: str, now_ms: int) -> tuple[int, Booking]:
    found = _read_bookings(db, "WHERE booking_id = ?", (booking_id,))
    if not found:
        ended = db.execute("SELECT how, at_ms FROM ended WHERE booking_id = ?", (booking_id,)).fetchone()
        raise lease_lost(booking_id, ended, now_ms)
    return found[0]


def _read_bookings(db: sqlite3.Connection, where: str = "", values: tuple[str, ...] = ()) -> list[tuple[int, Booking]]:
    """Bookings with their numbers, in the order in which they were made."""
    rows = db.execute(f"SELECT {BOOKING_COLUMNS} FROM bookings {where} ORDER BY number", values).fetchall()
    return [(row[0], _booking(row, _reservations_of(db, row[0]))) for row in rows]


def _reservations_of(db: sqlite3.Connection, number: int) -> dict[int, Reservation]:
    rows = db.execute(f"SELECT step, {RESERVATION_COLUMNS} FROM reservations WHERE number = ? ORDER BY step", (number,))
    return {step: _reservation(values) for step, *values in rows}


def _line(db: sqlite3.Connection, now_ms: int) -> list[Ticket]:
    """Who waits, in order of arrival."""
    rows = db.execute(f"SELECT {TICKET_COLUMNS} FROM tickets WHERE lease_until_ms > ? ORDER BY number", (now_ms,))
    return [
        Ticket(ticket_id, priority, enqueued_ms, lease_until_ms, Holder(host, pid, started), tenant)
        for ticket_id, priority, enqueued_ms, lease_until_ms, host, pid, started, tenant in rows
    ]


def _booking(row: tuple[Any, ...], reservations: dict[int, Reservation]) -> Booking:
    _, booking_id, booked_ms, lease_until_ms, host, pid, started, tenant, thread_id, plan_id = row
    return Booking(
        booking_id=booking_id,
        reservations=reservations,
        booked_ms=booked_ms,
        lease_until_ms=lease_until_ms,
        holder=Holder(host, pid, started),
        tenant=tenant,
        thread_id=thread_id,
        plan_id=plan_id,
    )


def _reservation(values: Sequence[Any]) -> Reservation:
    start_ms, end_ms, cpu_milli, cpu_mib, gpu_permille, gpu_mib, tool = values
    return Reservation(start_ms, end_ms, (cpu_milli, cpu_mib, gpu_permille, gpu_mib), tool)
