"""What this host has free right now, as a timeline of one row.

A snapshot knows the present only, so the row is held (tail ``hold``) and plans that use it carry ``beyond_horizon``.
It is never imported with the package; it needs psutil, and NVML (``nvidia-ml-py``) only where there is a GPU.
"""

from __future__ import annotations

from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import NO_GPU, HostSource, present


def live_timeline(gpu_index: int = 0, sample_s: float = 0.2) -> SystemTimeline:
    """One row with this host's free cores, memory and the given GPU's share.

    Args:
        gpu_index: which GPU; its columns are 0 on hosts without NVML or without that GPU.
        sample_s: how long CPU use is observed; the call blocks that long.

    Raises:
        MissingExtraError: psutil is not installed.
    """
    timelines = HostSource(sample_s).timelines()
    if 0 <= gpu_index < len(timelines):
        return timelines[gpu_index]
    cpu_cores, cpu_mem_gib = timelines[0].capacity[0, :2].tolist()
    return present(timelines[0].epoch_ms or 0, cpu_cores, cpu_mem_gib, NO_GPU)
