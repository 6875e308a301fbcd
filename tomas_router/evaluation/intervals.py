"""A table cell: a ratio over rows with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CHUNK = 50  # resamples drawn at once; bounds memory at 14,000 rows to a few MB


@dataclass(frozen=True)
class Interval:
    """An estimate and the central 95 % of its bootstrap distribution."""

    value: float
    low: float
    high: float
    rows: int  # rows that took part


@dataclass
class Tally:
    """Per-row totals and weights of one measure; the measure is sum(totals) / sum(weights).

    A score that a row either has or lacks is ``add(row, score)``; one that lives on steps is
    ``add(row, sum over steps, number of steps)``. Rows, not steps, are resampled: steps of one row are not independent.
    """

    rows: list[str]  # ids, so that two runs can be compared row by row
    totals: list[float]
    weights: list[float]

    @classmethod
    def empty(cls) -> Tally:
        return cls([], [], [])

    def add(self, row: str, total: float, weight: float = 1.0) -> None:
        """Counts one row; a row of weight 0 is left out."""
        if weight > 0:
            self.rows.append(row)
            self.totals.append(float(total))
            self.weights.append(float(weight))

    def interval(self, seed: int = 0, resamples: int = RESAMPLES) -> Interval | None:
        """The estimate with its interval; None without rows."""
        return bootstrap(self.totals, self.weights, seed=seed, resamples=resamples) if self.totals else None


def bootstrap(
    totals: Sequence[float], weights: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap over rows of sum(totals) / sum(weights).

    Args:
        totals: One number a row; at least one row.
        weights: One number > 0 a row.
        seed: Makes the interval repeatable.
        resamples: How many times rows are drawn with replacement.
    """
    total_n, weight_n = np.asarray(totals, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    count = len(total_n)
    rng = np.random.default_rng(seed)
    estimates: list[NDArray[np.float64]] = []
    for first in range(0, resamples, CHUNK):
        picks = rng.integers(count, size=(min(CHUNK, resamples - first), count))
        estimates.append(total_n[picks].sum(axis=1) / weight_n[picks].sum(axis=1))
    low, high = np.percentile(np.concatenate(estimates), [2.5, 97.5])
    return Interval(float(total_n.sum() / weight_n.sum()), float(low), float(high), count)


def resampled_rows(count: int, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """(resamples, count): how often each row is drawn; for statistics that are no ratio of sums."""
    rng = np.random.default_rng(seed)
    drawn: NDArray[np.float64] = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
    return drawn


def central(value: float, estimates: NDArray[np.float64], rows: int) -> Interval:
    """A value with the central 95 % of its resampled estimates."""
    low, high = np.percentile(estimates, [2.5, 97.5])
    return Interval(value, float(low), float(high), rows)
