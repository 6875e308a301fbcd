"""What a shared file refuses, and how it behaves when others use it at the same moment."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from tests.runtime.ledgers import NOON_MS, HandClock, book, minute
from tomas_router.runtime import sqlite_file
from tomas_router.runtime.ledger import LedgerSnapshot
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.runtime.mounts import network_file_system
from tomas_router.runtime.sqlite_ledger import SqliteLedger

pytestmark = pytest.mark.m3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shared.ledger"


def opened(path: Path, **options: object) -> SqliteLedger:
    return SqliteLedger(path, clock_ms=HandClock(), **options)  # type: ignore[arg-type]


# ---- files that are refused ---------------------------------------------------------------------------------


def test_file_when_its_folder_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerFileError, match=r"typo/a\.ledger: the folder .*typo must exist"):
        SqliteLedger(tmp_path / "typo" / "a.ledger")


def test_file_when_it_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerFileError, match="must be a file, got a folder"):
        SqliteLedger(tmp_path)


def test_file_when_it_is_another_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(LedgerFileError, match="must be a ledger or not exist yet, got another SQLite database"):
        SqliteLedger(path).snapshot()
    assert path.read_bytes() == before


def test_file_when_it_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("tool,input_size\n" * 100, encoding="utf-8")
    with pytest.raises(LedgerFileError, match=rf"{path}: file is not a database"):
        SqliteLedger(path).snapshot()
    assert path.read_text(encoding="utf-8").startswith("tool,input_size")


def test_file_when_made_by_another_version_is_refused(path: Path) -> None:
    opened(path).snapshot()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerFileError, match="must have schema version 2, got 7"):
        opened(path).snapshot()


def test_file_when_deleted_in_use_is_noticed_before_anything_is_promised(path: Path) -> None:
    ledger = opened(path)
    book(ledger, minute(0))
    path.unlink()
    with pytest.raises(LedgerFileError, match="was deleted or replaced while in use"):
        ledger.snapshot()
    opened(path).snapshot()  # somebody makes a new one
    with pytest.raises(LedgerFileError, match="was deleted or replaced while in use"):
        ledger.snapshot()
    ledger.close()
    assert ledger.snapshot() == LedgerSnapshot(0, ())


# ---- network file systems -----------------------------------------------------------------------------------

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/fast\040disk rw,relatime - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/over rw - ext4 /dev/sdc1 rw
33 22 0:42 / /mnt/over rw - fuse.sshfs host:/ rw
""".lstrip()


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/tmp/x", None),
        ("/home/me", "nfs4"),
        ("/homely", None),
        ("/home/fast disk/me", None),
        ("/mnt/over/x", "fuse.sshfs"),
    ],
)
def test_folder_when_mounts_are_known_lies_on_the_deepest_one(tmp_path: Path, folder: str, kind: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert network_file_system(Path(folder), mounts) == kind


def test_folder_when_the_system_does_not_tell_is_taken_as_local(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, tmp_path / "missing") is None


def test_file_when_on_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "network_file_system", lambda folder: "nfs4")
    with pytest.raises(LedgerFileError, match="must lie on a local file system, got nfs4; processes on several hosts"):
        SqliteLedger(path)
    assert not path.exists()


# ---- several users ------------------------------------------------------------------------------------------


def test_first_use_when_many_come_at_once_makes_one_ledger(path: Path) -> None:
    start, seen, errors = threading.Barrier(8), list[int](), list[Exception]()

    def first_use() -> None:
        start.wait()
        try:
            seen.append(opened(path).snapshot().version)
        except LedgerFileError as error:
            errors.append(error)

    threads = [threading.Thread(target=first_use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen, errors) == ([0] * 8, [])


def test_use_when_another_keeps_the_lock_gives_up_after_the_busy_timeout(path: Path) -> None:
    patient, hasty = opened(path), opened(path, busy_timeout_ms=50)
    version = hasty.snapshot().version
    with patient._file.write():
        began = time.monotonic()
        with pytest.raises(LedgerBusyError, match="locked by another process for more than 50 ms"):
            hasty.book([minute(0)], expected_version=version)
        assert 0.05 <= time.monotonic() - began < 5
        assert hasty.snapshot() == LedgerSnapshot(0, ())  # who only reads does not wait
    hasty.book([minute(0)], expected_version=version)


def test_use_when_a_signal_handler_interrupts_another_use_is_refused(path: Path) -> None:
    ledger = opened(path)
    with pytest.raises(LedgerFileError, match="used by a signal handler"), ledger._file.write():
        ledger.snapshot()
    assert book(ledger, minute(0))


def test_transaction_when_interrupted_changes_nothing_and_frees_the_lock(path: Path) -> None:
    ledger = opened(path, busy_timeout_ms=50)

    def interrupted_use() -> None:
        with ledger._file.write() as db:
            db.execute("UPDATE ledger SET version = 9")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_use()
    assert opened(path, busy_timeout_ms=50).snapshot() == LedgerSnapshot(0, ())
    assert book(ledger, minute(0))


def test_log_when_it_grows_is_written_back_to_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "MAX_WAL_BYTES", 100_000)
    ledger, onlooker = opened(path), opened(path)
    longest = 0
    for number in range(60):
        ledger.release(book(ledger, minute(number)))
        assert onlooker.snapshot().version == 2 * number + 2
        longest = max(longest, path.with_name(path.name + "-wal").stat().st_size)
    assert longest < 200_000  # of megabytes that were written


def test_log_when_a_reader_never_ends_does_not_hold_up_every_booking(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "MAX_WAL_BYTES", 100_000)
    ledger, stuck = opened(path, busy_timeout_ms=100), opened(path)
    book(ledger, minute(0))
    with stuck._file.read() as db:
        db.execute("SELECT * FROM bookings").fetchall()
        began = time.monotonic()
        for number in range(40):
            ledger.release(book(ledger, minute(number)))
        assert time.monotonic() - began < 3
    assert len(ledger.bookings()) == 1


def test_holder_when_seen_from_another_host_is_not_known_to_run(path: Path) -> None:
    ledger = opened(path)
    book(ledger, minute(0))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE bookings SET host = 'elsewhere'")
    (booking,) = ledger.bookings()
    assert booking.holder.is_running() is None
    assert str(booking.holder) == f"elsewhere:{os.getpid()}"
    assert booking.booked_ms == NOON_MS
