"""Why nothing fits, in words and numbers that a person can act on.

K options, M pieces from the release on, R = 4 resources. Of all runs that end in time, the one that misses by the least
share of its demand is reported: which resource, when, how much is needed, how much there is, and what would fit
instead: a smaller configuration in that place, or the same one later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomas_router.planner.demand import Demand, IntegerOptions
from tomas_router.planner.sweep import best_option, earliest_starts
from tomas_router.runtime.residual import FOREVER_MS, RESOURCES, STEPS_PER_UNIT, UNITS, ResidualCapacity
from tomas_router.schema.plan import Shortfall

Int = NDArray[np.int64]


def explain_shortage(
    residual: ResidualCapacity, options: IntegerOptions, release_ms: int
) -> tuple[str, tuple[Shortfall, ...]]:
    """The reason and the shortfalls when no option may start; the smallest gap of all options and starts."""
    earliest = max(release_ms, int(residual.starts_N[0]))
    left_ms = max(residual.end_ms - earliest, 0)
    shortest = int(options.latency_K.argmin())
    needed_ms = int(options.latency_K[shortest])
    if needed_ms > left_ms:
        return _too_long(residual, options, earliest, needed_ms, left_ms)
    option, start, lowest_R, at_R = _nearest_miss(residual, options, earliest)
    end = start + int(options.latency_K[option])
    demand = options.demand(option)
    gaps_R = np.array(demand, dtype=np.int64) - lowest_R
    shortfalls = tuple(
        Shortfall(
            resource=RESOURCES[r],
            at_ms=int(at_R[r]),
            needed=demand[r] / STEPS_PER_UNIT[r],
            available=(demand[r] - int(gaps_R[r])) / STEPS_PER_UNIT[r],
            unit=UNITS[r],
        )
        for r in np.flatnonzero(gaps_R > 0).tolist()
    )
    missing = ", ".join(
        f"{s.resource} at {s.at_ms} ms needs {s.needed:g} {s.unit}, has {s.available:g}, lacks {_lacking(s)}"
        for s in shortfalls
    )
    reason = f"no configuration fits; nearest is option {option} ({_config(demand)}) on [{start}, {end}) ms: {missing}"
    reason += _what_would_fit(lowest_R, end - start)
    return _with_longer_curve(reason, residual, options, release_ms), shortfalls


def _too_long(
    residual: ResidualCapacity, options: IntegerOptions, earliest_ms: int, needed_ms: int, left_ms: int
) -> tuple[str, tuple[Shortfall, ...]]:
    reason = (
        f"the shortest option takes {needed_ms} ms but only {left_ms} ms are left "
        f"between {earliest_ms} ms and the end at {residual.end_ms} ms"
    )
    shortfall = Shortfall(
        resource="time", at_ms=earliest_ms, needed=float(needed_ms), available=float(left_ms), unit="ms"
    )
    return _with_longer_curve(reason, residual, options, earliest_ms), (shortfall,)


def _with_longer_curve(reason: str, residual: ResidualCapacity, options: IntegerOptions, release_ms: int) -> str:
    """Adds when the step would be done if the last piece of the curve held on."""
    if residual.end_ms >= FOREVER_MS:
        return f"{reason}; waiting does not help, because the last piece of the curve holds for ever"
    held = residual.held()
    starts_K = earliest_starts(held, options, release_ms)
    option = best_option(starts_K, options)
    if option is None:
        return f"{reason}; a longer horizon with the last piece held would not help"
    end = int(starts_K[option] + options.latency_K[option])
    return (
        f"{reason}; with the last piece held, option {option} would be done at {end} ms (horizon or deadline >= {end})"
    )


def _nearest_miss(residual: ResidualCapacity, options: IntegerOptions, release_ms: int) -> tuple[int, int, Int, Int]:
    """The run that misses by the least share of its demand: option, start, (R,) least free during it, (R,) when."""
    first = max(int(np.searchsorted(residual.starts_N, release_ms, side="right")) - 1, 0)
    starts_M = np.maximum(residual.starts_N[first:], release_ms)
    free_RM = residual.free_RN[:, first:]
    end_KM = starts_M + options.latency_K[:, None]
    last_KM = np.searchsorted(starts_M, end_KM) - 1  # last piece that the run touches
    lowest_KMR = _range_minimum(free_RM, last_KM)
    demand_KR = options.demand_KR
    gap_KMR = np.maximum(demand_KR[:, None, :] - lowest_KMR, 0)
    share_KM = (gap_KMR / np.maximum(demand_KR, 1)[:, None, :]).max(axis=2)
    share_KM[end_KM > residual.end_ms] = np.inf
    option, piece = (int(i) for i in np.unravel_index(int(share_KM.argmin()), share_KM.shape))
    window_RM = free_RM[:, piece : int(last_KM[option, piece]) + 1]
    at_R = starts_M[piece + window_RM.argmin(axis=1)]
    return option, int(starts_M[piece]), lowest_KMR[option, piece], at_R


def _lacking(shortfall: Shortfall) -> str:
    return f"{round(shortfall.needed - shortfall.available, 6):g} {shortfall.unit}"


def _what_would_fit(lowest_R: Int, latency_ms: int) -> str:
    if not lowest_R[0] or not lowest_R[1]:
        return ""
    thousandths = (free * 1000 // step for free, step in zip(lowest_R.tolist(), STEPS_PER_UNIT, strict=True))
    most = _amounts(*(t / 1000 for t in thousandths))  # rounded down, so that it does fit
    return f"; a configuration of at most {most} that takes {latency_ms} ms would fit there"


def _config(demand: Demand) -> str:
    """``2 vCPU, 4 GiB, 50 % SM, 8 GiB GPU memory``."""
    return _amounts(*(d / step for d, step in zip(demand, STEPS_PER_UNIT, strict=True)))


def _amounts(cpu: float, memory: float, sm: float, gpu_memory: float) -> str:
    gpu = f", {sm:.10g} % SM, {gpu_memory:.10g} GiB GPU memory" if sm or gpu_memory else ""
    return f"{cpu:.10g} vCPU, {memory:.10g} GiB{gpu}"


def _range_minimum(values_RM: Int, last_KM: Int) -> Int:
    """(K, M, R) minimum over pieces m..last[k, m], by a sparse table of powers of two."""
    count = values_RM.shape[1]
    levels = [values_RM]
    width = 1
    while 2 * width <= count:
        previous = levels[-1]
        levels.append(np.minimum(previous[:, : count - 2 * width + 1], previous[:, width : count - width + 1]))
        width *= 2
    first_M = np.arange(count)
    level_KM = np.log2(last_KM - first_M + 1).astype(np.int64)
    lowest = np.empty((*last_KM.shape, values_RM.shape[0]), dtype=np.int64)
    for level, table_RM in enumerate(levels):
        k, m = np.nonzero(level_KM == level)
        right = last_KM[k, m] - 2**level + 1
        lowest[k, m] = np.minimum(table_RM[:, m], table_RM[:, right]).T
    return lowest
