"""Books a plan before it runs, keeps the booking alive meanwhile, and frees each step when it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from tomas_router.executors.execution import ExecutionReport
from tomas_router.executors.threads import ThreadExecutor
from tomas_router.planner.reserve import reserve
from tomas_router.runtime.booking import BookingTerms
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import NO_TERMS, Ledger
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import PlanStep, ToolPlan

LEASE_MS = 15_000


@dataclass(frozen=True)
class Booked:
    """Where plans are booked that an executor runs.

    Args:
        ledger: in epoch time.
        timeline: what the machine offers now, with an epoch; asked for each plan that is not booked yet.
        terms: for whom; its lease is ``lease_ms``.
        max_wait_ms: how long to wait for room.
        lease_ms: how long a booking outlives this process.
    """

    ledger: Ledger
    timeline: Callable[[], SystemTimeline]
    terms: BookingTerms = NO_TERMS
    max_wait_ms: int = 60_000
    lease_ms: int = LEASE_MS

    def reserved(self, plan: ToolPlan) -> ToolPlan:
        """The plan, placed anew on what is free now and booked; as it is when it was booked when it was made.

        Raises:
            InfeasibleError: there was no room in time.
        """
        if plan.booking_id is not None:
            return plan
        terms = replace(self.terms, lease_ms=self.lease_ms)
        return reserve(plan, self.timeline(), self.ledger, max_wait_ms=self.max_wait_ms, terms=terms)

    def keep(self, plan: ToolPlan, step: int | None) -> KeepLease:
        """The lease of a step by position, or of the whole plan."""
        assert plan.booking_id is not None, "what is kept was booked"
        return KeepLease(self.ledger, plan.booking_id, lease_ms=self.lease_ms, step=step)


@dataclass
class Leases:
    """The leases of the steps that run, so that whoever runs them sees when one is lost."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _of_step: dict[str, KeepLease] = field(default_factory=dict)

    def lost(self, step: PlanStep) -> bool:
        """Whether a step runs without its booking."""
        with self._lock:
            lease = self._of_step.get(step.id)
        return lease is not None and lease.lost.is_set()

    @contextmanager
    def remembered(self, step: PlanStep, lease: KeepLease) -> Iterator[None]:
        """While the block runs."""
        with lease:
            with self._lock:
                self._of_step[step.id] = lease
            try:
                yield
            finally:
                with self._lock:
                    del self._of_step[step.id]


def execute_booked(plan: ToolPlan, booked: Booked | None, leases: Leases, executor: ThreadExecutor) -> ExecutionReport:
    """Runs a plan, within its booking where there is a ledger.

    Args:
        plan: planned.
        booked: None runs it without a ledger.
        leases: told what is held.
        executor: runs the plan; where it is booked, each step within its part, and expiry is not checked.

    Raises:
        NotExecutableError: see ``require_executable``.
        InfeasibleError: there was no room in time.
    """
    if booked is None:
        return executor.execute(plan)
    held = booked.reserved(plan)

    def hold(position: int, step: PlanStep) -> AbstractContextManager[None]:
        return leases.remembered(step, booked.keep(held, position))

    with booked.keep(held, None):  # also while the first step waits for its start
        return replace(executor, hold=hold, check_expiry=False).execute(held)
