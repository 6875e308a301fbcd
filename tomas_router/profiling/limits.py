"""Holds a process to some cores and some memory, from the process's own start.

Cores: an affinity mask, and the thread counts that numeric libraries read when they are loaded. Memory: the measuring
parent watches resident memory; a data limit beside it turns an explosion between two looks into a ``MemoryError``.
Why not cgroups, and why not ``RLIMIT_AS``: docs/decisions/profiling-in-fresh-processes.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

LIBRARY_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
"""What numeric libraries read, also when a planned tool runs a command (``executors.limits``)."""
THREAD_VARIABLES = (
    *LIBRARY_THREAD_VARIABLES,
    "NUMEXPR_MAX_THREADS",
    "GOMAXPROCS",
    "PYTHON_CPU_COUNT",  # what os.cpu_count() says from Python 3.13 on
)
DATA_LIMIT_FACTOR, DATA_LIMIT_EXTRA_BYTES = 2, 2**30
CAN_PIN = hasattr(os, "sched_setaffinity")
CAN_LIMIT_DATA = sys.platform == "linux"  # elsewhere RLIMIT_DATA does not count mapped memory


def thread_environment(cores: int) -> dict[str, str]:
    """Environment variables that keep numeric libraries to so many threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(cores))


def gpu_environment(device: str | None, sm_percent: float) -> dict[str, str]:
    """Environment variables that show one GPU, or none, and bound the share of its SMs.

    A share below 100 is held by CUDA MPS alone; without its control daemon CUDA ignores the variable.
    """
    if device is None:
        return {"CUDA_VISIBLE_DEVICES": ""}
    shown = {"CUDA_VISIBLE_DEVICES": device, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # the order of NVML
    return shown | ({"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{sm_percent:g}"} if sm_percent < 100 else {})


def pin(cpus: Sequence[int]) -> None:
    """Keeps this process and all its future children to these CPUs, where the system can."""
    if CAN_PIN:
        os.sched_setaffinity(0, cpus)


def data_limit_bytes(resident_limit_bytes: int) -> int:
    """Where the data limit lies: wide of the resident limit, for data may be reserved and never touched."""
    return DATA_LIMIT_FACTOR * resident_limit_bytes + DATA_LIMIT_EXTRA_BYTES


def limit_data(limit_bytes: int | None) -> None:
    """Lets allocations behind ``limit_bytes`` fail in this process and, each for itself, in its children."""
    if limit_bytes is None or not CAN_LIMIT_DATA:
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
