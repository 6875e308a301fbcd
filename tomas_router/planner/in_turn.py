"""Allocation for those who can wait: at once when there is room, else in line behind those who came before.

Who waits must hold nothing that another waiter needs: release first, or both may wait until their time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import DEFAULT_LIMITS, Allocation, StepDemand, allocate_plan
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.booking import wall_clock_ms
from tomas_router.runtime.ledger import (
    NO_TERMS,
    WAITING_LEASE_MS,
    BookingTerms,
    EpochMissingError,
    InMemoryLedger,
    Ledger,
    NotYourTurnError,
    QuotaExceededError,
)
from tomas_router.runtime.timeline import SystemTimeline

POLL_MS = 50


def allocate_in_turn(
    steps: Sequence[StepDemand],
    timeline: SystemTimeline,
    ledger: Ledger,
    *,
    max_wait_ms: int,
    t_inf_ms: int = 0,
    deadline_ms: int | None = None,
    limits: SearchLimits = DEFAULT_LIMITS,
    terms: BookingTerms = NO_TERMS,
    poll_ms: int = POLL_MS,
    clock_ms: Callable[[], int] = wall_clock_ms,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Allocation, ...]:
    """``allocate_plan``, again and again in the ledger's line until the plan fits or the time is over.

    It blocks the calling thread between attempts. Each attempt is released at the moment that it is made. A plan that
    an empty machine could not run, either, does not wait; one that only its tenant's quota holds up waits beside the
    line, so that others need not wait for that tenant.

    Args:
        steps: as for ``allocate_plan``.
        timeline: with an epoch; what it offers is all there is, so waiting pays where others may free what they hold.
        ledger: holds the line.
        max_wait_ms: how long to wait.
        t_inf_ms: no step starts earlier than that after an attempt.
        deadline_ms: the last step must end by then, on the timeline's clock.
        limits: as for ``allocate_plan``.
        terms: for whom; ``priority`` decides about the place in the line.
        poll_ms: time between two looks at the line.
        clock_ms: now in epoch milliseconds.
        sleep: takes seconds.

    Raises:
        InfeasibleError: waiting cannot help, or the time is over and there is still no room or no turn.
        EpochMissingError: the timeline has no epoch.
        LeaseLostError: the process was held up for so long that its place was given up.
    """
    epoch_ms = timeline.epoch_ms
    if epoch_ms is None:
        raise EpochMissingError(f"timeline {timeline.timeline_id}: epoch_ms must be set to wait, got None")

    def attempt(on: Ledger, with_terms: BookingTerms) -> tuple[Allocation, ...]:
        release_ms = max(clock_ms() - epoch_ms, 0) + t_inf_ms
        return allocate_plan(steps, timeline, release_ms, on, deadline_ms=deadline_ms, limits=limits, terms=with_terms)

    place = _Place(ledger, terms, max(WAITING_LEASE_MS, 2 * poll_ms))
    until_ms, refused = clock_ms() + max_wait_ms, InfeasibleError("its turn did not come")
    try:
        while True:
            if place.is_first():
                try:
                    return attempt(ledger, place.terms)
                except NotYourTurnError as error:
                    refused = error
                    place.line_up()
                except InfeasibleError as error:
                    refused = error
                    attempt(_unbooked(ledger, terms.tenant), terms)  # raises where waiting cannot help
                    if isinstance(error, QuotaExceededError):
                        place.leave()
                    else:
                        place.line_up()
            left_ms = until_ms - clock_ms()
            if left_ms <= 0:
                raise InfeasibleError(f"waited {max_wait_ms} ms: {refused.reason}", refused.shortfalls) from refused
            sleep(min(poll_ms, left_ms) / 1000)
    finally:
        place.leave()


@dataclass
class _Place:
    """A place in the line, or none yet."""

    ledger: Ledger
    terms: BookingTerms
    lease_ms: int

    def is_first(self) -> bool:
        """Whether an attempt may succeed; without a place one may always ask."""
        ticket_id = self.terms.ticket_id
        return ticket_id is None or self.ledger.keep_place(ticket_id, lease_ms=self.lease_ms) == 0

    def line_up(self) -> None:
        """Keeps the place that there is."""
        if self.terms.ticket_id is None:
            ticket_id = self.ledger.enqueue(
                priority=self.terms.priority, tenant=self.terms.tenant, lease_ms=self.lease_ms
            )
            self.terms = replace(self.terms, ticket_id=ticket_id)

    def leave(self) -> None:
        if self.terms.ticket_id is not None:
            self.ledger.leave(self.terms.ticket_id)
            self.terms = replace(self.terms, ticket_id=None)


def _unbooked(ledger: Ledger, tenant: str) -> Ledger:
    """The machine with nothing booked, under the tenant's quota."""
    empty = InMemoryLedger(epoch_times=True)
    empty.set_quota(tenant, ledger.snapshot().quotas.get(tenant))
    return empty
