"""Reservations shared by plans: who has booked how much of the machine, and when.

Booking is compare-and-swap: a planner reads a snapshot with its version, decides, and books against that version. If
anything was booked or cancelled in between, the booking is refused and the planner decides again on the new snapshot.
So of two plans made on the same snapshot exactly one is booked, and a plan is booked whole or not at all.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tomas_router.errors import TomasRouterError


class LedgerConflictError(TomasRouterError):
    """The ledger changed since the snapshot that a booking was decided on."""


@dataclass(frozen=True)
class Reservation:
    """``demand`` is taken on ``[start_ms, end_ms)``.

    Times are on the ledger's clock: the timeline's own for timelines without an epoch, else epoch milliseconds. Plans
    that share a ledger must share that choice.
    """

    start_ms: int
    end_ms: int
    demand: tuple[int, int, int, int]  # milli-cores, MiB, 0.1 % SM, MiB

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise ValueError(f"end_ms must lie after start_ms {self.start_ms}, got {self.end_ms}")
        if min(self.demand) < 0:
            raise ValueError(f"demand must be >= 0 in every resource, got {self.demand}")


@dataclass(frozen=True)
class LedgerSnapshot:
    """All reservations at one version."""

    version: int
    reservations: tuple[Reservation, ...]


class Ledger(Protocol):
    """What the allocator needs; kept small so that a database or a remote service can stand behind it."""

    def snapshot(self) -> LedgerSnapshot:
        """A consistent view."""
        ...

    def book(self, reservations: Sequence[Reservation], *, expected_version: int) -> str:
        """Books all of ``reservations`` and returns a booking id.

        Raises:
            LedgerConflictError: the ledger is no longer at ``expected_version``; nothing was booked.
        """
        ...

    def cancel(self, booking_id: str) -> bool:
        """Frees a booking; False when it does not exist (any more)."""
        ...


class InMemoryLedger:
    """A ledger for the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._bookings: dict[str, tuple[Reservation, ...]] = {}

    def snapshot(self) -> LedgerSnapshot:
        with self._lock:
            reservations = tuple(r for booking in self._bookings.values() for r in booking)
            return LedgerSnapshot(self._version, reservations)

    def book(self, reservations: Sequence[Reservation], *, expected_version: int) -> str:
        booking_id = uuid.uuid4().hex
        with self._lock:
            if self._version != expected_version:
                raise LedgerConflictError(
                    f"the ledger is at version {self._version}, the booking was decided on version {expected_version}"
                )
            self._bookings[booking_id] = tuple(reservations)
            self._version += 1
        return booking_id

    def cancel(self, booking_id: str) -> bool:
        with self._lock:
            if self._bookings.pop(booking_id, None) is None:
                return False
            self._version += 1
            return True

    def reservations(self, booking_id: str) -> tuple[Reservation, ...]:
        """What a booking holds.

        Raises:
            KeyError: there is no such booking.
        """
        with self._lock:
            return self._bookings[booking_id]
