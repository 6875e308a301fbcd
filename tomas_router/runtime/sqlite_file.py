"""One SQLite file that processes of one host share: its connection, its transactions, and what it refuses.

A process has one connection a file object, used by one thread at a time. SQLite forbids carrying a connection over a
fork, and even a new connection in the child would share lock tables with the inherited one, so connections are closed
before Python forks and opened again on the next use, on both sides.

Checkpoints run with the write lock held, never by themselves: SQLite before 3.51.3 can lose pages when a checkpoint
meets a writer at the wrong moment (sqlite.org/wal.html, "The WAL-Reset Bug").
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.runtime.mounts import network_file_system

MAX_WAL_BYTES = 4 * 2**20
"""A longer write-ahead log is written back to the file."""
RETRY_S = 0.002
PRIMARY_CODE = 0xFF  # extended result codes carry the primary one in their lowest byte


class SqliteFile:
    """A file with one schema, opened on first use."""

    def __init__(self, path: str | Path, schema: str, application_id: int, schema_version: int, busy_timeout_ms: int):
        """Names the file.

        Args:
            path: on a local file system; created when missing.
            schema: statements that make the tables.
            application_id: marks our files, so that no other database is taken for one.
            schema_version: of ``schema``, > 0.
            busy_timeout_ms: how long to wait for other processes.

        Raises:
            LedgerFileError: the folder does not exist or lies on a network file system.
        """
        self.path = Path(path).absolute()
        self.busy_timeout_ms = busy_timeout_ms
        self._schema, self._application_id, self._schema_version = schema, application_id, schema_version
        _require_local_folder(self.path)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._identity: tuple[int, int] | None = None
        self._log_limit = MAX_WAL_BYTES
        with _registry_lock:
            _registry.add(self)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state and changes nothing."""
        with self._transaction("DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is alone from its first statement; an exception undoes it."""
        with self._transaction("IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Closes this process's connection; the next use opens another, and may find another file."""
        with self._lock:
            self._disconnect()
            self._identity = None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            connection = self._ready()
            try:
                self._patiently(connection, f"BEGIN {kind}", "PRAGMA user_version")  # the second takes the read lock
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if kind == "IMMEDIATE":
                self._shorten_log(connection)

    def _ready(self) -> sqlite3.Connection:
        if self._identity not in (None, _identity(self.path)):
            raise LedgerFileError(
                f"{self.path}: was deleted or replaced while in use, so bookings are lost; stop all its users"
            )
        if self._connection is None:
            self._connection, self._pid = self._opened(), os.getpid()
            self._identity = _identity(self.path)
        if self._pid != os.getpid():
            raise LedgerFileError(
                f"{self.path}: was opened before a fork that Python did not see; close() it before such a fork"
            )
        if self._connection.in_transaction:
            raise LedgerFileError(f"{self.path}: used by a signal handler in the middle of another use")
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path.as_uri(),
            uri=True,
            timeout=self.busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,  # one thread at a time, by the lock
        )
        try:
            self._require_ours(connection)
            connection.execute("PRAGMA synchronous = NORMAL")  # a power failure ends the holders of bookings as well
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("PRAGMA foreign_keys = ON")
            (mode,) = self._patiently(connection, "PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise LedgerFileError(f"{self.path}: the file system does not let processes share memory (mode {mode})")
            self._create_schema(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_ours(self, connection: sqlite3.Connection) -> None:
        """Raises before a file that is not ours is changed; one transaction, as another may just be making the file."""
        looks = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        _, mark, version, tables, _ = self._patiently(connection, "BEGIN", *looks, "COMMIT")
        if mark != self._application_id and (mark or version or tables):
            raise LedgerFileError(f"{self.path}: must be a ledger or not exist yet, got another SQLite database")
        if mark == self._application_id and version != self._schema_version:
            raise LedgerFileError(
                f"{self.path}: must have schema version {self._schema_version}, got {version}; it was made by another "
                f"version of tomas-router: stop its users and delete it"
            )

    def _create_schema(self, connection: sqlite3.Connection) -> None:
        self._patiently(connection, "BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._application_id}")
            connection.execute(f"PRAGMA user_version = {self._schema_version}")
        connection.execute("COMMIT")

    def _patiently(self, connection: sqlite3.Connection, *statements: str) -> list[object]:
        """Runs statements and returns the first value of each; waits also where SQLite itself would not.

        It does not wait when a wait could be a deadlock: at the change to WAL, and at recovery after a crash.
        """
        deadline = time.monotonic() + self.busy_timeout_ms / 1000
        while True:
            try:
                rows = [connection.execute(statement).fetchone() for statement in statements]
            except sqlite3.OperationalError as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                return [row[0] if row else None for row in rows]

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """TRUNCATE holds the write lock and waits for readers, but not at every commit for one that never ends."""
        size = self._log_bytes()
        if size > self._log_limit:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            size = self._log_bytes()
            self._log_limit = size + MAX_WAL_BYTES

    def _log_bytes(self) -> int:
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _is_busy(error):
                raise LedgerBusyError(
                    f"{self.path}: locked by another process for more than {self.busy_timeout_ms} ms"
                ) from error
            raise LedgerFileError(f"{self.path}: {error}") from error

    def before_fork(self) -> None:
        """Waits for a transaction of another thread, then leaves nothing open."""
        self._lock.acquire()
        self._disconnect()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def _require_local_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise LedgerFileError(f"{path}: the folder {path.parent} must exist")
    if path.is_dir():
        raise LedgerFileError(f"{path}: must be a file, got a folder")
    kind = network_file_system(path.parent)
    if kind is not None:
        raise LedgerFileError(
            f"{path}: must lie on a local file system, got {kind}; processes on several hosts cannot share a file "
            f"ledger, and on one host a local folder is safe"
        )


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


# --- forks ---------------------------------------------------------------------------------------------------

_registry: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
_registry_lock = threading.Lock()
_forking: list[SqliteFile] = []


def _before_fork() -> None:
    _registry_lock.acquire()
    _forking.extend(_registry)
    for file in _forking:
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in _forking:
        file.after_fork_in_parent()
    _forking.clear()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    for file in _forking:
        file.after_fork_in_child()
    _forking.clear()
    _registry_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
