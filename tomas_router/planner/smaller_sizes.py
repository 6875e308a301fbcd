"""Which step, on a smaller input, would make a plan fit: asked only after nothing fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import GREEDY, StepDemand, allocate_plan
from tomas_router.planner.reserve import copy_of
from tomas_router.runtime.ledger import BookingTerms, Ledger
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import SIZES, InputSize


def advise_smaller_sizes(
    sizes: Sequence[InputSize],
    demands: Callable[[Sequence[InputSize]], Sequence[StepDemand]],
    timeline: SystemTimeline,
    release_ms: int,
    ledger: Ledger | None,
    *,
    deadline_ms: int | None,
    tenant: str,
) -> str:
    """``; smaller input would fit: s1 (ocr) small instead of large, done at 900 ms``, or nothing.

    One step is changed before all are, and as little as possible. Nothing is booked.

    Args:
        sizes: of the steps, with which nothing fits.
        demands: the steps for given sizes.
        timeline: as for ``allocate_plan``, like the release, ledger and deadline.
        release_ms: no step starts earlier.
        ledger: what others hold counts.
        deadline_ms: the last step must end by then.
        tenant: whose quota counts.
    """
    as_asked = demands(sizes)
    for trial in _smaller(sizes):
        steps = demands(trial)
        if all(a.options == b.options for a, b in zip(as_asked, steps, strict=True)):
            continue  # nothing else was measured for it
        copy = None if ledger is None else copy_of(ledger)
        terms = BookingTerms(tenant=tenant)
        try:
            placed = allocate_plan(
                steps, timeline, release_ms, copy, deadline_ms=deadline_ms, limits=GREEDY, terms=terms
            )
        except InfeasibleError:
            continue
        changes = ", ".join(
            f"{step.name} {new} instead of {old}"
            for step, old, new in zip(steps, sizes, trial, strict=True)
            if new != old
        )
        return f"; smaller input would fit: {changes}, done at {max(a.end_ms for a in placed)} ms"
    return ""


def _smaller(sizes: Sequence[InputSize]) -> Iterator[tuple[InputSize, ...]]:
    for below in range(1, len(SIZES)):
        for step, size in enumerate(sizes):
            if SIZES.index(size) >= below:
                yield (*sizes[:step], SIZES[SIZES.index(size) - below], *sizes[step + 1 :])
    for limit in range(len(SIZES) - 2, -1, -1):
        capped = tuple(SIZES[min(SIZES.index(size), limit)] for size in sizes)
        if capped != tuple(sizes):
            yield capped
