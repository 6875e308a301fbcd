"""Follows how much of a GPU's memory a process tree takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from tomas_router.runtime import gpus


class GpuWatch:
    """Peak of device memory. Begin before the process starts: what is used then belongs to others."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._before = gpus.used_bytes(index)
        self._of_process = 0
        self._of_device = 0

    def look(self, pids: Collection[int]) -> None:
        """Takes one sample."""
        held = gpus.used_bytes_of(self._index, pids)
        if held is not None:
            self._of_process = max(self._of_process, held)
        self._of_device = max(self._of_device, gpus.used_bytes(self._index) - self._before)

    @property
    def peak(self) -> tuple[int, Literal["process", "device"]]:
        """Bytes, and whose they are: of the processes where NVML lists them, else what the whole device rose by."""
        return (self._of_process, "process") if self._of_process else (self._of_device, "device")
