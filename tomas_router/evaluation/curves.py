"""The curve that each of our own rows is scored under: seeded by the row, so every model meets the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from tomas_router.datasets.rows import Row
from tomas_router.datasets.timeline_generator import KIND_WEIGHTS, KINDS, draw_timeline
from tomas_router.runtime.timeline import SystemTimeline


@dataclass(frozen=True)
class SeededCurve:
    """A curve and which kind of machine it shows."""

    kind: str
    timeline: SystemTimeline


def curve_of(row: Row, seed: int) -> SeededCurve:
    """Depends on the row's id and the seed alone, not on the order or number of rows."""
    rng = np.random.default_rng([seed, crc32(row.id.encode())])
    kind = str(rng.choice(KINDS, p=KIND_WEIGHTS))
    return SeededCurve(kind, draw_timeline(rng, kind))


def shuffled(curves: Sequence[SystemTimeline], seed: int) -> list[SystemTimeline]:
    """Every row gets the curve of another row (of itself only if it is alone)."""
    order = np.random.default_rng(seed).permutation(len(curves))
    given = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [curves[given[i]] for i in range(len(curves))]


def zeroed(curve: SystemTimeline) -> SystemTimeline:
    """Nothing is free, for as long as the curve lasts."""
    return SystemTimeline(
        curve.times_ms[:1], np.zeros((1, 4)), horizon_ms=curve.end_ms, tail=curve.tail, epoch_ms=curve.epoch_ms
    )
