"""Guesses what the coming minutes leave free, from what was seen so far.

N observations; the four resources of a timeline. A history is a recorded curve whose last row is now; a forecast begins
at that moment with time 0 and ends at a strict horizon: nothing is offered behind it. Which forecaster to use, and what
each costs: docs/timelines.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomas_router.runtime.ledger import Ledger, Reservation
from tomas_router.runtime.timeline import INTEGER_STEPS, SystemTimeline

Values = NDArray[np.float64]

MIN_SAMPLES = 8
"""Of changes over some lead; with fewer a low quantile is hardly more than the smallest of them."""


class Forecaster(Protocol):
    """Anything that continues a curve."""

    def forecast(self, history: SystemTimeline, horizon_ms: int) -> SystemTimeline:
        """The curve from the last row of ``history`` on, for ``horizon_ms``."""
        ...


@dataclass(frozen=True)
class Persistence:
    """What is free now stays free."""

    def forecast(self, history: SystemTimeline, horizon_ms: int) -> SystemTimeline:
        return _from_now(history, history.capacity[-1:], horizon_ms, horizon_ms)


@dataclass(frozen=True)
class LowestSeen:
    """What was free throughout the last ``window_ms`` stays free."""

    window_ms: int = 600_000

    def forecast(self, history: SystemTimeline, horizon_ms: int) -> SystemTimeline:
        recent = history.times_ms >= history.times_ms[-1] - self.window_ms
        return _from_now(history, history.capacity[recent].min(axis=0, keepdims=True), horizon_ms, horizon_ms)


@dataclass(frozen=True)
class ChangeQuantile:
    """What is free now, plus a low quantile of how much it has changed over the same time before.

    For every lead the changes over that lead are collected from the whole history; of each resource the quantile is
    added to what is free now. Nothing is assumed of their distribution, which is mostly zero with a few large steps. A
    forecast never exceeds what was ever seen free.

    Args:
        quantile: 0.5 is a middle guess; smaller is more careful. 0.1: in one of ten cases less was free.
        step_ms: length of the pieces.

    Raises:
        ValueError: ``quantile`` is outside 0 to 1, or ``step_ms`` is not positive.
    """

    quantile: float = 0.1
    step_ms: int = 60_000

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile must be from 0 to 1, got {self.quantile}")
        if self.step_ms < 1:
            raise ValueError(f"step_ms must be >= 1, got {self.step_ms}")

    def forecast(self, history: SystemTimeline, horizon_ms: int) -> SystemTimeline:
        seen_N4 = self._regular(history)
        pieces = max(-(-horizon_ms // self.step_ms), 1)
        longest = max(len(seen_N4) - 1 - MIN_SAMPLES, 0)
        change_P4 = np.stack([self._change(seen_N4, min(piece, longest)) for piece in range(pieces)])
        return _from_now(history, np.clip(seen_N4[-1] + change_P4, 0, seen_N4.max(axis=0)), self.step_ms, horizon_ms)

    def _regular(self, history: SystemTimeline) -> Values:
        """(N, 4) at regular times up to now, at least one."""
        first, now = int(history.times_ms[0]), int(history.times_ms[-1])
        return history.at(np.arange(now, first - 1, -self.step_ms)[::-1])

    def _change(self, seen_N4: Values, lead: int) -> Values:
        """(4,) quantile of the change to the lower end of the piece that begins after ``lead`` steps."""
        if len(seen_N4) < lead + 2:
            return np.zeros(seen_N4.shape[1])
        lower = np.minimum(seen_N4[lead:-1], seen_N4[lead + 1 :])
        changes: Values = np.quantile(lower - seen_N4[: len(lower)], self.quantile, axis=0)
        return changes


@dataclass(frozen=True)
class LedgerAware:
    """Forecasts what others leave: our own bookings were seen on the machine, and end when the ledger says.

    Every observation gets back what was booked at its time; the allocator takes bookings off again, for as long as they
    last. Steps are assumed to use what they have booked; where their processes are known,
    ``HostSource(booked_pids=...)`` gives back what they really use, and this wrapper is not needed.
    """

    base: Forecaster
    ledger: Ledger

    def forecast(self, history: SystemTimeline, horizon_ms: int) -> SystemTimeline:
        """See ``Forecaster``.

        Raises:
            ValueError: The history has no epoch, so bookings cannot be found on the forecast's new time 0.
        """
        if history.epoch_ms is None:
            raise ValueError("history must have an epoch_ms beside a ledger: a forecast has a time 0 of its own")
        return self.base.forecast(without_bookings(history, self.ledger.snapshot().reservations), horizon_ms)


def without_bookings(history: SystemTimeline, reservations: Iterable[Reservation]) -> SystemTimeline:
    """The history as it would have been without these bookings."""
    times_N, capacity_N4 = history.times_ms + (history.epoch_ms or 0), history.capacity.copy()
    for booked in reservations:
        active_N = (booked.start_ms <= times_N) & (times_N < booked.end_ms)
        capacity_N4[active_N] += np.array(booked.demand) / INTEGER_STEPS
    capacity_N4[:, 2] = np.minimum(capacity_N4[:, 2], 100)  # a share that was booked and hardly used
    return SystemTimeline(
        history.times_ms, capacity_N4, horizon_ms=history.horizon_ms, tail=history.tail, epoch_ms=history.epoch_ms
    )


def _from_now(history: SystemTimeline, pieces_P4: Values, step_ms: int, horizon_ms: int) -> SystemTimeline:
    """Pieces of equal length from the last row of the history on.

    Raises:
        ValueError: The horizon is not positive.
    """
    if horizon_ms < 1:
        raise ValueError(f"horizon_ms must be >= 1, got {horizon_ms}")
    now = int(history.times_ms[-1])
    starts = np.arange(len(pieces_P4), dtype=np.int64) * step_ms
    epoch_ms = None if history.epoch_ms is None else history.epoch_ms + now
    return SystemTimeline(starts, pieces_P4, horizon_ms=horizon_ms, tail="strict", epoch_ms=epoch_ms)
