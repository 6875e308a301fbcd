"""Looks at this host: how many cores, how much memory and which shares of its GPUs are free.

What is free is the smallest of what the hardware, the affinity mask and every control group leave. CPU use is a mean
between two looks. Processes whose use is booked elsewhere can be given back: a ledger that holds a running step, and a
host on which that step is seen to run, would otherwise count it twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tomas_router.extras import import_extra
from tomas_router.runtime import cgroup, gpus
from tomas_router.runtime.gpus import GpuState

GIB = 2**30
MIN_INTERVAL_S = 0.1
"""Kernels count CPU time in ticks of 10 ms; a shorter mean would be mostly rounding."""


@dataclass(frozen=True)
class HostReading:
    """What is free, between two looks at the CPU and at the second one for the rest."""

    at_ms: int
    """Unix time."""
    cpu_cores: float
    cpu_mem_gib: float
    gpus: tuple[GpuState, ...]


@dataclass(frozen=True)
class _CpuLook:
    at_s: float
    busy_s: dict[int, float]  # by CPU that this process may use
    quotas: tuple[cgroup.CpuLevel, ...]
    booked_s: dict[tuple[int, float], float]  # by process id and its time of creation


class Host:
    """This host, looked at now and then.

    Args:
        booked_pids: processes (with their children) whose use does not count, because a ledger counts it.

    Raises:
        MissingExtraError: psutil is not installed.
    """

    def __init__(self, booked_pids: Collection[int] = ()) -> None:
        self._psutil = import_extra("psutil", "host", "a live snapshot of this host needs psutil")
        self._booked_pids = tuple(booked_pids)
        self._last = self._look()

    def read(self, wait_s: float = 0.0) -> HostReading:
        """What is free; CPU use is the mean since the last call, or since construction.

        Args:
            wait_s: let at least this long pass since then; 0.1 s pass in any case.
        """
        missing_s = max(wait_s, MIN_INTERVAL_S) - (time.monotonic() - self._last.at_s)
        if missing_s > 0:
            time.sleep(missing_s)
        before, self._last = self._last, self._look()
        return HostReading(
            at_ms=time.time_ns() // 1_000_000,
            cpu_cores=_free_cores(before, self._last),
            cpu_mem_gib=self._free_bytes() / GIB,
            gpus=tuple(self._gpu(index, state) for index, state in enumerate(gpus.gpu_states())),
        )

    def _look(self) -> _CpuLook:
        times = self._psutil.cpu_times(percpu=True)
        booked = {}
        for process in self._booked():
            used = process.cpu_times()
            booked[process.pid, process.create_time()] = float(used.user + used.system)
        busy = {cpu: _busy_s(times[cpu]) for cpu in usable_cpus() if cpu < len(times)}
        return _CpuLook(time.monotonic(), busy, cgroup.cpu_levels(), booked)

    def _free_bytes(self) -> int:
        return free_memory_bytes(sum(int(process.memory_info().rss) for process in self._booked()))

    def _gpu(self, index: int, state: GpuState) -> GpuState:
        """With the memory of booked processes given back; NVML does not tell whose the kernels are."""
        held = gpus.used_bytes_of(index, {process.pid for process in self._booked()}) if self._booked_pids else None
        return state if held is None else GpuState(state.sm_percent, state.memory_gib + held / GIB)

    def _booked(self) -> list[Any]:
        """The booked processes and their children that still run."""
        found: dict[int, Any] = {}
        for pid in self._booked_pids:
            try:
                root = self._psutil.Process(pid)
                members = [root, *root.children(recursive=True)]
                found |= {member.pid: member for member in members if member.status() != self._psutil.STATUS_ZOMBIE}
            except self._psutil.Error:  # it has ended
                continue
        return list(found.values())


def free_memory_bytes(booked_bytes: int = 0) -> int:
    """Memory that this host and every control group above this process still have.

    Args:
        booked_bytes: in use, and given back.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    memory = import_extra("psutil", "host", "looking at this host's memory needs psutil").virtual_memory()
    free = [min(int(memory.available) + booked_bytes, int(memory.total))]
    levels = cgroup.memory_levels()
    free += [min(level.limit_bytes - level.used_bytes + booked_bytes, level.limit_bytes) for level in levels]
    return max(min(free), 0)


def _free_cores(before: _CpuLook, now: _CpuLook) -> float:
    passed = now.at_s - before.at_s
    booked = sum(used - before.booked_s.get(process, 0.0) for process, used in now.booked_s.items()) / passed
    busy = sum(now.busy_s[cpu] - before.busy_s.get(cpu, now.busy_s[cpu]) for cpu in now.busy_s) / passed
    free = [min(len(now.busy_s) - busy + booked, float(len(now.busy_s)))]
    if len(before.quotas) == len(now.quotas):
        for level_before, level in zip(before.quotas, now.quotas, strict=True):
            used = (level.used_s - level_before.used_s) / passed
            free.append(min(level.quota_cores - used + booked, level.quota_cores))
    else:  # the process was moved to another group between the looks
        free += [level.quota_cores for level in now.quotas]
    return max(min(free), 0.0)


def _busy_s(times: Any) -> float:
    """Seconds of work; guests are part of user time, and a CPU that waits for a disk is free to work."""
    idle = times.idle + getattr(times, "iowait", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def usable_cpus() -> list[int]:
    """The CPUs that this process may use by its affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
