"""The GPUs of this host by NVML; a host without NVML has none.

Indices count what this process may use: ``CUDA_VISIBLE_DEVICES`` hides and reorders GPUs here as it does for CUDA
programs. Everything is asked of NVML, so no CUDA context is made and no GPU memory is taken.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

GIB = 2**30
CORES_PER_SM = {
    (7, 0): 64, (7, 5): 64, (8, 0): 64, (8, 6): 128, (8, 7): 128, (8, 9): 128, (9, 0): 128,
    (10, 0): 128, (10, 3): 128, (12, 0): 128,
}  # fmt: skip
"""FP32 cores of one SM by compute capability, from the CUDA programming guide; NVML tells cores, not SMs."""


@dataclass(frozen=True)
class GpuState:
    """What one GPU has free."""

    sm_percent: float
    """100 minus NVML's utilisation: the share of *time* without a kernel, which bounds the free SMs from below."""
    memory_gib: float


def gpu_names() -> tuple[str, ...]:
    """Model names of the GPUs that this process may use, by index."""
    nvml = _nvml()
    if nvml is None:
        return ()
    return tuple(_text(nvml.nvmlDeviceGetName(handle)) for handle in _handles(nvml))


def sm_counts() -> tuple[int, ...]:
    """Streaming multiprocessors of each GPU, by index; 0 where NVML or its architecture's figure does not say."""
    nvml = _nvml()
    return () if nvml is None else tuple(_sm_count(nvml, handle) for handle in _handles(nvml))


def gpu_states() -> tuple[GpuState, ...]:
    """What each GPU has free, by index."""
    nvml = _nvml()
    return () if nvml is None else tuple(_state(nvml, handle) for handle in _handles(nvml))


def gpu_state(index: int) -> GpuState:
    """What one GPU has free; nothing where NVML or that GPU is missing."""
    states = gpu_states()
    return states[index] if 0 <= index < len(states) else GpuState(0.0, 0.0)


def cuda_device(index: int) -> str:
    """What ``CUDA_VISIBLE_DEVICES`` must say so that a program sees exactly this GPU."""
    visible = _visible()
    return str(index) if visible is None else visible[index]


def used_bytes(index: int) -> int:
    """Memory in use on a GPU by all programs."""
    nvml = _nvml()
    return 0 if nvml is None else int(nvml.nvmlDeviceGetMemoryInfo(_handles(nvml)[index]).used)


def used_bytes_of(index: int, pids: Collection[int]) -> int | None:
    """Memory that the processes hold on a GPU; None where NVML does not list them.

    In a container NVML may list process ids of the host, or none at all.
    """
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(_handles(nvml)[index])
    except nvml.NVMLError:
        return None
    held = [process.usedGpuMemory for process in running if process.pid in pids]
    return sum(held) if held and all(amount is not None for amount in held) else None


def _nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()  # counts its callers; asking again is cheap
    except pynvml.NVMLError:
        return None
    return pynvml


def _handles(nvml: Any) -> list[Any]:
    visible = _visible()
    if visible is None:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    handles = []
    for entry in visible:
        try:
            by_index = entry.isdigit()
            handles.append(
                nvml.nvmlDeviceGetHandleByIndex(int(entry)) if by_index else nvml.nvmlDeviceGetHandleByUUID(entry)
            )
        except nvml.NVMLError:
            break  # CUDA, too, ignores what follows an entry that it does not know
    return handles


def _visible() -> list[str] | None:
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if text is None else [entry.strip() for entry in text.split(",") if entry.strip()]


def _state(nvml: Any, handle: Any) -> GpuState:
    try:
        use = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:  # MIG slices do not report it
        use = 0.0
    return GpuState(max(100.0 - use, 0.0), float(nvml.nvmlDeviceGetMemoryInfo(handle).free) / GIB)


def _sm_count(nvml: Any, handle: Any) -> int:
    try:
        cores = int(nvml.nvmlDeviceGetNumGpuCores(handle))
        capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    except nvml.NVMLError:
        return 0
    return cores // CORES_PER_SM[capability] if capability in CORES_PER_SM else 0


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
