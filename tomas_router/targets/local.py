"""Steps as limits of processes of this machine, as ``LocalExecutor`` sets them."""

from __future__ import annotations

from tomas_router.profiling.limits import CAN_LIMIT_DATA, CAN_PIN
from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import mps, threads
from tomas_router.targets.exported import Exported, How, Placed, placed_steps
from tomas_router.targets.rounding import mib, whole

MIB = 2**20
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def to_local(plan: ToolPlan, *, gpu_device: str = "0") -> dict[str, Exported]:
    """By step id: ``cpus`` (number), ``memory_bytes``, ``timeout_s`` (None: no limit) and ``env``.

    Args:
        plan: planned.
        gpu_device: index or UUID of the GPU that all steps of the plan share, for a timeline is of one GPU.

    Raises:
        TargetError: nothing is placed.
    """
    return {p.id: Exported(_limits(p, gpu_device), p.notes(SAID)) for p in placed_steps(plan)}


def _limits(placed: Placed, gpu_device: str) -> dict[str, object]:
    shown = {"CUDA_VISIBLE_DEVICES": gpu_device, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # the order of NVML
    return {
        "cpus": whole(placed.config.cpu_core),
        "memory_bytes": max(mib(placed.config.cpu_mem_gb), 1) * MIB,
        "timeout_s": None if placed.timeout_ms is None else placed.timeout_ms / 1000,
        "env": threads(placed.config) | (shown | mps(placed.config) if placed.uses_gpu else NO_GPU),
    }


SAID: dict[str, tuple[How, str]] = {
    "cpu_core": (
        ("enforced", "whole cores by affinity, and as many threads")
        if CAN_PIN
        else ("advisory", "this system has no affinity; the number of threads alone")
    ),
    "cpu_mem_gb": (
        "enforced",
        "the processes are ended when their resident memory is over it, seen within 20 ms"
        + ("; one huge allocation fails at once" if CAN_LIMIT_DATA else ""),
    ),
    "gpu_sm": ("advisory", "one GPU is shown; the share is held by MPS where its daemon runs"),
    "gpu_mem_gb": ("advisory", "held by MPS where its daemon runs"),
    "timeout_ms": ("enforced", "all processes of the step are killed"),
    "start_ms": ("enforced", "the executor waits"),
    "depends_on": ("enforced", "the executor waits, and does not run what needs a failed step"),
}
