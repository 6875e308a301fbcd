"""On what the numbers were measured; nothing that tells one machine of a kind from another."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from tomas_router import __version__
from tomas_router.extras import import_extra
from tomas_router.profiling import limits
from tomas_router.runtime import cgroup, gpus
from tomas_router.runtime.host import usable_cpus

PACKAGES = (
    "langchain-core", "numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python", "pandas", "pillow", "polars",
    "pyarrow", "scikit-learn", "scipy", "torch", "transformers",
)  # fmt: skip
GIB = 2**30


class Machine(BaseModel):
    """The kind of machine; another one gives other numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    architecture: str
    cpu_model: str
    usable_cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    gpu_sm_counts: tuple[int, ...] = Field(
        default=(), description="streaming multiprocessors of each GPU, so that shares can be carried to another one"
    )


class Software(BaseModel):
    """Versions of what the tools may have used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tomas_router: str
    python: str
    packages: dict[str, str] = Field(description="well-known packages that are installed, whether used or not")


def this_machine() -> Machine:
    """The machine that this process runs on."""
    psutil = import_extra("psutil", "host", "measuring tools needs psutil")
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        cpu_model=_cpu_model(),
        usable_cores=usable_cores(),
        memory_gib=round(psutil.virtual_memory().total / GIB, 1),
        gpus=gpus.gpu_names(),
        gpu_sm_counts=gpus.sm_counts(),
    )


def usable_cores() -> int:
    """Whole cores that a process may use at once: its affinity mask, and the quota of every control group above it."""
    quotas = [int(level.quota_cores) for level in cgroup.cpu_levels()]
    return min([len(usable_cpus()), *quotas])


def this_software() -> Software:
    """What is installed here."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return Software(tomas_router=__version__, python=platform.python_version(), packages=found)


def enforcement() -> dict[str, str]:
    """How the limits of a configuration are held here, in words."""
    cores = "affinity mask and thread variables" if limits.CAN_PIN else "thread variables only"
    memory = "resident memory of the process tree, looked at every 20 ms; what exceeds it is ended"
    data = "RLIMIT_DATA beside it" if limits.CAN_LIMIT_DATA else "no RLIMIT_DATA on this system"
    return {
        "cpu_core": f"{cores}; no cgroup",
        "cpu_mem_gb": f"{memory}; {data}; no cgroup",
        "gpu_sm": "CUDA_VISIBLE_DEVICES; below 100 CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
        "gpu_mem_gb": "measured by NVML, not limited",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
