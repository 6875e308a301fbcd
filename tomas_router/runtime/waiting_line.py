"""Requests that found no place, in the order in which they may try again.

First come, first served, and a level of priority is worth ``LEVEL_MS`` of waiting: a request of higher priority passes
those that came up to that much earlier, and everybody's turn comes, because nobody who comes later can pass for ever.
The order of two requests never changes, so there is nothing to recompute.

While somebody waits, those behind do not book, also where their plan would fit. That is what keeps small plans from
starving a large one, at the price of what stands idle until it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tomas_router.runtime.booking import BookingTerms, iso_time
from tomas_router.runtime.ledger_errors import LeaseLostError, NotYourTurnError
from tomas_router.runtime.process_identity import Holder

LEVEL_MS = 10_000


@dataclass(frozen=True)
class Ticket:
    """A place in the line."""

    ticket_id: str
    priority: int
    enqueued_ms: int
    lease_until_ms: int
    """A waiter that does not say that it is still there is forgotten then."""
    holder: Holder
    tenant: str = ""


def turn(priority: int, enqueued_ms: int) -> int:
    """The lower one goes first; ties go in order of arrival."""
    return enqueued_ms - priority * LEVEL_MS


def in_turn(tickets: Sequence[Ticket]) -> tuple[Ticket, ...]:
    """Args: tickets: in order of arrival."""
    return tuple(sorted(tickets, key=lambda t: turn(t.priority, t.enqueued_ms)))


def place(tickets: Sequence[Ticket], ticket_id: str) -> int:
    """How many go before.

    Raises:
        LeaseLostError: the ticket is not in the line.
    """
    for ahead, ticket in enumerate(in_turn(tickets)):
        if ticket.ticket_id == ticket_id:
            return ahead
    raise LeaseLostError(
        f"ticket {ticket_id} is not in the line: its plan was booked, it left, or it was not heard of for its lease"
    )


def require_turn(tickets: Sequence[Ticket], terms: BookingTerms, now_ms: int) -> None:
    """Raises where somebody else goes first.

    Raises:
        NotYourTurnError: see there.
        LeaseLostError: the ticket of ``terms`` is not in the line.
    """
    line = in_turn(tickets)
    if terms.ticket_id is not None:
        ahead = place(tickets, terms.ticket_id)
    else:
        ahead = sum(turn(t.priority, t.enqueued_ms) <= turn(terms.priority, now_ms) for t in line)
    if ahead:
        first = line[0]
        raise NotYourTurnError(
            f"{ahead} request{'s' if ahead > 1 else ''} must be booked first; the first waits since "
            f"{iso_time(first.enqueued_ms)} with priority {first.priority} ({first.holder})"
        )
