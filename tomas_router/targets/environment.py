"""Environment variables that a step's program reads for itself, on whatever system it runs.

Numeric libraries start a thread for each core that they see, which is the machine's number, not the step's. CUDA reads
the MPS variables when a process makes its context, so they have to be there before; without the control daemon of MPS
CUDA ignores them. https://docs.nvidia.com/deploy/mps/
"""

from __future__ import annotations

from tomas_router.profiling.limits import thread_environment
from tomas_router.schema.profiling import ResourceConfig
from tomas_router.targets.rounding import mib, percent, whole

MPS_SHARE = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
MPS_MEMORY = "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"


def threads(config: ResourceConfig) -> dict[str, str]:
    """Keeps numeric libraries to the step's cores."""
    return thread_environment(whole(config.cpu_core))


def mps_share(config: ResourceConfig) -> dict[str, str]:
    """The share of the GPU's threads; nothing where the step asks for none."""
    return {MPS_SHARE: str(percent(config.gpu_sm))} if config.gpu_sm > 0 else {}


def mps_memory(config: ResourceConfig) -> dict[str, str]:
    """The most GPU memory; device 0 is the only one that a step sees."""
    return {MPS_MEMORY: f"0={mib(config.gpu_mem_gb)}M"} if config.gpu_mem_gb > 0 else {}


def mps(config: ResourceConfig) -> dict[str, str]:
    """Both."""
    return mps_share(config) | mps_memory(config)
