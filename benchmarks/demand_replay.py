"""What becomes of a run that was planned on guessed demand, and on a curve that was guessed too.

A run takes its true memory and its true time, whatever was reserved. With fewer cores or less of the GPU than its
smallest profile row it is slower in proportion. With too little memory it dies half way, and is planned again with
twice of what it lacked. A tool that needs a GPU and was given none dies at once and is planned again with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomas_router.errors import InfeasibleError
from tomas_router.evaluation.plan_check import Run, over_commits
from tomas_router.planner import allocate
from tomas_router.planner.demand import Option, ResourceOption
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow

MAX_ATTEMPTS = 6
FIRST_GPU_SM, FIRST_GPU_GIB = 50.0, 4.0
"""Given to a tool that turned out to need a GPU."""
MS_PER_HOUR = 3_600_000.0
Lack = Literal["cpu_mem_gb", "gpu_mem_gb", "gpu"]


@dataclass(frozen=True)
class Taken:
    """What a run in some configuration really takes."""

    latency_ms: float
    cpu_mem_gb: float
    gpu_mem_gb: float
    lack: Lack | None
    """What the configuration has too little of."""


@dataclass
class Replayed:
    """One job, from its first attempt to its end."""

    placed: bool = False
    deaths: int = 0
    overran: bool = False
    """It ran longer than was reserved."""
    over_commits: bool = False
    """At some time it held more than the machine had left."""
    end_ms: int | None = None
    """None: it never found a place, or died too often."""
    wasted_gib_hours: float = 0.0
    booked_ms: float = 0.0
    ran_ms: float = 0.0


def really_takes(rows: Sequence[ProfileRow], option: Option) -> Taken:
    """The truth about a configuration, from the tool's own rows."""
    on_gpu = [row for row in rows if row.gpu_sm > 0]
    usable = on_gpu if option.gpu_sm > 0 and on_gpu else [row for row in rows if row.gpu_sm == 0]
    if not usable:
        return Taken(0.0, 0.0, 0.0, "gpu")
    within = [r for r in usable if r.cpu_core <= option.cpu_core + 1e-9 and r.gpu_sm <= option.gpu_sm + 1e-9]
    if within:
        row, slower = min(within, key=lambda r: r.latency_ms), 1.0
    else:
        row = min(usable, key=lambda r: (r.gpu_sm, r.cpu_core))
        slower = max(row.cpu_core / max(option.cpu_core, 1e-3), row.gpu_sm / max(option.gpu_sm, 1e-3), 1.0)
    lack: Lack | None = None
    if row.cpu_mem_gb > option.cpu_mem_gb + 1e-6:
        lack = "cpu_mem_gb"
    elif row.gpu_mem_gb > option.gpu_mem_gb + 1e-6:
        lack = "gpu_mem_gb"
    return Taken(row.latency_ms * slower, row.cpu_mem_gb, row.gpu_mem_gb, lack)


def replay(
    rows: Sequence[ProfileRow], options: Sequence[Option], seen: SystemTimeline, truth: SystemTimeline
) -> Replayed:
    """Plans on what is seen, runs on what is there.

    Args:
        rows: the tool's true profile.
        options: what the planner is told.
        seen: the curve that the planner is told.
        truth: the curve as it came.
    """
    result, release_ms = Replayed(), 0
    for _ in range(MAX_ATTEMPTS):
        try:
            placed = allocate(options, seen, release_ms)
        except InfeasibleError:
            return result
        option = options[placed.option_index]
        result.placed = True
        true = really_takes(rows, option)
        held_ms = 1.0 if true.lack == "gpu" else true.latency_ms / (2 if true.lack else 1)
        held_gib = option.cpu_mem_gb + option.gpu_mem_gb
        demand = (option.cpu_core, option.cpu_mem_gb, option.gpu_sm, option.gpu_mem_gb)
        result.over_commits |= _over_commits(placed.start_ms, held_ms, demand, truth)
        result.booked_ms += placed.latency_ms
        result.ran_ms += held_ms
        if true.lack is None:
            used_gib = true.cpu_mem_gb + true.gpu_mem_gb
            result.wasted_gib_hours += (held_gib - used_gib) * held_ms / MS_PER_HOUR
            result.overran |= held_ms > placed.latency_ms
            result.end_ms = placed.start_ms + int(np.ceil(held_ms))
            return result
        result.deaths += 1
        result.wasted_gib_hours += held_gib * held_ms / MS_PER_HOUR
        options = [with_more(option, true.lack)]
        release_ms = placed.start_ms + int(np.ceil(held_ms))
    return result


def with_more(option: Option, lack: Lack) -> ResourceOption:
    """The next attempt's configuration."""
    again = ResourceOption(option.cpu_core, option.cpu_mem_gb, option.gpu_sm, option.gpu_mem_gb, option.latency_ms)
    if lack == "gpu":
        return replace(again, gpu_sm=FIRST_GPU_SM, gpu_mem_gb=FIRST_GPU_GIB)
    return replace(again, **{lack: max(2 * getattr(again, lack), 0.25)})


def _over_commits(
    start_ms: int, held_ms: float, demand: tuple[float, float, float, float], truth: SystemTimeline
) -> bool:
    until = truth.end_ms if truth.horizon_ms is None else truth.horizon_ms
    lasts_ms = min(held_ms, until - start_ms)
    return lasts_ms > 0 and bool(over_commits([Run("run", start_ms, lasts_ms, demand)], truth))
