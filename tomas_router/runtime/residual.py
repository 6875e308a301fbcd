"""Free capacity as integers: the timeline minus what is already booked.

N pieces; R = 4 resources in the order cpu (milli-cores), cpu memory (MiB), GPU SMs (0.1 %), GPU memory (MiB).
Piece ``i`` holds on the right-open interval ``[starts[i], starts[i + 1])``. Before the first piece nothing is known,
so nothing may run there. After the floor and ceil at the edges there is no floating point and no tolerance left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tomas_router.runtime.quota import Quota
    from tomas_router.runtime.reservation import Reservation
    from tomas_router.runtime.timeline import SystemTimeline

Int = NDArray[np.int64]

FOREVER_MS = 2**62
RESOURCES = ("cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")
UNITS = ("vCPU", "GiB", "%", "GiB")
STEPS_PER_UNIT = (1000, 1024, 10, 1024)
"""Integer steps in one physical unit, per resource."""


@dataclass(frozen=True)
class ResidualCapacity:
    """What is free, piece by piece."""

    starts_N: Int  # ms, strictly ascending
    free_RN: Int  # >= 0, one contiguous row a resource
    end_ms: int
    """Nothing may run at or after this time; ``FOREVER_MS`` when the last piece holds."""
    known_until_ms: int
    """A run that ends later rests on the assumption that the last piece holds."""

    @classmethod
    def of(
        cls,
        timeline: SystemTimeline,
        reservations: Iterable[Reservation] = (),
        deadline_ms: int | None = None,
        quota: Quota | None = None,
    ) -> ResidualCapacity:
        """Free capacity of ``timeline`` after ``reservations``.

        Reservations carry times of the ledger's clock: the timeline's own when it has no epoch, else epoch
        milliseconds. A curve that has shrunk below what is booked leaves zero, not a negative rest.

        Args:
            timeline: the curve; a ``strict`` tail ends at its horizon, ``hold`` keeps the last row for ever.
            reservations: bookings of other plans.
            deadline_ms: nothing may run at or after this time of the timeline.
            quota: only this share of the curve may be used.
        """
        last_break = int(timeline.times_ms[-1])
        horizon = timeline.horizon_ms
        known_until = last_break if horizon is None else int(horizon)
        end = known_until if timeline.tail == "strict" else FOREVER_MS
        if deadline_ms is not None:
            end = min(end, deadline_ms)
        free = np.ascontiguousarray(timeline.capacity_int.T)
        if quota is not None:
            free = free * np.array(quota.percents, dtype=np.int64)[:, None] // 100
        residual = cls(np.asarray(timeline.times_ms), free, end, known_until)
        return residual._minus_all(tuple(reservations), timeline.epoch_ms or 0)._clamped()

    def minus(self, start_ms: int, end_ms: int, demand: tuple[int, int, int, int]) -> ResidualCapacity:
        """The rest after booking ``demand`` on ``[start_ms, end_ms)``."""
        split = self._split_at(start_ms)._split_at(end_ms)
        first, last = np.searchsorted(split.starts_N, (start_ms, end_ms))
        free = split.free_RN.copy()
        free[:, first:last] -= np.array(demand, dtype=np.int64)[:, None]
        return ResidualCapacity(split.starts_N, free, self.end_ms, self.known_until_ms)

    def _minus_all(self, reservations: Sequence[Reservation], epoch_ms: int) -> ResidualCapacity:
        """``minus`` for many bookings, in one sweep over where they begin and end."""
        if not reservations:
            return self
        times = np.array([(r.start_ms, r.end_ms) for r in reservations], dtype=np.int64) - epoch_ms
        times = np.maximum(times, self.starts_N[0])  # before the curve there is nothing to take from
        starts = np.union1d(self.starts_N, times)
        demand = np.array([r.demand for r in reservations], dtype=np.int64)
        change = np.zeros((len(starts) + 1, len(RESOURCES)), dtype=np.int64)
        np.add.at(change, np.searchsorted(starts, times[:, 0]), demand)
        np.subtract.at(change, np.searchsorted(starts, times[:, 1]), demand)
        taken = change.cumsum(axis=0)[:-1]
        free = self.free_RN[:, np.searchsorted(self.starts_N, starts, side="right") - 1] - taken.T
        return ResidualCapacity(starts, np.ascontiguousarray(free), self.end_ms, self.known_until_ms)

    def at_most(self, other: ResidualCapacity) -> ResidualCapacity:
        """At every moment the smaller of two curves over the same time."""
        starts = np.union1d(self.starts_N, other.starts_N)
        of_self, of_other = (np.searchsorted(c.starts_N, starts, side="right") - 1 for c in (self, other))
        free = np.minimum(self.free_RN[:, of_self], other.free_RN[:, of_other])
        return ResidualCapacity(starts, np.ascontiguousarray(free), self.end_ms, self.known_until_ms)

    def held(self) -> ResidualCapacity:
        """The same curve without an end: what is free in the last piece before it stays free."""
        in_time = self.starts_N < self.end_ms
        if not in_time.any():
            return replace(self, end_ms=FOREVER_MS)
        free = np.ascontiguousarray(self.free_RN[:, in_time])
        return replace(self, starts_N=self.starts_N[in_time], free_RN=free, end_ms=FOREVER_MS)

    def merged(self) -> ResidualCapacity:
        """The same curve without breakpoints at which nothing changes."""
        changes = np.ones(len(self.starts_N), dtype=bool)
        changes[1:] = (self.free_RN[:, 1:] != self.free_RN[:, :-1]).any(axis=0)
        if changes.all():
            return self
        free = np.ascontiguousarray(self.free_RN[:, changes])
        return ResidualCapacity(self.starts_N[changes], free, self.end_ms, self.known_until_ms)

    def _split_at(self, time_ms: int) -> ResidualCapacity:
        index = int(np.searchsorted(self.starts_N, time_ms))
        if index == 0 or (index < len(self.starts_N) and self.starts_N[index] == time_ms):
            return self
        starts = np.insert(self.starts_N, index, time_ms)
        free = np.insert(self.free_RN, index, self.free_RN[:, index - 1], axis=1)
        return ResidualCapacity(starts, free, self.end_ms, self.known_until_ms)

    def _clamped(self) -> ResidualCapacity:
        if self.free_RN.min() >= 0:
            return self
        return ResidualCapacity(self.starts_N, np.maximum(self.free_RN, 0), self.end_ms, self.known_until_ms)
