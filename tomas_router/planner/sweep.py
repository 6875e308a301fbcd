"""Where each option may start first: the exact sweep over (option, piece).

K options, N pieces, R = 4 resources. A run of latency L may start at s when its demand fits on all of [s, s + L). An
optimal start can always be moved left to the release time or to a breakpoint, so only those are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomas_router.planner.demand import IntegerOptions
from tomas_router.runtime.residual import FOREVER_MS, ResidualCapacity

Int = NDArray[np.int64]


def earliest_starts(residual: ResidualCapacity, options: IntegerOptions, release_ms: int) -> Int:
    """(K,) first feasible start of every option, not before ``release_ms``; ``FOREVER_MS`` where there is none."""
    first = max(int(np.searchsorted(residual.starts_N, release_ms, side="right")) - 1, 0)
    starts_N = np.maximum(residual.starts_N[first:], release_ms)
    free_RN = residual.free_RN[:, first:]
    demand_KR = options.demand_KR

    fits_KN = demand_KR[:, :1] <= free_RN[0]
    for resource in range(1, 4):
        fits_KN &= demand_KR[:, resource, None] <= free_RN[resource]

    short_at_KN = np.where(fits_KN, residual.end_ms, starts_N)
    next_short_KN = np.minimum.accumulate(short_at_KN[:, ::-1], axis=1)[:, ::-1]
    may_start_KN = starts_N + options.latency_K[:, None] <= np.minimum(next_short_KN, residual.end_ms)

    piece_K = may_start_KN.argmax(axis=1)
    possible_K = may_start_KN[np.arange(len(piece_K)), piece_K]
    return np.where(possible_K, starts_N[piece_K], FOREVER_MS)


def best_option(starts_K: Int, options: IntegerOptions) -> int | None:
    """The option with the least (completion, cost, start, index), or None when none may start."""
    completion_K = starts_K + options.latency_K
    earliest = completion_K.min()
    if earliest >= FOREVER_MS:
        return None
    tied = np.flatnonzero(completion_K == earliest).tolist()
    if len(tied) == 1:
        return int(tied[0])
    return int(min(tied, key=lambda k: (options.cost(k), starts_K[k], k)))
