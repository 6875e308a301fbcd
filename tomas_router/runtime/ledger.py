"""Reservations shared by plans: who has booked how much of the machine, and when.

Booking is compare-and-swap: a planner reads a snapshot with its version, decides, and books against that version. If
anything was booked or cancelled in between, the booking is refused and the planner decides again on the new snapshot.
So of two plans made on the same snapshot exactly one is booked, and a plan is booked whole or not at all. Who is
overtaken again and again decides alone (``book_alone``), while the others wait for a moment.

A booking may carry a lease. Its holder extends it while it works; when the holder dies, the lease ends and the booking
stops counting. The end of a lease is itself a change of the ledger, made by whoever notices it first and never undone,
not even by a clock that is set back: what one planner saw as free, no heartbeat takes away again.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tomas_router.runtime.booking import Booking, BookingTerms, wall_clock_ms
from tomas_router.runtime.completions import KEEP_COMPLETIONS_MS, CallKey, Completion, CompletionsInMemory
from tomas_router.runtime.ledger_errors import (
    EpochMissingError,
    LeaseLostError,
    LedgerConflictError,
    NotYourTurnError,
    QuotaExceededError,
    lease_lost,
    version_conflict,
)
from tomas_router.runtime.process_identity import Holder, this_process
from tomas_router.runtime.quota import Quota
from tomas_router.runtime.reservation import Reservation
from tomas_router.runtime.waiting_line import Ticket, in_turn, place, require_turn

__all__ = [
    "Booking",
    "BookingTerms",
    "EpochMissingError",
    "InMemoryLedger",
    "LeaseLostError",
    "Ledger",
    "LedgerConflictError",
    "LedgerSnapshot",
    "NotYourTurnError",
    "Quota",
    "QuotaExceededError",
    "Reservation",
    "Ticket",
]

KEEP_ENDED_MS = 24 * 3_600_000
"""How long a ledger can tell how a booking ended."""
WAITING_LEASE_MS = 30_000
FIRST_EPOCH_MS = 10**12
"""September 2001: an earlier time is not meant as epoch milliseconds."""
NO_TERMS = BookingTerms()


@dataclass(frozen=True)
class LedgerSnapshot:
    """All reservations at one version."""

    version: int
    reservations: tuple[Reservation, ...]
    tenants: tuple[str, ...] = field(default=(), compare=False)
    """Whose each reservation is; may be left out where there are no quotas."""
    quotas: Mapping[str, Quota] = field(default_factory=dict, compare=False)
    """By tenant; a tenant without one may use everything."""

    def of_tenant(self, tenant: str) -> tuple[Reservation, ...]:
        """What one tenant holds."""
        return tuple(r for r, owner in zip(self.reservations, self.tenants, strict=True) if owner == tenant)


Decision = Callable[[LedgerSnapshot], Sequence[Reservation]]
"""What to book, seeing what is booked."""


class Ledger(Protocol):
    """What the allocator and executors need; kept small so that a database or a remote service can stand behind it."""

    @property
    def epoch_times(self) -> bool:
        """Whether reservations must be in epoch milliseconds, as between processes."""
        ...

    def snapshot(self) -> LedgerSnapshot:
        """A consistent view, without bookings whose lease has ended."""
        ...

    def book(
        self, reservations: Sequence[Reservation], *, expected_version: int, terms: BookingTerms = NO_TERMS
    ) -> str:
        """Books all of ``reservations`` and returns a booking id.

        Raises:
            LedgerConflictError: the ledger is no longer at ``expected_version``; nothing was booked.
            NotYourTurnError: others wait and go first; nothing was booked.
            LeaseLostError: the ticket of ``terms`` is not in the line any more; nothing was booked.
            EpochMissingError: the ledger is in epoch time and a reservation is not.
            ValueError: there is nothing to book.
        """
        ...

    def book_alone(self, decide: Decision, *, terms: BookingTerms = NO_TERMS) -> str:
        """Books what ``decide`` answers on the newest snapshot; nobody else changes the ledger in between.

        Others wait meanwhile, so ``decide`` must take milliseconds, and must not use the ledger. What it raises leaves
        the ledger as it was. Raises what ``book`` raises, but for conflicts.
        """
        ...

    def extend(
        self, booking_id: str, *, lease_ms: int | None = None, step: int | None = None, end_ms: int | None = None
    ) -> Booking:
        """Says that the holder is still there, or that a step runs longer than booked; answers what holds now.

        A later end is a fact of the machine, so it is recorded without asking whether it fits: bookings behind it stay
        as they are, and planners see it from now on.

        Args:
            booking_id: what ``book`` returned.
            lease_ms: the lease ends that long from now; never earlier than it did. None with ``end_ms``: a lease that
                would end before the step is extended to its new end.
            step: position of the reservation that ``end_ms`` is about; needed when the booking holds several.
            end_ms: its new end, on the ledger's clock; earlier than booked changes nothing.

        Raises:
            LeaseLostError: the booking does not count any more; the message says since when.
            ValueError: an argument is missing or wrong.
        """
        ...

    def release(self, booking_id: str, *, step: int | None = None) -> None:
        """Frees a booking, or one of its reservations, before its time.

        Raises:
            LeaseLostError: the booking does not count any more, so it was not free to give.
            ValueError: the booking holds no such ``step``.
        """
        ...

    def cancel(self, booking_id: str) -> bool:
        """Frees a booking; False when it does not exist (any more)."""
        ...

    def booking(self, booking_id: str) -> Booking:
        """One booking.

        Raises:
            LeaseLostError: it does not count any more, or never did.
        """
        ...

    def bookings(self) -> tuple[Booking, ...]:
        """All that count, in the order in which they were made."""
        ...

    def set_quota(self, tenant: str, quota: Quota | None) -> None:
        """Limits what a tenant may hold from now on; None lifts the limit. What is booked stays."""
        ...

    def enqueue(self, *, priority: int = 0, tenant: str = "", lease_ms: int = WAITING_LEASE_MS) -> str:
        """A place in the line, kept for ``lease_ms`` and as long as ``keep_place`` is called in time; its ticket."""
        ...

    def keep_place(self, ticket_id: str, *, lease_ms: int = WAITING_LEASE_MS) -> int:
        """Says that the waiter is still there; answers how many go before it.

        Raises:
            LeaseLostError: the ticket is not in the line any more.
        """
        ...

    def leave(self, ticket_id: str) -> bool:
        """Gives a place up; False when there is none (any more)."""
        ...

    def waiting(self) -> tuple[Ticket, ...]:
        """The line, the first one first."""
        ...


class InMemoryLedger:
    """A ledger for the threads of one process."""

    def __init__(
        self,
        *,
        epoch_times: bool = False,
        clock_ms: Callable[[], int] = wall_clock_ms,
        keep_completions_ms: int = KEEP_COMPLETIONS_MS,
        first_version: int = 0,
    ) -> None:
        """An empty ledger.

        Args:
            epoch_times: insist on epoch milliseconds, as ledgers between processes do.
            clock_ms: now in epoch milliseconds, for leases.
            keep_completions_ms: how long completed calls are remembered.
            first_version: where versions begin; a ledger that replaces one that was lost must begin above it.
        """
        self.epoch_times = epoch_times
        self._clock_ms = clock_ms
        self._lock = threading.Lock()
        self._version = first_version
        self._bookings: dict[str, Booking] = {}
        self._ended: dict[str, tuple[str, int]] = {}
        self._quotas: dict[str, Quota] = {}
        self._line: dict[str, Ticket] = {}
        self._completions = CompletionsInMemory(clock_ms, keep_completions_ms)

    def snapshot(self) -> LedgerSnapshot:
        with self._lock:
            self._expire()
            return self._snapshot()

    def book(
        self, reservations: Sequence[Reservation], *, expected_version: int, terms: BookingTerms = NO_TERMS
    ) -> str:
        with self._lock:
            now_ms = self._expire()
            if self._version != expected_version:
                raise version_conflict(self._version, expected_version)
            return self._book(reservations, terms, now_ms)

    def book_alone(self, decide: Decision, *, terms: BookingTerms = NO_TERMS) -> str:
        with self._lock:
            now_ms = self._expire()
            return self._book(decide(self._snapshot()), terms, now_ms)

    def extend(
        self, booking_id: str, *, lease_ms: int | None = None, step: int | None = None, end_ms: int | None = None
    ) -> Booking:
        with self._lock:
            now_ms = self._expire()
            before = self._held(booking_id, now_ms)
            after = before.extended(now_ms, lease_ms, step, end_ms)
            self._bookings[booking_id] = after
            self._version += after.reservations != before.reservations
            return after

    def release(self, booking_id: str, *, step: int | None = None) -> None:
        with self._lock:
            now_ms = self._expire()
            held = self._held(booking_id, now_ms)
            rest = None if step is None else held.without(step)
            if rest is None:
                self._end(booking_id, "released", now_ms)
            else:
                self._bookings[booking_id] = rest
            self._version += 1

    def cancel(self, booking_id: str) -> bool:
        return release_if_held(self, booking_id)

    def booking(self, booking_id: str) -> Booking:
        with self._lock:
            return self._held(booking_id, self._expire())

    def bookings(self) -> tuple[Booking, ...]:
        with self._lock:
            self._expire()
            return tuple(self._bookings.values())

    def set_quota(self, tenant: str, quota: Quota | None) -> None:
        with self._lock:
            self._quotas.pop(tenant, None)
            if quota is not None:
                self._quotas[tenant] = quota
            self._version += 1

    def enqueue(
        self,
        *,
        priority: int = 0,
        tenant: str = "",
        lease_ms: int = WAITING_LEASE_MS,
        holder: Holder | None = None,
    ) -> str:
        """As in every ledger; ``holder`` is who waits, where that is not this process."""
        ticket_id, waiter = uuid.uuid4().hex, holder or this_process()
        with self._lock:
            now_ms = self._expire()
            self._line[ticket_id] = Ticket(ticket_id, priority, now_ms, now_ms + lease_ms, waiter, tenant)
        return ticket_id

    def keep_place(self, ticket_id: str, *, lease_ms: int = WAITING_LEASE_MS) -> int:
        with self._lock:
            now_ms = self._expire()
            ahead = place(tuple(self._line.values()), ticket_id)
            self._line[ticket_id] = replace(self._line[ticket_id], lease_until_ms=now_ms + lease_ms)
            return ahead

    def leave(self, ticket_id: str) -> bool:
        with self._lock:
            return self._line.pop(ticket_id, None) is not None

    def waiting(self) -> tuple[Ticket, ...]:
        with self._lock:
            self._expire()
            return in_turn(tuple(self._line.values()))

    def completion(self, key: CallKey) -> Completion | None:
        return self._completions.completion(key)

    def complete(self, key: CallKey, tool: str, result: Any) -> None:
        self._completions.complete(key, tool, result)

    def _snapshot(self) -> LedgerSnapshot:
        owned = [(r, booking.tenant) for booking in self._bookings.values() for r in booking.reservations.values()]
        reservations, tenants = tuple(r for r, _ in owned), tuple(tenant for _, tenant in owned)
        return LedgerSnapshot(self._version, reservations, tenants, dict(self._quotas))

    def _book(self, reservations: Sequence[Reservation], terms: BookingTerms, now_ms: int) -> str:
        require_clock(reservations, epoch_times=self.epoch_times)
        require_turn(tuple(self._line.values()), terms, now_ms)
        booking_id = uuid.uuid4().hex
        self._bookings[booking_id] = Booking.of(booking_id, reservations, terms, now_ms, epoch_times=self.epoch_times)
        self._line.pop(terms.ticket_id or "", None)
        self._version += 1
        return booking_id

    def _held(self, booking_id: str, now_ms: int) -> Booking:
        if booking_id not in self._bookings:
            raise lease_lost(booking_id, self._ended.get(booking_id), now_ms)
        return self._bookings[booking_id]

    def _expire(self) -> int:
        """Ends leases whose time is over, and returns that time."""
        now_ms = self._clock_ms()
        lost = [booking for booking in self._bookings.values() if booking.is_lost(now_ms)]
        for booking in lost:
            self._end(booking.booking_id, "expired", booking.lease_until_ms or now_ms)
        self._version += bool(lost)
        self._line = {name: ticket for name, ticket in self._line.items() if ticket.lease_until_ms > now_ms}
        return now_ms

    def _end(self, booking_id: str, how: str, at_ms: int) -> None:
        del self._bookings[booking_id]
        self._ended[booking_id] = (how, at_ms)
        while (oldest := next(iter(self._ended))) != booking_id and self._ended[oldest][1] < at_ms - KEEP_ENDED_MS:
            del self._ended[oldest]


def release_if_held(ledger: Ledger, booking_id: str) -> bool:
    """What ``cancel`` does: ``release``, where a booking that does not count any more is no error."""
    try:
        ledger.release(booking_id)
    except LeaseLostError:
        return False
    return True


def require_clock(reservations: Sequence[Reservation], *, epoch_times: bool) -> None:
    """Raises where a ledger in epoch time is given times that cannot be meant so.

    Raises:
        EpochMissingError: see there.
    """
    early = [r.start_ms for r in reservations if r.start_ms < FIRST_EPOCH_MS] if epoch_times else []
    if early:
        raise EpochMissingError(
            f"this ledger is shared, so start_ms must be in epoch milliseconds (>= {FIRST_EPOCH_MS}), got {early[0]}; "
            f"give the timeline its epoch_ms, the Unix time of its time 0"
        )
