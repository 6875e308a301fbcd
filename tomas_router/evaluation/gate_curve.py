"""Precision and recall of "this request needs a tool" at every threshold of the gate's confidence.

R rows, T thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomas_router.evaluation.intervals import Interval, central, resampled_rows

Float = NDArray[np.float64]
MAX_POINTS = 200  # drawn; the average precision uses all


@dataclass(frozen=True)
class GateCase:
    """One row at the gate."""

    confidence: float  # that a tool is needed
    said: bool | None  # the planner's answer; None = nothing usable
    needs_tool: bool


@dataclass(frozen=True)
class GatePoint:
    """What a threshold gives."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class GateCurve:
    """Precision over recall, and where the planner itself stands."""

    points: tuple[GatePoint, ...]  # from the strictest threshold to the laxest
    chosen: GatePoint
    average_precision: Interval
    needing: int
    rows: int


def gate_curve(cases: Sequence[GateCase], seed: int) -> GateCurve | None:
    """The curve; None where all rows need a tool, or none does."""
    needing = sum(case.needs_tool for case in cases)
    if needing in (0, len(cases)):
        return None
    order = sorted(cases, key=lambda case: -case.confidence)
    confidence_R = np.array([case.confidence for case in order])
    needs_R = np.array([case.needs_tool for case in order], dtype=np.float64)
    last_T = np.flatnonzero(np.append(np.diff(confidence_R) != 0, True))  # rows of one confidence fall together
    precision_T, recall_T = _curve(np.ones((1, len(order))), needs_R, last_T)
    drawn = resampled_rows(len(order), seed)
    drawn = drawn[(drawn @ needs_R) > 0]
    estimates = _average_precision(*_curve(drawn, needs_R, last_T))
    average = float(_average_precision(precision_T, recall_T)[0])
    kept = np.unique(np.linspace(0, len(last_T) - 1, min(MAX_POINTS, len(last_T))).astype(int))
    points = tuple(
        GatePoint(float(confidence_R[last_T[i]]), float(precision_T[0, i]), float(recall_T[0, i]))
        for i in kept.tolist()
    )
    return GateCurve(points, _chosen(cases, needing), central(average, estimates, len(cases)), needing, len(cases))


def _curve(drawn: Float, needs_R: Float, last_T: NDArray[np.int64]) -> tuple[Float, Float]:
    """(draws, T) precision and recall, rows counted as often as drawn."""
    right = np.cumsum(drawn * needs_R, axis=1)[:, last_T]
    said = np.cumsum(drawn, axis=1)[:, last_T]
    precision: Float = right / np.maximum(said, 1)
    recall: Float = right / right[:, -1:]
    return precision, recall


def _average_precision(precision: Float, recall: Float) -> Float:
    """Sum over thresholds of precision times the recall that the threshold adds."""
    added = np.diff(recall, axis=1, prepend=0.0)
    area: Float = (precision * added).sum(axis=1)
    return area


def _chosen(cases: Sequence[GateCase], needing: int) -> GatePoint:
    said = [case for case in cases if case.said]
    right = sum(case.needs_tool for case in said)
    return GatePoint(0.5, right / len(said) if said else 0.0, right / needing)
