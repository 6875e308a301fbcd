"""Deals the CPUs of this process to steps that run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class CpuPool:
    """Gives each step the CPUs that the fewest other steps have; they are shared when there are not enough.

    Steps of half a core share one, as their plan says; a plan never books more than there is.
    """

    def __init__(self, cpus: Sequence[int]) -> None:
        self._lock = threading.Lock()
        self._users = dict.fromkeys(cpus, 0)

    @contextmanager
    def take(self, count: int) -> Iterator[tuple[int, ...]]:
        """As many CPUs as asked for, or all there are."""
        with self._lock:
            chosen = sorted(self._users, key=lambda cpu: (self._users[cpu], cpu))[:count]
            self._count(chosen, 1)
        try:
            yield tuple(sorted(chosen))
        finally:
            with self._lock:
                self._count(chosen, -1)

    def _count(self, cpus: Sequence[int], by: int) -> None:
        for cpu in cpus:
            self._users[cpu] += by
