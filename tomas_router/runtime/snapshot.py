"""What this host has free right now, as a timeline of one row.

A snapshot knows the present only, so the row is held (tail ``hold``) and plans that use it carry ``beyond_horizon``.
It is never imported with the package; it needs psutil, and NVML (``nvidia-ml-py``) only where there is a GPU.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomas_router.errors import MissingExtraError
from tomas_router.runtime.timeline import SystemTimeline

GIB = 2**30
CGROUP_V2_MEMORY = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class GpuState:
    """What one GPU has free."""

    sm_percent: float
    memory_gib: float


def live_timeline(gpu_index: int = 0, sample_s: float = 0.2) -> SystemTimeline:
    """One row with this host's free cores, memory and the given GPU's share.

    Args:
        gpu_index: which GPU; its columns are 0 on hosts without NVML or without that GPU.
        sample_s: how long CPU use is observed; the call blocks that long.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    psutil = _psutil()
    usable = usable_cores()
    busy = psutil.cpu_percent(interval=sample_s) / 100 * (os.cpu_count() or 1)
    memory_gib = free_memory_bytes(int(psutil.virtual_memory().available)) / GIB
    gpu = gpu_state(gpu_index)
    row = (0, max(usable - busy, 0.0), memory_gib, gpu.sm_percent, gpu.memory_gib)
    return SystemTimeline.from_rows([row], tail="hold", epoch_ms=int(time.time() * 1000))


def usable_cores(cgroup: Path = CGROUP_V2_MEMORY) -> float:
    """Cores this process may use: its affinity mask, and the container's CPU quota where there is one."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, int(quota) / int(period))
    return cores


def free_memory_bytes(host_available: int, cgroup: Path = CGROUP_V2_MEMORY) -> int:
    """Free memory of the host, or of the container where that is less."""
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit.isdigit() and used.isdigit():
        return max(min(host_available, int(limit) - int(used)), 0)
    return host_available


def gpu_state(index: int) -> GpuState:
    """Free share of one GPU by NVML; nothing free where NVML or the GPU is missing."""
    try:
        import pynvml
    except ImportError:
        return GpuState(0.0, 0.0)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        use = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        free = float(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    except pynvml.NVMLError:
        return GpuState(0.0, 0.0)
    return GpuState(max(100.0 - use, 0.0), free / GIB)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError as error:
        raise MissingExtraError(
            'a live snapshot of this host needs psutil: pip install "tomas-router[host]"'
        ) from error
    return psutil


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
