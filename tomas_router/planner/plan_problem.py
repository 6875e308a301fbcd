"""A plan to be placed: steps with options, their order, and what cannot be beaten.

The problem is multi-mode project scheduling with capacities that change over time, which is strongly NP-hard, so
``plan_search`` looks for good schedules and the bound here tells when one is proved optimal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tomas_router.planner.demand import Demand, IntegerOptions
from tomas_router.planner.sweep import earliest_starts
from tomas_router.runtime.residual import FOREVER_MS, ResidualCapacity

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Mode:
    """One option of one step, as plain integers for the inner loop."""

    index: int  # position in the options as given
    demand: Demand
    latency_ms: int
    cost: int
    work: float  # latency * largest share of the machine's peak capacity; what the run denies to others


@dataclass(frozen=True)
class PlanProblem:
    """Steps to place on one residual curve; ``predecessors[i]`` lists the steps that must end before step ``i``."""

    residual: ResidualCapacity
    options: tuple[IntegerOptions, ...]
    predecessors: tuple[tuple[int, ...], ...]
    release_ms: int

    @cached_property
    def order(self) -> tuple[int, ...]:
        """A topological order, lowest index first among ready steps."""
        return topological_order(self.predecessors)

    @cached_property
    def earliest_completion_ms(self) -> tuple[int, ...]:
        """Per step, a completion that no schedule beats: the step alone on the curve, its predecessors likewise.

        ``FOREVER_MS`` where the step cannot run even then, which proves the plan infeasible.
        """
        completion = [FOREVER_MS] * len(self.options)
        for step in self.order:
            release = max((completion[p] for p in self.predecessors[step]), default=self.release_ms)
            if release >= FOREVER_MS:
                continue
            options = self.options[step]
            completion_K = earliest_starts(self.residual, options, release) + options.latency_K
            completion[step] = min(int(completion_K.min()), FOREVER_MS)
        return tuple(completion)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Upward rank: the shortest possible time from a step's start to the end of its last successor."""
        rank = [int(options.latency_K.min()) for options in self.options]
        for step in reversed(self.order):
            rank[step] += max((rank[s] for s in self.successors[step]), default=0)
        return tuple(rank)

    @cached_property
    def tails(self) -> tuple[int, ...]:
        """The shortest possible time from a step's end to the end of its last successor."""
        return tuple(max((self.ranks[s] for s in after), default=0) for after in self.successors)

    @cached_property
    def bound_ms(self) -> int:
        """No schedule has a smaller makespan; a plan without steps is done when it may begin."""
        return max(self.earliest_completion_ms, default=self.release_ms)

    @cached_property
    def far_ms(self) -> int:
        """A time by which every schedule without idle time between breakpoints has ended."""
        last = max(int(self.residual.starts_N[-1]), self.release_ms)
        return last + sum(int(options.latency_K.max()) for options in self.options)

    @cached_property
    def unique_predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Predecessors without repetitions."""
        return tuple(tuple(dict.fromkeys(before)) for before in self.predecessors)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """Per step, the steps that wait for it."""
        after: list[list[int]] = [[] for _ in self.predecessors]
        for step, before in enumerate(self.unique_predecessors):
            for p in before:
                after[p].append(step)
        return tuple(map(tuple, after))

    @cached_property
    def modes(self) -> tuple[tuple[Mode, ...], ...]:
        """Options worth trying per step, fastest first: Pareto-optimal, and able to run at all."""
        peak = np.maximum(self.residual.free_RN.max(axis=1), 1)
        return tuple(self._modes(options, peak) for options in self.options)

    def _modes(self, options: IntegerOptions, peak_R: Int) -> tuple[Mode, ...]:
        possible_K = earliest_starts(self.residual, options, self.release_ms) < FOREVER_MS
        kept = np.flatnonzero(possible_K & ~dominated(options))
        share_K = (options.demand_KR / peak_R).max(axis=1)
        modes = (
            Mode(k, options.demand(k), latency, options.cost(k), latency * float(share_K[k]))
            for k in kept.tolist()
            for latency in (int(options.latency_K[k]),)
        )
        return tuple(sorted(modes, key=lambda m: (m.latency_ms, m.cost, m.index)))


def topological_order(predecessors: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Steps so that each comes after its predecessors.

    Raises:
        ValueError: an index is out of range, or the dependencies contain a cycle; names the steps on it.
    """
    count = len(predecessors)
    for step, before in enumerate(predecessors):
        for p in before:
            if not 0 <= p < count:
                raise ValueError(f"step {step}: depends_on must lie in 0..{count - 1}, got {p}")
    placed: list[int] = []
    waiting = dict.fromkeys(range(count))
    while waiting:
        ready = [s for s in waiting if not any(p in waiting for p in predecessors[s])]
        if not ready:
            raise ValueError(f"steps {sorted(waiting)}: depends_on contains a cycle, expected an acyclic graph")
        placed += ready
        for s in ready:
            del waiting[s]
    return tuple(placed)


def dominated(options: IntegerOptions) -> NDArray[np.bool_]:
    """(K,) options that another one beats or equals in every demand and in latency; of equals the first stays."""
    values_KF = np.column_stack([options.demand_KR, options.latency_K])
    no_worse_KK = (values_KF[:, None, :] <= values_KF[None, :, :]).all(axis=2)
    equal_KK = no_worse_KK & no_worse_KK.T
    earlier_KK = np.triu(np.ones_like(equal_KK), k=1)
    beats_KK = no_worse_KK & (~equal_KK | earlier_KK)
    return np.asarray(beats_KK.any(axis=0))
