"""Profiles from what calls really took: high quantiles, because who expects the middle is late half the time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tomas_router.langgraph.call_log import CallRecord
from tomas_router.schema.profiling import InputSize, ProfileRow, ProfilingTable, ResourceConfig

QUANTILE = 0.95
MIN_CALLS = 5

Cell = tuple[str, InputSize, ResourceConfig]


def observed_profile(
    records: Iterable[CallRecord],
    before: ProfilingTable | None = None,
    *,
    quantile: float = QUANTILE,
    min_calls: int = MIN_CALLS,
) -> ProfilingTable:
    """The profile with observed rows in the place of those they were planned by.

    Time is a quantile of what calls took, also of those that shared the machine: that is what it is like. Memory is
    only ever raised, to the same quantile of the peaks of calls that ran alone, because a call in a warm process does
    not show all that it needs. Calls that failed, and light ones, say nothing.

    ``runtime.online_profile`` learns from steps in processes of their own, which end when memory runs out and so show
    both too much and too little; ``datasets.recorded_runs`` writes medians for training.

    Args:
        records: of ``CallLog``.
        before: rows of tools and configurations without enough calls stay as they are.
        quantile: above 0 up to 1; an observed value, never one between two.
        min_calls: fewer calls of a tool, size and configuration are not enough.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < quantile <= 1 or min_calls < 1:
        raise ValueError(f"quantile must be in (0, 1] and min_calls >= 1, got {quantile} and {min_calls}")
    seen: dict[Cell, list[CallRecord]] = defaultdict(list)
    for record in records:
        if record.status == "done" and record.config is not None and record.took_ms is not None:
            seen[record.tool, record.input_size, record.config].append(record)
    observed = {cell: _row(cell, calls, quantile) for cell, calls in seen.items() if len(calls) >= min_calls}
    kept = [observed.pop((row.tool, row.input_size, row.config), row) for row in (before.all_rows if before else ())]
    return ProfilingTable([*kept, *observed.values()])


def _row(cell: Cell, calls: Sequence[CallRecord], quantile: float) -> ProfileRow:
    tool, size, config = cell
    times = [float(call.took_ms) for call in calls if call.took_ms is not None]
    peaks = [call.peak_mem_gb for call in calls if call.alone and call.peak_mem_gb is not None]
    memory = max(config.cpu_mem_gb, _quantile(peaks, quantile) if peaks else 0.0)
    return ProfileRow(
        tool=tool,
        input_size=size,
        latency_ms=max(_quantile(times, quantile), 1.0),
        **config.model_dump() | {"cpu_mem_gb": memory},
    )


def _quantile(values: Sequence[float], quantile: float) -> float:
    """The smallest observed value that at least that share of all does not exceed."""
    return sorted(values)[math.ceil(quantile * len(values)) - 1]
