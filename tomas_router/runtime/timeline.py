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

from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import emit
from tomas_router.schema.timeline_csv import COLUMNS, read_timeline

Tail = Literal["strict", "hold"]
Interpolation = Literal["previous", "linear", "nearest"]

INTEGER_STEPS = np.array([1000.0, 1024.0, 10.0, 1024.0])  # milli-cores, MiB, 0.1 % SM, MiB
FLOOR_GUARD = 1e-6
ASSUMED_WINDOW_MS = 600_000
"""Length of the window that is encoded when neither a horizon nor a second row says how far the curve reaches."""


class SystemTimeline:
    """An immutable curve; build it with ``from_csv``, ``from_rows`` or ``default``."""

    def __init__(
        self,
        times_ms: NDArray[np.int64],
        capacity: NDArray[np.float64],
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
            tail: ``strict``: nothing after the horizon; ``hold``: the last row holds for ever. Default: strict with a
                horizon, hold without one.
            epoch_ms: Unix time of time 0, needed when several agents share a ledger.

        Raises:
            ValueError: The horizon is not after the last row, or the tail is unknown.
        """
        if horizon_ms is not None and horizon_ms <= int(times_ms[-1]):
            raise ValueError(f"horizon_ms must be after the last row at {int(times_ms[-1])} ms, got {horizon_ms}")
        if tail not in (None, "strict", "hold"):
            raise ValueError(f"tail must be 'strict' or 'hold', got {tail!r}")
        self.times_ms = _frozen(times_ms.astype(np.int64))
        self.capacity = _frozen(capacity.astype(np.float64))
        self.horizon_ms = horizon_ms
        self.tail: Tail = tail or ("hold" if horizon_ms is None else "strict")
        self.epoch_ms = epoch_ms

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
        errors = [f for f in findings if f.severity == "error"]
        if errors:
            raise DataValidationError(errors)
        emit(findings)
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

        Raises:
            ValueError: Times are not ascending whole milliseconds, or a value is negative or not finite.
        """
        table = [tuple(row) for row in rows]
        if not table or any(len(row) != 5 for row in table):
            raise ValueError(f"rows must be non-empty and hold five numbers each: {', '.join(COLUMNS)}")
        times = np.array([int(row[0]) for row in table], dtype=np.int64)
        capacity = np.array([row[1:] for row in table], dtype=np.float64)
        if (np.diff(times) <= 0).any() or times[0] < 0:
            raise ValueError("time_ms must be >= 0 and strictly ascending")
        if not np.isfinite(capacity).all() or (capacity < 0).any():
            raise ValueError("capacities must be finite and >= 0")
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

    def lower_envelope(self, start_ms: float, end_ms: float, points: int) -> NDArray[np.float64]:
        """(points, 4) smallest capacity in each of ``points`` equal bins of ``[start, end)``.

        Exact on the original breakpoints: the piece in force at a bin's start counts, so a short dip is never missed.
        """
        edges = np.linspace(start_ms, end_ms, points + 1)
        lowest = self.at(edges[:-1], "previous")
        inside = [(int(t), self.at(float(t))) for t in self.times_ms if edges[0] < t < edges[-1]]
        if self.tail == "strict" and edges[0] < self._strict_end < edges[-1]:
            inside.append((self._strict_end, np.zeros(4)))
        for t, capacity in inside:
            # A breakpoint on a bin's edge belongs to the bin that begins there.
            bin_index = int(np.searchsorted(edges, t, side="right")) - 1
            lowest[bin_index] = np.minimum(lowest[bin_index], capacity)
        return lowest

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

    def save_csv(self, path: str | Path) -> None:
        """Writes what ``from_csv`` reads."""
        lines = [",".join(COLUMNS)]
        for t, row in zip(self.times_ms.tolist(), self.capacity.tolist(), strict=True):
            lines.append(",".join([str(t), *(f"{v:.10g}" for v in row)]))
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.times_ms)

    def __repr__(self) -> str:
        return f"SystemTimeline({len(self)} rows to {self.end_ms} ms, tail {self.tail}, id {self.timeline_id})"


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy
