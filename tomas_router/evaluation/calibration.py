"""Is the confidence of a step the share of such steps that are right? Reliability bins and their mean gap (ECE).

R rows, B bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.evaluation.intervals import Interval, Tally, central, resampled_rows

BINS = 10


@dataclass(frozen=True)
class Sure:
    """One planned step: how sure the planner was, and whether it was right."""

    row: str
    confidence: float  # 0 to 1
    right: bool


@dataclass(frozen=True)
class Bin:
    """Steps of like confidence."""

    low: float
    high: float
    steps: int
    confidence: float  # their mean
    accuracy: Interval


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram."""

    bins: tuple[Bin, ...]  # those with steps, by confidence
    ece: Interval
    """Expected calibration error: mean over steps of |confidence - accuracy| of their bin."""
    steps: int


def calibration(steps: Sequence[Sure], seed: int) -> Calibration | None:
    """The diagram of planned steps; None without any."""
    if not steps:
        return None
    return Calibration(tuple(_bins(steps, seed)), _ece(steps, seed), len(steps))


def _bin_of(confidence: float) -> int:
    return min(int(confidence * BINS), BINS - 1)


def _bins(steps: Sequence[Sure], seed: int) -> list[Bin]:
    found: list[Bin] = []
    for b in range(BINS):
        members = [step for step in steps if _bin_of(step.confidence) == b]
        tally = Tally.empty()
        for row in dict.fromkeys(step.row for step in members):
            of_row = [step.right for step in members if step.row == row]
            tally.add(row, sum(of_row), len(of_row))
        accuracy = tally.interval(seed)
        if accuracy is not None:
            mean = float(np.mean([step.confidence for step in members]))
            found.append(Bin(b / BINS, (b + 1) / BINS, len(members), mean, accuracy))
    return found


def _ece(steps: Sequence[Sure], seed: int) -> Interval:
    rows = {row: i for i, row in enumerate(dict.fromkeys(step.row for step in steps))}
    gap_RB, count_RB = np.zeros((len(rows), BINS)), np.zeros((len(rows), BINS))
    for step in steps:
        at = rows[step.row], _bin_of(step.confidence)
        gap_RB[at] += step.confidence - step.right
        count_RB[at] += 1
    drawn = resampled_rows(len(rows), seed)
    estimates = _mean_gap(drawn @ gap_RB, drawn @ count_RB)
    value = float(_mean_gap(gap_RB.sum(axis=0), count_RB.sum(axis=0)))
    return central(value, estimates, len(rows))


def _mean_gap(gap: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.abs(gap).sum(axis=-1) / count.sum(axis=-1)
    return shares
