"""Steps as flags of ``docker run``: ``docker run --rm FLAGS IMAGE``.

https://docs.docker.com/engine/containers/resource_constraints/
"""

from __future__ import annotations

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import mps, threads
from tomas_router.targets.exported import Exported, How, Placed, placed_steps
from tomas_router.targets.rounding import mib, milli

MIN_MEMORY_MIB = 6
"""Docker refuses less."""
MPS_PIPE = "/tmp/nvidia-mps"
"""Where the control daemon of MPS listens unless told otherwise."""


def to_docker(plan: ToolPlan, *, gpu_device: str = "0", mps_pipe: str | None = MPS_PIPE) -> dict[str, Exported]:
    """A list of flags by step id.

    Args:
        plan: planned.
        gpu_device: index or UUID of the GPU that all steps of the plan share, for a timeline is of one GPU.
        mps_pipe: folder of the MPS daemon on the host; None: there is none, and the GPU is not divided.

    Raises:
        TargetError: nothing is placed.
    """
    said = _said(mps_pipe is not None)
    return {p.id: Exported(_flags(p, gpu_device, mps_pipe), p.notes(said)) for p in placed_steps(plan)}


def _flags(placed: Placed, gpu_device: str, mps_pipe: str | None) -> list[str]:
    memory = f"{max(mib(placed.config.cpu_mem_gb), MIN_MEMORY_MIB)}m"
    flags = [
        f"--cpus={_cores(placed.config.cpu_core)}",
        f"--memory={memory}",
        f"--memory-swap={memory}",  # as much as memory: no swap on top
    ]
    environment = threads(placed.config)
    if placed.uses_gpu:
        flags.append(f'--gpus="device={gpu_device}"')
        if mps_pipe is not None:
            flags += ["--ipc=host", f"--volume={mps_pipe}:{MPS_PIPE}"]
            environment |= mps(placed.config)
    return flags + [f"--env={name}={value}" for name, value in environment.items()]


def _cores(cores: float) -> str:
    """To the milli-core, and never 0, which would be no limit."""
    thousandths = max(milli(cores), 1)
    return f"{thousandths // 1000}.{thousandths % 1000:03}"


def _said(mps_runs: bool) -> dict[str, tuple[How, str]]:
    share: tuple[How, str] = ("advisory", "held by MPS where its daemon runs; else CUDA ignores the variable")
    memory: tuple[How, str] = ("advisory", "held by MPS where its daemon runs, for device 0 of the container")
    if not mps_runs:
        share = ("not_expressed", "without MPS a container sees the whole GPU")
        memory = ("not_expressed", "without MPS a container may take all memory of the GPU")
    return {
        "cpu_core": ("enforced", "a ceiling; over it the container is throttled"),
        "cpu_mem_gb": ("enforced", "over it the container is killed; no swap"),
        "gpu_sm": share,
        "gpu_mem_gb": memory,
        "timeout_ms": ("not_expressed", "docker run has no time limit; stop the container from outside"),
        "start_ms": ("not_expressed", "docker run starts at once; run it later"),
        "depends_on": ("not_expressed", "containers do not wait; run it when the others have ended"),
    }
