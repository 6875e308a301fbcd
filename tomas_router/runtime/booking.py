"""What a ledger knows of one booking, and the rules of its lease.

The rules are functions of a booking and the time, so every ledger applies the same ones, whatever it stores them in.
Times of leases are always epoch milliseconds; times of reservations are on the ledger's clock (``runtime.ledger``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tomas_router.runtime.process_identity import Holder, this_process
from tomas_router.runtime.reservation import Reservation


def wall_clock_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class BookingTerms:
    """For whom a booking is made, and how long it stands unless its holder says that it is still there."""

    lease_ms: int | None = None
    """The lease ends that long after booking or after the last ``extend``. None: with the last reservation, where
    reservations are in epoch times; else it does not end."""
    tenant: str = ""
    thread_id: str | None = None
    plan_id: str | None = None
    holder: Holder | None = None
    """None: the process that books."""
    priority: int = 0
    """Higher goes first where requests wait (``runtime.waiting_line``)."""
    ticket_id: str | None = None
    """A place in the line, given up by booking."""

    def __post_init__(self) -> None:
        _check_lease(self.lease_ms)


@dataclass(frozen=True)
class Booking:
    """Reservations that are booked, kept and freed together."""

    booking_id: str
    reservations: Mapping[int, Reservation]
    """By position in what was booked; what was released early is missing."""
    booked_ms: int
    lease_until_ms: int | None
    """The booking counts until then; None: until it is released."""
    holder: Holder
    tenant: str = ""
    thread_id: str | None = None
    plan_id: str | None = None

    @classmethod
    def of(
        cls,
        booking_id: str,
        reservations: Sequence[Reservation],
        terms: BookingTerms,
        now_ms: int,
        *,
        epoch_times: bool,
    ) -> Booking:
        """A new booking.

        Raises:
            ValueError: there is nothing to book.
        """
        if not reservations:
            raise ValueError("a booking must hold at least one reservation, got none")
        lease_until = None if terms.lease_ms is None else now_ms + terms.lease_ms
        if terms.lease_ms is None and epoch_times:
            lease_until = max(r.end_ms for r in reservations)
        return cls(
            booking_id=booking_id,
            reservations=dict(enumerate(reservations)),
            booked_ms=now_ms,
            lease_until_ms=lease_until,
            holder=terms.holder or this_process(),
            tenant=terms.tenant,
            thread_id=terms.thread_id,
            plan_id=terms.plan_id,
        )

    def is_lost(self, now_ms: int) -> bool:
        """Whether the lease has ended."""
        return self.lease_until_ms is not None and self.lease_until_ms <= now_ms

    def extended(self, now_ms: int, lease_ms: int | None, step: int | None, end_ms: int | None) -> Booking:
        """With a later end of the lease, of one reservation, or of both; arguments as for ``Ledger.extend``."""
        _check_lease(lease_ms)
        if lease_ms is None and end_ms is None:
            raise ValueError("extend needs lease_ms, end_ms or both, got neither")
        if step is not None and end_ms is None:
            raise ValueError(f"extend needs end_ms beside step {step}: the new end of that reservation")
        reservations = self.reservations
        if end_ms is not None:
            position = self._position(step)
            held = reservations[position]
            reservations = {**reservations, position: replace(held, end_ms=max(held.end_ms, end_ms))}
        until = self.lease_until_ms
        if until is not None:
            asked = now_ms + lease_ms if lease_ms is not None else end_ms
            until = max(until, asked or 0)
        return replace(self, reservations=reservations, lease_until_ms=until)

    def without(self, step: int) -> Booking | None:
        """What is left when one reservation is released; None: nothing."""
        position = self._position(step)
        rest = {p: r for p, r in self.reservations.items() if p != position}
        return replace(self, reservations=rest) if rest else None

    def _position(self, step: int | None) -> int:
        positions = sorted(self.reservations)
        if step is None and len(positions) == 1:
            return positions[0]
        if step is None or step not in self.reservations:
            raise ValueError(f"step must be one of {positions} in booking {self.booking_id}, got {step}")
        return step


def iso_time(epoch_ms: int) -> str:
    """``2026-01-31T12:00:00.000Z``; a number where the calendar ends."""
    try:
        moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check_lease(lease_ms: int | None) -> None:
    if lease_ms is not None and lease_ms <= 0:
        raise ValueError(f"lease_ms must be > 0, got {lease_ms}")
