"""Curves to measure on: the shipped timelines, and windows of replayed traces from a parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.shipped import timeline_path

SHIPPED = ("idle", "busy", "bursty", "fragmented", "no_gpu")
COLUMNS = ["time_ms", "cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb"]


def shipped_curves() -> list[SystemTimeline]:
    """The five timelines of ``data/input``, strict: what lies behind the last row's gap is unknown."""
    curves = [SystemTimeline.from_csv(timeline_path(name)) for name in SHIPPED]
    return [curve.with_tail(horizon_ms=curve.end_ms) for curve in curves]


def trace_curves(path: Path, count: int, seed: int) -> list[SystemTimeline]:
    """``count`` windows of a file with the columns ``window_id`` and those of a timeline; seeded choice."""
    import pandas as pd

    table = pd.read_parquet(path, columns=["window_id", *COLUMNS])
    ids = table["window_id"].unique()
    chosen = np.random.default_rng(seed).permutation(ids)[:count]
    found = []
    for _, window in table[table["window_id"].isin(chosen)].groupby("window_id"):
        rows = window.sort_values("time_ms")[COLUMNS].to_numpy(dtype=np.float64)
        horizon_ms = int(2 * rows[-1, 0] - rows[-2, 0])
        found.append(SystemTimeline.from_rows(rows, horizon_ms=horizon_ms))
    return found
