"""Where timelines come from: a file, this host, a monitoring system.

A source answers with one curve for each GPU, or one curve alone where there is none; all repeat the same CPU columns.
A live source knows the present only: its curves have one row, which holds (tail ``hold``), and an epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from tomas_router.runtime.gpus import GpuState
from tomas_router.runtime.host import Host
from tomas_router.runtime.timeline import SystemTimeline, Tail

NO_GPU = GpuState(0.0, 0.0)


class TimelineSource(Protocol):
    """Anything that says what a machine has left."""

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """One curve for each GPU, at least one."""
        ...


class CsvSource:
    """Files in the format of ``system_profiling.csv``, one for each GPU; read anew at every call."""

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        tail: Tail | None = None,
        horizon_ms: int | None = None,
        epoch_ms: int | None = None,
    ) -> None:
        """Args are those of ``SystemTimeline.from_csv``; several paths are several GPUs of one machine.

        Raises:
            ValueError: No path is given.
        """
        self._paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if not self._paths:
            raise ValueError("paths must hold at least one file, got none")
        self._tail, self._horizon_ms, self._epoch_ms = tail, horizon_ms, epoch_ms

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """Reads the files.

        Raises:
            DataValidationError: Lists everything that is wrong with the first file that cannot be used.
        """
        return tuple(
            SystemTimeline.from_csv(path, tail=self._tail, horizon_ms=self._horizon_ms, epoch_ms=self._epoch_ms)
            for path in self._paths
        )


class HostSource:
    """This host, now.

    Args:
        sample_s: CPU use is a mean over at least this long; a call blocks for what is left of it.
        booked_pids: processes (with their children) whose use does not count, because a ledger counts it.

    Raises:
        MissingExtraError: psutil is not installed.
    """

    def __init__(self, sample_s: float = 0.2, booked_pids: Collection[int] = ()) -> None:
        self._host = Host(booked_pids)
        self._sample_s = sample_s

    def timelines(self) -> tuple[SystemTimeline, ...]:
        """One row, held, for each GPU; ``gpu_sm`` and ``gpu_mem_gb`` are 0 on a host without."""
        reading = self._host.read(self._sample_s)
        return tuple(
            present(reading.at_ms, reading.cpu_cores, reading.cpu_mem_gib, gpu) for gpu in reading.gpus or (NO_GPU,)
        )


def present(at_ms: int, cpu_cores: float, cpu_mem_gib: float, gpu: GpuState) -> SystemTimeline:
    """What is free now, and nothing known about later."""
    row = (0, cpu_cores, cpu_mem_gib, gpu.sm_percent, gpu.memory_gib)
    return SystemTimeline.from_rows([row], tail="hold", epoch_ms=at_ms)
