"""The curve of remaining resources.

Piecewise constant and right-open: row ``i`` holds on ``[times[i], times[i + 1])``. N rows; the four resources are
always in the order cpu_cores (vCPU), cpu_mem_gb (GiB), gpu_sm (percent of one GPU), gpu_mem_gb (GiB). One timeline
describes one GPU; a machine with several has one timeline each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomas_router.schema.csv_table import MAX_AMOUNT, write_csv
from tomas_router.schema.findings import FindingLog, finish
from tomas_router.schema.timeline_csv import COLUMNS, MAX_TIME_MS, RESOURCES, read_timeline

Times = NDArray[np.int64]
Values = NDArray[np.float64]
Tail = Literal["strict", "hold"]
Interpolation = Literal["previous", "linear", "nearest"]

INTEGER_STEPS = np.array([1000.0, 1024.0, 10.0, 1024.0])  # milli-cores, MiB, 0.1 % SM, MiB
FLOOR_GUARD = 1e-6
MAX_HORIZON_MS = 2 * MAX_TIME_MS
_LONG_AGO_MS = -MAX_TIME_MS
ASSUMED_WINDOW_MS = 600_000
"""Length of the window that is encoded when neither a horizon nor a second row says how far the curve reaches."""


class SystemTimeline:
    """An immutable curve; build it with ``from_csv``, ``from_rows`` or ``default``."""

    times_ms: Times
    """(N,) strictly ascending, since submission."""
    capacity: Values
    """(N, 4) vCPU, GiB, percent of one GPU, GiB."""
    horizon_ms: int | None
    tail: Tail
    epoch_ms: int | None

    def __init__(
        self,
        times_ms: Times,
        capacity: Values,
        *,
        horizon_ms: int | None = None,
        tail: Tail | None = None,
        epoch_ms: int | None = None,
    ) -> None:
        """Takes clean data; outside data enters through the constructors below.

        Args:
            times_ms: (N,) strictly ascending, >= 0, since submission.
            capacity: (N, 4), finite and >= 0.
            horizon_ms: End of the last row's validity; None = unknown.
            tail: ``strict``: nothing after the horizon, or without one from the last row on; ``hold``: the last row
                holds for ever. Default: strict with a horizon, hold without one. A lone row without a horizon always
                holds, because it has no other length.
            epoch_ms: Unix time of time 0, needed when several agents share a ledger.

        Raises:
            ValueError: The horizon is before the last row, or the tail is unknown.
        """
        assert times_ms.ndim == 1, "the ways in build it so"
        assert capacity.shape == (len(times_ms), len(RESOURCES)), "the ways in build it so"
        if tail not in (None, "strict", "hold"):
            raise ValueError(f"tail must be 'strict' or 'hold', got {tail!r}")
        if horizon_ms is not None and not int(times_ms[-1]) <= horizon_ms <= MAX_HORIZON_MS:
            raise ValueError(f"horizon_ms must not be before the last row at {int(times_ms[-1])} ms, got {horizon_ms}")
        lone = horizon_ms is None and len(times_ms) == 1
        vars(self).update(
            times_ms=_frozen(times_ms.astype(np.int64)),
            capacity=_frozen(capacity.astype(np.float64) + 0.0),  # minus zero becomes zero
            horizon_ms=None if horizon_ms is None else int(horizon_ms),
            tail="hold" if lone else tail or ("hold" if horizon_ms is None else "strict"),
            epoch_ms=None if epoch_ms is None else int(epoch_ms),
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a SystemTimeline never changes; build another one instead of setting {name}")

    # ---- ways in ----------------------------------------------------------------------------------------------

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        tail: Tail | None = None,
        horizon_ms: int | None = None,
        epoch_ms: int | None = None,
    ) -> SystemTimeline:
        """Reads ``time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb``.

        Raises:
            DataValidationError: Lists everything that is wrong with the file.
        """
        times, rows, findings = read_timeline(path)
        log = FindingLog.of(path)
        if times and horizon_ms is not None and not times[-1] <= horizon_ms <= MAX_HORIZON_MS:
            log.error(f"must not be before the last row at {times[-1]} ms", field="horizon_ms", value=horizon_ms)
        if times and horizon_ms is None and tail == "strict":
            effect = "the only row is held" if len(times) == 1 else "nothing is offered from the last row on"
            log.warn(f"is strict without a horizon_ms; {effect}", field="tail", value=f"last row at {times[-1]} ms")
        finish(findings + log.findings)
        return cls(np.array(times, dtype=np.int64), np.array(rows), horizon_ms=horizon_ms, tail=tail, epoch_ms=epoch_ms)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Sequence[float]],
        *,
        tail: Tail | None = None,
        horizon_ms: int | None = None,
        epoch_ms: int | None = None,
    ) -> SystemTimeline:
        """Builds a curve from ``(time_ms, cpu_cores, cpu_mem_gb, gpu_sm, gpu_mem_gb)`` rows.

        A program that makes rows can make them right: unlike a file, they are neither sorted nor clamped.

        Raises:
            DataValidationError: Names every row that is not five numbers, out of range or out of order.
        """
        table = [tuple(row) for row in rows]
        log = FindingLog("timeline rows")
        _check_rows(table, log)
        log.finish()
        times = np.array([int(row[0]) for row in table], dtype=np.int64)
        capacity = np.array([row[1:] for row in table], dtype=np.float64)
        return cls(times, capacity, horizon_ms=horizon_ms, tail=tail, epoch_ms=epoch_ms)

    @classmethod
    def default(cls) -> SystemTimeline:
        """What is assumed without a timeline: an idle machine of 16 vCPU, 64 GiB and one GPU of 24 GiB."""
        return cls.from_rows([(0, 16.0, 64.0, 100.0, 24.0)])

    # ---- reading ----------------------------------------------------------------------------------------------

    @cached_property
    def timeline_id(self) -> str:
        """Changes when any value of the curve changes."""
        head = f"{self.horizon_ms}|{self.tail}|{self.epoch_ms}|".encode()
        return hashlib.sha256(head + self.times_ms.tobytes() + self.capacity.tobytes()).hexdigest()[:16]

    @cached_property
    def capacity_int(self) -> NDArray[np.int64]:
        """(N, 4) milli-cores, MiB, 0.1 % SM, MiB; floored, so that what is promised is there."""
        return _frozen(np.floor(self.capacity * INTEGER_STEPS + FLOOR_GUARD).astype(np.int64))

    @property
    def end_ms(self) -> int:
        """Where the encoded window ends: the horizon, else the last row plus the gap before it."""
        if self.horizon_ms is not None:
            return self.horizon_ms
        if len(self.times_ms) == 1:
            return int(self.times_ms[0]) + ASSUMED_WINDOW_MS
        return int(2 * self.times_ms[-1] - self.times_ms[-2])

    def at(self, t_ms: ArrayLike, interpolation: Interpolation = "previous") -> NDArray[np.float64]:
        """(..., 4) capacity at times (...), for looking and encoding; feasibility never interpolates.

        Before the first row nothing is known, and behind a strict horizon nothing is offered: zeros.
        """
        t = np.asarray(t_ms, dtype=np.float64)
        times = self.times_ms.astype(np.float64)
        if interpolation == "linear":
            values = np.stack([np.interp(t, times, self.capacity[:, r]) for r in range(4)], axis=-1)
        elif interpolation == "previous":
            values = self.capacity[np.clip(np.searchsorted(times, t, side="right") - 1, 0, None)]
        elif interpolation == "nearest":
            after = np.clip(np.searchsorted(times, t), 0, len(times) - 1)
            before = np.clip(after - 1, 0, None)
            values = self.capacity[np.where(t - times[before] <= times[after] - t, before, after)]
        else:
            raise ValueError(f"interpolation must be previous, linear or nearest, got {interpolation!r}")
        outside = t < times[0]
        if self.tail == "strict":
            outside = outside | (t >= self._strict_end)
        return np.where(outside[..., None], 0.0, values)

    def lower_envelope(self, start_ms: float, end_ms: float, points: int) -> Values:
        """(points, 4) smallest capacity in each of ``points`` equal bins of ``[start, end)``.

        Exact on the original breakpoints: the piece in force at a bin's start counts, so a short dip is never missed.
        Bins are right-open and seldom whole milliseconds long, so edges are compared as integers, after
        multiplication by ``points``; start and end count to the microsecond.

        Raises:
            ValueError: ``points`` is not positive, or the window is empty or centuries long.
        """
        start_us, length_us = round(start_ms * 1000), round(end_ms * 1000) - round(start_ms * 1000)
        if points < 1 or not 0 < length_us * points < 2**62:
            raise ValueError(f"window must be points >= 1 over start < end, got {points} over [{start_ms}, {end_ms})")
        times_N, capacity_N4 = self._offered
        scaled_N = np.clip(times_N * 1000 - start_us, -1, length_us) * points
        edges = np.arange(points + 1, dtype=np.int64) * length_us
        in_force = np.searchsorted(scaled_N, edges[:-1], side="right") - 1
        behind = np.searchsorted(scaled_N, edges[1:], side="left")
        # One slice [in_force, behind) a bin; the odd entries reduce what lies between and are dropped.
        slices = np.stack([in_force, behind], axis=1).ravel()
        padded = np.concatenate([capacity_N4, np.zeros((1, len(RESOURCES)))])
        lowest: Values = np.minimum.reduceat(padded, slices, axis=0)[::2]
        return lowest

    @cached_property
    def _offered(self) -> tuple[Times, Values]:
        """All pieces over all of time: zeros before the first row, and again behind a strict end."""
        nothing = np.zeros((1, len(RESOURCES)))
        times, values = np.insert(self.times_ms, 0, _LONG_AGO_MS), np.concatenate([nothing, self.capacity])
        if self.tail == "strict":
            kept = int(np.searchsorted(times, self._strict_end))
            times, values = np.append(times[:kept], self._strict_end), np.concatenate([values[:kept], nothing])
        return times, values

    @property
    def _strict_end(self) -> int:
        return int(self.times_ms[-1]) if self.horizon_ms is None else self.horizon_ms

    # ---- ways out ---------------------------------------------------------------------------------------------

    def with_tail(self, tail: Tail | None = None, horizon_ms: int | None = None) -> SystemTimeline:
        """The same curve under another tail policy or horizon; None keeps what it has."""
        return SystemTimeline(
            self.times_ms,
            self.capacity,
            horizon_ms=self.horizon_ms if horizon_ms is None else horizon_ms,
            tail=tail or (self.tail if horizon_ms is None else None),
            epoch_ms=self.epoch_ms,
        )

    def with_epoch(self, epoch_ms: int) -> SystemTimeline:
        """The same curve with time 0 at ``epoch_ms``, Unix time in ms."""
        return SystemTimeline(
            self.times_ms, self.capacity, horizon_ms=self.horizon_ms, tail=self.tail, epoch_ms=epoch_ms
        )

    def save_csv(self, path: str | Path) -> None:
        """Writes what ``from_csv`` reads, to the last digit; horizon, tail and epoch are not part of the format."""
        rows = zip(self.times_ms.tolist(), self.capacity.tolist(), strict=True)
        write_csv(path, COLUMNS, ([time, *values] for time, values in rows))

    def __len__(self) -> int:
        return len(self.times_ms)

    def __repr__(self) -> str:
        return f"SystemTimeline({len(self)} rows to {self.end_ms} ms, tail {self.tail}, id {self.timeline_id})"


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def _check_rows(table: Sequence[tuple[float, ...]], log: FindingLog) -> None:
    if not table:
        log.error("must hold at least one row")
    previous = -1.0
    for position, row in enumerate(table):
        if len(row) != len(COLUMNS):
            log.error(f"must hold {', '.join(COLUMNS)}", field=f"rows[{position}]", value=row)
            continue
        time = row[0]
        if not (previous < time <= MAX_TIME_MS and float(time).is_integer()):
            expected = f"must be whole milliseconds, ascending and from 0 to {MAX_TIME_MS}"
            log.error(expected, field=f"rows[{position}].time_ms", value=time)
        previous = max(previous, time)
        for name, value in zip(RESOURCES, row[1:], strict=True):
            largest = 100 if name == "gpu_sm" else MAX_AMOUNT
            if not 0 <= value <= largest:  # NaN compares false
                log.error(f"must be from 0 to {largest:g}", field=f"rows[{position}].{name}", value=value)
