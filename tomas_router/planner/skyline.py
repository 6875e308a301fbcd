"""Booking steps one by one on a curve, in plain integers.

Plans have few steps on short curves, where Python integers beat array calls; the single-step sweep over many options
at once is ``sweep.earliest_starts``. Both follow the same rule and are tested against each other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from tomas_router.planner.demand import Demand
from tomas_router.runtime.residual import ResidualCapacity


class Skyline:
    """A mutable copy of the free capacity while one schedule is built."""

    def __init__(self, starts_ms: list[int], free: list[Demand], end_ms: int) -> None:
        self._starts_ms = starts_ms
        self._free = free
        self._end_ms = end_ms

    @classmethod
    def of(cls, residual: ResidualCapacity) -> Skyline:
        """Reads the curve once; ``copy`` gives every schedule its own."""
        merged = residual.merged()
        columns = merged.free_RN.tolist()
        return cls(merged.starts_N.tolist(), list(zip(*columns, strict=True)), merged.end_ms)

    def copy(self) -> Skyline:
        return Skyline(self._starts_ms.copy(), self._free.copy(), self._end_ms)

    def first_start(self, demand: Demand, latency_ms: int, release_ms: int, latest_ms: int) -> int | None:
        """First start in ``[release_ms, latest_ms]`` from which ``demand`` fits for the whole run, or None."""
        starts, free = self._starts_ms, self._free
        cpu, memory, sm, gpu_memory = demand
        count = len(starts)
        latest = min(latest_ms, self._end_ms - latency_ms)
        piece = max(bisect_right(starts, release_ms) - 1, 0)
        start = max(starts[piece], release_ms)
        while start <= latest:
            end = start + latency_ms
            while piece < count and starts[piece] < end:
                f = free[piece]
                if f[0] < cpu or f[1] < memory or f[2] < sm or f[3] < gpu_memory:
                    break
                piece += 1
            else:
                return start
            piece += 1
            if piece == count:
                return None
            start = starts[piece]
        return None

    def book(self, demand: Demand, start_ms: int, end_ms: int) -> None:
        """Takes ``demand`` away on ``[start_ms, end_ms)``; the caller has checked that it fits."""
        first = self._split_at(start_ms)
        last = self._split_at(end_ms)
        cpu, memory, sm, gpu_memory = demand
        free = self._free
        for piece in range(first, last):
            f = free[piece]
            free[piece] = (f[0] - cpu, f[1] - memory, f[2] - sm, f[3] - gpu_memory)

    def _split_at(self, time_ms: int) -> int:
        starts = self._starts_ms
        piece = bisect_left(starts, time_ms)
        if piece == len(starts) or starts[piece] != time_ms:
            starts.insert(piece, time_ms)
            self._free.insert(piece, self._free[piece - 1])
        return piece
