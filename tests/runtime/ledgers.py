"""What the tests of ledgers share: a clock that is set by hand, both ledgers, and how to book on what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tomas_router.runtime.ledger import BookingTerms, InMemoryLedger, Ledger, Reservation
from tomas_router.runtime.sqlite_ledger import SqliteLedger

NOON_MS = 1_800_000_000_000
MINUTE_MS = 60_000
DEMAND = (1000, 1024, 0, 0)


class HandClock:
    """Epoch milliseconds, moved by tests."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def in_memory(_: Path, clock_ms: Callable[[], int]) -> Ledger:
    return InMemoryLedger(epoch_times=True, clock_ms=clock_ms)


def in_a_file(folder: Path, clock_ms: Callable[[], int]) -> Ledger:
    return SqliteLedger(folder / "shared.ledger", clock_ms=clock_ms)


KINDS = {"memory": in_memory, "sqlite": in_a_file}


def minute(number: int, demand: tuple[int, int, int, int] = DEMAND) -> Reservation:
    """The given minute after noon."""
    return Reservation(NOON_MS + number * MINUTE_MS, NOON_MS + (number + 1) * MINUTE_MS, demand)


def book(ledger: Ledger, *reservations: Reservation, **terms: object) -> str:
    """Books on the newest version."""
    return ledger.book(
        reservations,
        expected_version=ledger.snapshot().version,
        terms=BookingTerms(**terms),  # type: ignore[arg-type]
    )
