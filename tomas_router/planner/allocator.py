"""Exact allocation: which option, and when, on the capacity that is left.

Objective, in this order: completion, cost, start, position of the option. Everything inside is whole milliseconds and
whole resource units (``runtime.residual``), intervals are right-open and equality fits, so answers carry no tolerance
and the plan never over-commits the given curve. What does not fit raises ``InfeasibleError``; nothing is clamped.

With a ledger the answer is booked, all steps or none: the curve is read together with the ledger's version, and when
another plan was booked in the meantime the booking is refused and the allocation is made again, in the end while the
others wait. Timelines with different epochs may share a ledger, because bookings are in epoch time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tomas_router.errors import InfeasibleError
from tomas_router.planner.demand import Demand, IntegerOptions, Option
from tomas_router.planner.plan_problem import PlanProblem
from tomas_router.planner.plan_search import SearchLimits, SearchResult, search
from tomas_router.planner.schedule import Stuck
from tomas_router.planner.shortage import explain_shortage
from tomas_router.planner.sweep import best_option, earliest_starts
from tomas_router.runtime.ledger import (
    NO_TERMS,
    BookingTerms,
    Decision,
    EpochMissingError,
    Ledger,
    LedgerConflictError,
    LedgerSnapshot,
    QuotaExceededError,
    Reservation,
)
from tomas_router.runtime.residual import FOREVER_MS, ResidualCapacity
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ResourceConfig

OPTIMISTIC_ATTEMPTS = 3
"""A plan that takes longer to make than others take to book would be overtaken for ever."""
DEFAULT_LIMITS = SearchLimits()
GREEDY = SearchLimits(budget_ms=0.0)
"""Plain list scheduling: fastest, and the same answer on every machine."""
EXACT = SearchLimits(exact_ms=10_000.0)
"""A proof of optimality if ten seconds are enough; needs the extra ``exact``."""


@dataclass(frozen=True)
class Proof:
    """How good the plan that an allocation belongs to is known to be."""

    status: Literal["optimal", "feasible"]
    """``optimal``: no plan ends earlier, and none that ends as early costs less."""
    bound_ms: int
    """No plan ends earlier than that, on the timeline's clock."""


Chosen = tuple[int, int, int]
"""Option, start and latency of a step."""


@dataclass(frozen=True)
class Allocation:
    """Where and when one step runs; ``[start_ms, end_ms)`` on the timeline's clock."""

    option_index: int
    start_ms: int
    end_ms: int
    config: ResourceConfig
    latency_ms: int
    beyond_horizon: bool
    """The run ends after the last time that the timeline vouches for (hold tail)."""
    booking_id: str | None = None
    proof: Proof | None = None
    """About the whole plan, the same for all its steps."""


@dataclass(frozen=True)
class StepDemand:
    """One step of a plan: its options and the positions of the steps that must end before it starts."""

    options: Sequence[Option]
    depends_on: tuple[int, ...] = ()
    name: str | None = None
    """What messages call it; by default ``step`` and its position."""
    tools: Sequence[str] = ()
    """What the ledger calls the tool of each option; none: nothing."""


def allocate(
    options: Sequence[Option],
    timeline: SystemTimeline,
    release_ms: int = 0,
    ledger: Ledger | None = None,
    *,
    deadline_ms: int | None = None,
    terms: BookingTerms = NO_TERMS,
) -> Allocation:
    """The option and start that complete first.

    Args:
        options: profile rows or ``ResourceOption``; at least one.
        timeline: remaining resources; its tail policy says what holds after the horizon.
        release_ms: earliest start.
        ledger: reservations of other plans are respected and the answer is booked.
        deadline_ms: the run must end by then.
        terms: for whom the answer is booked, and its lease.

    Raises:
        InfeasibleError: no option fits; ``reason`` and ``shortfalls`` say what is missing, when, and what would help.
        NoProfileError: ``options`` is empty.
        QuotaExceededError: the machine has room, but not within the tenant's quota.
        NotYourTurnError: others wait for the machine and go first (``planner.in_turn``).
        EpochMissingError: the ledger is in epoch time and the timeline has no epoch.
        ValueError: an option is negative, not finite or takes no time.
    """
    return allocate_plan((StepDemand(options),), timeline, release_ms, ledger, deadline_ms=deadline_ms, terms=terms)[0]


def allocate_plan(
    steps: Sequence[StepDemand],
    timeline: SystemTimeline,
    release_ms: int = 0,
    ledger: Ledger | None = None,
    *,
    deadline_ms: int | None = None,
    limits: SearchLimits = DEFAULT_LIMITS,
    terms: BookingTerms = NO_TERMS,
) -> tuple[Allocation, ...]:
    """Places all steps with the least makespan found, then the least cost; each step is booked before the next.

    One step is solved exactly. Several are list-scheduled, and better schedules are looked for within ``limits``; small
    plans are solved to proven optimality (``plan_search``).

    Args:
        steps: none gives an empty plan.
        timeline: as for ``allocate``.
        release_ms: as for ``allocate``.
        ledger: as for ``allocate``; one booking holds the whole plan.
        deadline_ms: the last step must end by then.
        limits: time budget and number of schedules; ``GREEDY`` = list scheduling only, ``EXACT`` = CP-SAT up to a
            proof, with a limit. Where others book all the time, the plan is in the end made while they wait, so a long
            budget is theirs as well.
        terms: as for ``allocate``.

    Raises:
        InfeasibleError: as for ``allocate``; the plan is all or nothing, so no step is placed or booked.
        QuotaExceededError: as for ``allocate``.
        NotYourTurnError: as for ``allocate``.
        EpochMissingError: as for ``allocate``.
        MissingExtraError: ``limits`` ask for a proof by OR-Tools, which is not installed.
        ValueError: ``depends_on`` has a cycle or points outside the plan, or an option is invalid.
    """
    options = tuple(IntegerOptions.of(step.options) for step in steps)
    predecessors = tuple(tuple(step.depends_on) for step in steps)
    if ledger is None:
        residual = ResidualCapacity.of(timeline, (), deadline_ms)
        return _place(steps, PlanProblem(residual, options, predecessors, release_ms), limits)
    _require_epoch(timeline, ledger)
    placed: tuple[Allocation, ...] = ()

    def decide(snapshot: LedgerSnapshot) -> Sequence[Reservation]:
        nonlocal placed
        free = ResidualCapacity.of(timeline, snapshot.reservations, deadline_ms)
        problem = PlanProblem(free, options, predecessors, release_ms)
        placed = _place_within_quota(steps, problem, _quota_left(timeline, snapshot, terms, deadline_ms), limits, terms)
        return _reservations(steps, placed, options, timeline)

    booking_id = _book(ledger, decide, terms)
    return tuple(replace(allocation, booking_id=booking_id) for allocation in placed)


def _book(ledger: Ledger, decide: Decision, terms: BookingTerms) -> str:
    """By compare-and-swap, which lets others book meanwhile; alone when others were quicker each time."""
    for _ in range(OPTIMISTIC_ATTEMPTS):
        snapshot = ledger.snapshot()
        reservations = decide(snapshot)
        try:
            return ledger.book(reservations, expected_version=snapshot.version, terms=terms)
        except LedgerConflictError:
            continue
    return ledger.book_alone(decide, terms=terms)


def _require_epoch(timeline: SystemTimeline, ledger: Ledger) -> None:
    if ledger.epoch_times and timeline.epoch_ms is None:
        raise EpochMissingError(
            f"timeline {timeline.timeline_id}: epoch_ms must be set (the Unix time of its time 0, in ms) to share a "
            f"ledger in epoch time with other processes, got None; SystemTimeline.with_epoch sets it"
        )


def _quota_left(
    timeline: SystemTimeline, snapshot: LedgerSnapshot, terms: BookingTerms, deadline_ms: int | None
) -> ResidualCapacity | None:
    """What the tenant's quota leaves it; None where it has no quota."""
    quota = snapshot.quotas.get(terms.tenant)
    if quota is None:
        return None
    return ResidualCapacity.of(timeline, snapshot.of_tenant(terms.tenant), deadline_ms, quota)


def _place_within_quota(
    steps: Sequence[StepDemand],
    problem: PlanProblem,
    quota_left: ResidualCapacity | None,
    limits: SearchLimits,
    terms: BookingTerms,
) -> tuple[Allocation, ...]:
    if quota_left is None:
        return _place(steps, problem, limits)
    limited = PlanProblem(
        problem.residual.at_most(quota_left), problem.options, problem.predecessors, problem.release_ms
    )
    try:
        return _place(steps, limited, limits)
    except InfeasibleError as error:
        _place(steps, problem, limits)  # raises where the machine, too, has no room
        raise QuotaExceededError(
            f"the machine has room, but not within the quota of tenant {terms.tenant!r}: {error.reason}",
            error.shortfalls,
        ) from error


def _place(steps: Sequence[StepDemand], problem: PlanProblem, limits: SearchLimits) -> tuple[Allocation, ...]:
    alone = len(steps) == 1 and not problem.predecessors[0]
    chosen, proof = _place_one(problem) if alone else _place_many(steps, problem, limits)
    return tuple(
        Allocation(
            option_index=index,
            start_ms=start,
            end_ms=start + latency,
            config=_config(step.options[index]),
            latency_ms=latency,
            beyond_horizon=start + latency > problem.residual.known_until_ms,
            proof=proof,
        )
        for step, (index, start, latency) in zip(steps, chosen, strict=True)
    )


def _place_one(problem: PlanProblem) -> tuple[tuple[Chosen, ...], Proof]:
    options = problem.options[0]
    starts_K = earliest_starts(problem.residual, options, problem.release_ms)
    index = best_option(starts_K, options)
    if index is None:
        raise InfeasibleError(*explain_shortage(problem.residual, options, problem.release_ms))
    start, latency = int(starts_K[index]), int(options.latency_K[index])
    return ((index, start, latency),), Proof("optimal", start + latency)


def _place_many(
    steps: Sequence[StepDemand], problem: PlanProblem, limits: SearchLimits
) -> tuple[tuple[Chosen, ...], Proof]:
    _refuse_impossible_step(steps, problem)
    result = search(problem, limits)
    if isinstance(result.schedule, Stuck):
        raise _no_schedule(steps, problem, result, result.schedule)
    proof = Proof("optimal" if result.proved else "feasible", result.bound_ms)
    return tuple((p.mode.index, p.start_ms, p.mode.latency_ms) for p in result.schedule.placements), proof


def _refuse_impossible_step(steps: Sequence[StepDemand], problem: PlanProblem) -> None:
    """Raises for a step that would not fit even if its predecessors ran alone: a proof of infeasibility."""
    completion = problem.earliest_completion_ms
    for step in problem.order:
        if completion[step] >= FOREVER_MS:
            release = max((completion[p] for p in problem.predecessors[step]), default=problem.release_ms)
            reason, shortfalls = explain_shortage(problem.residual, problem.options[step], release)
            raise InfeasibleError(f"{_name(steps, step)}: {reason}", shortfalls)


def _no_schedule(
    steps: Sequence[StepDemand], problem: PlanProblem, result: SearchResult, stuck: Stuck
) -> InfeasibleError:
    """Every step fits alone, but not together: names the first step that finds no place in list scheduling."""
    residual = problem.residual
    for p in stuck.placements:
        residual = residual.minus(p.start_ms, p.end_ms, p.mode.demand)
    reason, shortfalls = explain_shortage(residual, problem.options[stuck.step], stuck.release_ms)
    certainty = "no schedule" if result.proved else f"none of {result.schedules} schedules tried"
    return InfeasibleError(
        f"each step fits alone, but {certainty} fits them together; "
        f"{_name(steps, stuck.step)} beside the steps before it: {reason}{_when_held(problem)}",
        shortfalls,
    )


def _when_held(problem: PlanProblem) -> str:
    """When the whole plan would be done if the last piece of the curve held on."""
    residual = problem.residual
    if residual.end_ms >= FOREVER_MS:
        return ""
    held = PlanProblem(residual.held(), problem.options, problem.predecessors, problem.release_ms)
    schedule = search(held, GREEDY).schedule
    if isinstance(schedule, Stuck):
        return ""
    end = schedule.makespan_ms
    return f"; the whole plan would then be done at {end} ms (horizon or deadline >= {end})"


def _name(steps: Sequence[StepDemand], step: int) -> str:
    return steps[step].name or f"step {step}"


def _reservations(
    steps: Sequence[StepDemand],
    placed: Sequence[Allocation],
    options: Sequence[IntegerOptions],
    timeline: SystemTimeline,
) -> tuple[Reservation, ...]:
    epoch = timeline.epoch_ms or 0
    return tuple(
        Reservation(a.start_ms + epoch, a.end_ms + epoch, _demand(o, a), s.tools[a.option_index] if s.tools else "")
        for s, a, o in zip(steps, placed, options, strict=True)
    )


def _demand(options: IntegerOptions, allocation: Allocation) -> Demand:
    return options.demand(allocation.option_index)


def _config(option: Option) -> ResourceConfig:
    return ResourceConfig(
        cpu_core=float(option.cpu_core),
        cpu_mem_gb=float(option.cpu_mem_gb),
        gpu_sm=float(option.gpu_sm),
        gpu_mem_gb=float(option.gpu_mem_gb),
    )
