"""Draws curves of remaining resources: machines of different sizes under different load.

Seeded and written for this project; the replayed traces only validate. Kinds: ``idle`` (nearly everything free),
``busy`` (little free for most of the window), ``bursty`` (jobs come and go), ``fragmented`` (each resource is short at
other times), ``no_gpu`` (a machine without one).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomas_router.runtime.timeline import SystemTimeline

KINDS = ("idle", "busy", "bursty", "fragmented", "no_gpu")
KIND_WEIGHTS = (0.2, 0.25, 0.25, 0.15, 0.15)
CORES = (4, 8, 16, 32, 64)
GIB_PER_CORE = (2, 4, 8)
GPU_GIB = (8, 12, 16, 24, 40, 80)
MIN_HORIZON_S, MAX_HORIZON_S = 60.0, 3600.0

Float = NDArray[np.float64]


def draw_timeline(rng: np.random.Generator, kind: str | None = None) -> SystemTimeline:
    """One curve with an explicit horizon between a minute and an hour, log-uniform.

    Raises:
        ValueError: ``kind`` is none of ``KINDS``.
    """
    kind = str(rng.choice(KINDS, p=KIND_WEIGHTS)) if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    horizon_ms = int(1000 * np.exp(rng.uniform(np.log(MIN_HORIZON_S), np.log(MAX_HORIZON_S))))
    pieces = int(rng.integers(4, 25))
    times = np.concatenate([[0], 1 + np.sort(rng.choice(horizon_ms - 1, pieces - 1, replace=False))])
    used = _used_share(rng, kind, times / horizon_ms)
    free = np.round(_machine(rng, kind) * (1.0 - used), 3)
    return SystemTimeline(times.astype(np.int64), free, horizon_ms=horizon_ms)


def _machine(rng: np.random.Generator, kind: str) -> Float:
    cores = float(rng.choice(CORES))
    gpu = 0.0 if kind == "no_gpu" else float(rng.choice(GPU_GIB))
    return np.array([cores, cores * float(rng.choice(GIB_PER_CORE)), 100.0 if gpu else 0.0, gpu])


def _used_share(rng: np.random.Generator, kind: str, when_N: Float) -> Float:
    """(N, 4) used share of each resource, 0 to 1."""
    count = len(when_N)
    if kind == "idle":
        return rng.uniform(0.0, 0.15, (1, 4)) + rng.uniform(0.0, 0.05, (count, 4))
    if kind == "busy":
        base = rng.uniform(0.45, 0.95, (1, 4)) + rng.uniform(-0.08, 0.05, (count, 4))
        return _relieved(rng, np.clip(base, 0.0, 0.98), when_N)
    if kind == "fragmented":
        phase = rng.uniform(0.0, 1.0, 4)
        waves = 0.5 + 0.48 * np.sin(2 * np.pi * (rng.integers(1, 4) * when_N[:, None] + phase))
        return np.clip(waves + rng.uniform(-0.1, 0.1, (count, 4)), 0.0, 0.98)
    return _bursts(rng, when_N)


def _relieved(rng: np.random.Generator, used: Float, when_N: Float) -> Float:
    """Half of the busy machines get free at some point: waiting may pay."""
    if rng.random() < 0.5:
        used[when_N > rng.uniform(0.1, 0.8)] *= rng.uniform(0.0, 0.6)
    return used


def _bursts(rng: np.random.Generator, when_N: Float) -> Float:
    used = np.repeat(rng.uniform(0.0, 0.3, (1, 4)), len(when_N), axis=0)
    for _ in range(int(rng.integers(1, 6))):
        start, length = rng.uniform(-0.1, 0.9), rng.uniform(0.05, 0.5)
        on_gpu = rng.random() < 0.6
        share = rng.uniform(0.2, 0.9, 4) * np.array([1.0, 1.0, on_gpu, on_gpu])
        used[(when_N >= start) & (when_N < start + length)] += share
    return np.clip(used, 0.0, 0.98)
