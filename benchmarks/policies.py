"""How one step is placed without this project: the policies that ours is measured against.

K rows of a profile, N pieces of a curve, R = 4 resources in whole steps (milli-cores, MiB, 0.1 % SM, MiB). Written
without the allocator's code, so that the optimum found here also checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow

Int = NDArray[np.int64]
GRAINS = np.array([1000, 1024, 10, 1024])
COST_WEIGHTS = np.array([64.0, 384.0, 100.0, 20.0])  # cores, GiB, percent, GiB
NEVER = -1


@dataclass(frozen=True)
class Instance:
    """One step on one curve; a strict horizon."""

    demand_KR: Int
    latency_K: Int
    cost_K: NDArray[np.float64]
    starts_N: Int
    free_NR: Int
    horizon_ms: int
    earliest_K: Int  # first feasible start of each row, NEVER if there is none

    def completion(self, row: int) -> int:
        """End of a row started as early as possible; NEVER if it does not fit."""
        return NEVER if self.earliest_K[row] == NEVER else int(self.earliest_K[row] + self.latency_K[row])


def make_instance(rows: Sequence[ProfileRow], curve: SystemTimeline, release_ms: int = 0) -> Instance:
    """Rounds rows and curve and finds each row's earliest start by trying every breakpoint."""
    demand = np.array([(r.cpu_core, r.cpu_mem_gb, r.gpu_sm, r.gpu_mem_gb) for r in rows])
    latency = np.ceil(np.array([r.latency_ms for r in rows]) - 1e-6).clip(1).astype(np.int64)
    demand_KR = np.ceil((demand - 1e-6) * GRAINS).clip(0).astype(np.int64)
    cost = latency * (demand / COST_WEIGHTS).sum(axis=1)
    horizon = curve.end_ms if curve.horizon_ms is None else curve.horizon_ms
    pieces = (curve.times_ms, curve.capacity_int, horizon, release_ms)
    earliest = np.array([_earliest(d, int(t), *pieces) for d, t in zip(demand_KR, latency, strict=True)])
    return Instance(demand_KR, latency, cost, curve.times_ms, curve.capacity_int, horizon, earliest)


def _earliest(demand_R: Int, latency: int, starts_N: Int, free_NR: Int, horizon: int, release_ms: int) -> int:
    fits_N = (demand_R <= free_NR).all(axis=1)
    ends_N = np.append(starts_N[1:], horizon)
    since: int | None = None  # start of the current stretch of pieces that fit
    for fits, start, end in zip(fits_N.tolist(), starts_N.tolist(), ends_N.tolist(), strict=True):
        if not fits:
            since = None
            continue
        since = max(start, release_ms) if since is None else since
        if since + latency <= end:
            return since
    return NEVER


Policy = Callable[[Instance], int | None]
"""Chooses a row, or None if the policy sees none that could ever run. All are then started as early as they fit."""


def optimum(instance: Instance) -> int | None:
    """Least completion, then cost, start, row."""
    return _least(instance, lambda k: (instance.completion(k), instance.cost_K[k], instance.earliest_K[k], k))


def earliest_start(instance: Instance) -> int | None:
    """The row that can begin first; the faster of equals."""
    return _least(instance, lambda k: (instance.earliest_K[k], instance.latency_K[k], instance.cost_K[k], k))


def safe_now(instance: Instance) -> int | None:
    """The fastest row that fits from the start for its whole run; if none, the one that can begin first."""
    now = [k for k in range(len(instance.latency_K)) if instance.earliest_K[k] == max(0, int(instance.starts_N[0]))]
    return min(now, key=lambda k: (instance.latency_K[k], instance.cost_K[k], k)) if now else earliest_start(instance)


def greedy_now(instance: Instance) -> int | None:
    """The fastest row that fits what is free at this moment; if none, the fastest of all."""
    fits = np.flatnonzero((instance.demand_KR <= instance.free_NR[0]).all(axis=1)).tolist()
    rows = fits or list(range(len(instance.latency_K)))
    return min(rows, key=lambda k: (instance.latency_K[k], instance.cost_K[k], k))


def max_profile(instance: Instance) -> int:
    """Always the fastest row, which is the largest."""
    return int(np.lexsort((instance.cost_K, instance.latency_K))[0])


def mean_profile(instance: Instance) -> int:
    """Always the row nearest to the mean demand."""
    scaled = instance.demand_KR / GRAINS / COST_WEIGHTS
    return int(np.abs(scaled - scaled.mean(axis=0)).sum(axis=1).argmin())


def cheapest(instance: Instance) -> int:
    """Always the row of least cost, that is resources times time."""
    return int(instance.cost_K.argmin())


def smallest_footprint(instance: Instance) -> int:
    """Always the row of least demand."""
    return int((instance.demand_KR / GRAINS / COST_WEIGHTS).sum(axis=1).argmin())


POLICIES: dict[str, Policy] = {
    "earliest start first": earliest_start,
    "greedy safe-now": safe_now,
    "greedy now": greedy_now,
    "max profile": max_profile,
    "mean profile": mean_profile,
    "static cheapest": cheapest,
    "smallest footprint": smallest_footprint,
}


LOOKS_AHEAD = frozenset({"earliest start first", "greedy safe-now"})
"""Policies that check the whole run before they start it; the others start at once and may over-commit."""


def over_commits_at_once(instance: Instance, row: int) -> bool:
    """Whether the row, started at the beginning without looking ahead, takes more than there is."""
    first = int(instance.starts_N[0])
    return bool(instance.earliest_K[row] != first)


def _least(instance: Instance, key: Callable[[int], tuple[float, ...]]) -> int | None:
    feasible = [k for k in range(len(instance.latency_K)) if instance.earliest_K[k] != NEVER]
    return min(feasible, key=key) if feasible else None
