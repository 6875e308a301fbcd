"""Whether what ran on a node ever took more than the node had; shares no code with planner or ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.runtime.timeline import SystemTimeline

GRAINS = np.array([1000, 1024, 10, 1024], dtype=np.float64)  # milli-cores, MiB, 0.1 %, MiB in one unit
GUARD = 1e-6

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Ran:
    """One step on a node, right-open, in physical units."""

    plan: int
    start_ms: int
    end_ms: int
    demand: tuple[float, float, float, float]  # vCPU, GiB, percent, GiB


@dataclass(frozen=True)
class NodeCheck:
    """What was found on one node."""

    broken_plans: frozenset[int]
    """Plans with a step that ran while the node was over-committed."""
    over_committed_ms: int
    used_core_ms: float


def check_node(curve: SystemTimeline, ran: Sequence[Ran]) -> NodeCheck:
    """Sweeps over every moment at which the curve or what runs changes.

    After the horizon of a strict curve nothing is free, and neither before its first row.
    """
    if not ran:
        return NodeCheck(frozenset(), 0, 0.0)
    starts = np.array([r.start_ms for r in ran], dtype=np.int64)
    ends = np.array([r.end_ms for r in ran], dtype=np.int64)
    demand = np.ceil((np.array([r.demand for r in ran]) - GUARD) * GRAINS).clip(0).astype(np.int64)
    moments = np.unique(np.concatenate([starts, ends, curve.times_ms, [_end(curve)]]))
    change = np.zeros((len(moments) + 1, 4), dtype=np.int64)
    np.add.at(change, np.searchsorted(moments, starts), demand)
    np.subtract.at(change, np.searchsorted(moments, ends), demand)
    taken = change.cumsum(axis=0)[:-1]
    over = (taken > _free(curve, moments)).any(axis=1)
    over[-1] = False  # the last moment has no length
    lengths = np.diff(moments, append=moments[-1])
    first, last = np.searchsorted(moments, starts), np.searchsorted(moments, ends)
    before = np.concatenate([[0], over.cumsum()])
    broken = {r.plan for r, a, b in zip(ran, first.tolist(), last.tolist(), strict=True) if before[b] > before[a]}
    used = float(sum((r.end_ms - r.start_ms) * r.demand[0] for r in ran))
    return NodeCheck(frozenset(broken), int(lengths[over].sum()), used)


def _free(curve: SystemTimeline, moments: Int) -> Int:
    piece = np.searchsorted(curve.times_ms, moments, side="right") - 1
    free = np.floor(curve.capacity[piece.clip(0)].astype(np.float64) * GRAINS + GUARD).astype(np.int64)
    free[piece < 0] = 0
    if curve.tail == "strict":
        free[moments >= _end(curve)] = 0
    return free


def _end(curve: SystemTimeline) -> int:
    return int(curve.times_ms[-1]) if curve.horizon_ms is None else int(curve.horizon_ms)
