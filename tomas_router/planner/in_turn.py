"""Allocation for those who can wait: at once when there is room, else in line behind those who came before.

Who waits must hold nothing that another waiter needs: release first, or both may wait until their time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import DEFAULT_LIMITS, Allocation, StepDemand, allocate_plan
from tomas_router.planner.demand import Option
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


class StartInTurn:
    """Waits for room to start one step at once, without blocking: ``attempt`` now and then, ``leave`` at the end.

    A booking that starts later would rest on others ending when they said; a step that is called now is better started
    when they have ended. Options are tried in order of preference, each as it is.
    """

    def __init__(
        self,
        options: Sequence[Option],
        timeline: Callable[[], SystemTimeline],
        ledger: Ledger,
        *,
        max_wait_ms: int,
        terms: BookingTerms = NO_TERMS,
        name: str | None = None,
        tool: str = "",
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Begins to wait.

        Args:
            options: ways to run the step, the preferred one first.
            timeline: what the machine offers at the moment of an attempt, with an epoch.
            ledger: holds the line.
            max_wait_ms: 0 tries once.
            terms: for whom.
            name: what messages call the step.
            tool: what the ledger calls it.
            clock_ms: now in epoch milliseconds.
        """
        self._options, self._timeline, self._ledger, self._name, self._tool = options, timeline, ledger, name, tool
        self._max_wait_ms, self._clock_ms = max_wait_ms, clock_ms
        self._until_ms = clock_ms() + max_wait_ms
        self._place = _Place(ledger, terms, WAITING_LEASE_MS)
        self._why: InfeasibleError = InfeasibleError("its turn did not come")

    def attempt(self) -> Allocation | None:
        """The booked allocation, whose ``option_index`` says which option; None: not yet.

        Raises:
            InfeasibleError: waiting cannot help, or the time is over.
            EpochMissingError: the timeline has no epoch.
            LeaseLostError: the process was held up for so long that its place was given up.
        """
        if self._place.is_first():
            try:
                return self._first_that_starts(self._ledger, self._place.terms)
            except NotYourTurnError as error:
                self._why = error
                self._place.line_up()
            except InfeasibleError as error:
                self._why = error
                self._first_that_starts(_unbooked(self._ledger, self._place.terms.tenant), NO_TERMS)
                if isinstance(error, QuotaExceededError):
                    self._place.leave()
                else:
                    self._place.line_up()
        if self._clock_ms() >= self._until_ms:
            raise InfeasibleError(
                f"waited {self._max_wait_ms} ms: {self._why.reason}", self._why.shortfalls
            ) from self._why
        return None

    def leave(self) -> None:
        """Gives up the place in the line; again does nothing."""
        self._place.leave()

    def _first_that_starts(self, ledger: Ledger, terms: BookingTerms) -> Allocation:
        timeline = self._timeline()
        if timeline.epoch_ms is None:
            raise EpochMissingError(f"timeline {timeline.timeline_id}: epoch_ms must be set to wait, got None")
        release_ms = max(self._clock_ms() - timeline.epoch_ms, 0)
        refused: InfeasibleError | None = None
        for index, option in enumerate(self._options):
            step = StepDemand([option], name=self._name, tools=(self._tool,))
            deadline_ms = release_ms + ceil(option.latency_ms)
            try:
                placed = allocate_plan([step], timeline, release_ms, ledger, deadline_ms=deadline_ms, terms=terms)[0]
            except NotYourTurnError:
                raise
            except InfeasibleError as error:
                refused = refused or error
                continue
            return replace(placed, option_index=index)
        raise refused or InfeasibleError("there is no option to start")


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
