"""Books a plan that was made without booking it, from now on: after a person approved, or when a step is called."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tomas_router.planner.allocator import StepDemand
from tomas_router.planner.demand import ResourceOption
from tomas_router.planner.in_turn import allocate_in_turn
from tomas_router.runtime.booking import BookingTerms
from tomas_router.runtime.ledger import NO_TERMS, InMemoryLedger, Ledger
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import PlanStep, ToolPlan


def reserve(
    plan: ToolPlan,
    timeline: SystemTimeline,
    ledger: Ledger,
    *,
    max_wait_ms: int = 0,
    terms: BookingTerms = NO_TERMS,
    sleep: Callable[[float], None] = time.sleep,
) -> ToolPlan:
    """The same tools in the same configurations, placed anew on what is free now, and booked.

    Args:
        plan: planned.
        timeline: what the machine offers, with an epoch.
        ledger: what is booked by others.
        max_wait_ms: how long to wait for room.
        terms: for whom.
        sleep: takes seconds; may raise to stop waiting.

    Raises:
        InfeasibleError: it does not fit, or did not within the time.
        EpochMissingError: the timeline has no epoch.
    """
    demands = [_demand(step, plan.steps) for step in plan.steps]
    placed = allocate_in_turn(demands, timeline, ledger, max_wait_ms=max_wait_ms, terms=terms, sleep=sleep)
    assert timeline.epoch_ms is not None, "allocate_in_turn asks for it"
    steps = [
        step.model_copy(update={"start_ms": where.start_ms}) for step, where in zip(plan.steps, placed, strict=True)
    ]
    created = datetime.fromtimestamp(timeline.epoch_ms / 1000, UTC).isoformat()
    update = {"steps": tuple(steps), "created_at": created, "booking_id": placed[0].booking_id, "optimality": None}
    expires = max(plan.expires_at, created, key=datetime.fromisoformat)
    return ToolPlan.model_validate(plan.model_copy(update=update | {"expires_at": expires}).model_dump())


def copy_of(ledger: Ledger) -> InMemoryLedger:
    """A ledger to plan on: what others have booked counts in it, and what is booked in it counts nowhere else."""
    snapshot = ledger.snapshot()
    copy = InMemoryLedger(epoch_times=ledger.epoch_times, clock_ms=lambda: 0)
    tenants = snapshot.tenants or ("",) * len(snapshot.reservations)
    for tenant in dict.fromkeys(tenants):
        held = [r for r, owner in zip(snapshot.reservations, tenants, strict=True) if owner == tenant]
        copy.book(held, expected_version=copy.snapshot().version, terms=BookingTerms(tenant=tenant))
    for tenant, quota in snapshot.quotas.items():
        copy.set_quota(tenant, quota)
    return copy


def _demand(step: PlanStep, steps: Sequence[PlanStep]) -> StepDemand:
    config, latency_ms = step.resource_config, step.expected_latency_ms
    if config is None or latency_ms is None:
        raise ValueError(f"{step.id} is not placed, so there is nothing to reserve")
    option = ResourceOption(config.cpu_core, config.cpu_mem_gb, config.gpu_sm, config.gpu_mem_gb, max(latency_ms, 1))
    position = {other.id: number for number, other in enumerate(steps)}
    depends_on = tuple(position[dependency] for dependency in step.depends_on)
    return StepDemand([option], depends_on, f"{step.id} ({step.tool_name})", (step.tool_identity,))
