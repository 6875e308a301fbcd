"""Steps as options of Ray tasks: ``ray.remote(tool).options(**options).remote(...)``.

Ray counts and does not limit: its resources decide where a task may start, not what it takes afterwards.
https://docs.ray.io/en/latest/ray-core/scheduling/resources.html
"""

from __future__ import annotations

from typing import Any

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import mps
from tomas_router.targets.exported import Exported, How, Placed, TargetError, placed_steps
from tomas_router.targets.rounding import ten_thousandths

GIB = 2**30
GPU_MEMORY_RESOURCE = "gpu_mem_gb"
SMALLEST_SHARE = 0.0001


def to_ray(
    plan: ToolPlan, *, gpu_total_gib: float | None = None, gpu_memory_resource: str | None = GPU_MEMORY_RESOURCE
) -> dict[str, Exported]:
    """Options by step id.

    Args:
        plan: planned.
        gpu_total_gib: memory of one GPU. With it a step takes the larger of its shares of SMs and memory, so that the
            steps that share a GPU fit its memory too.
        gpu_memory_resource: name of the cluster's own resource that counts GPU memory in GiB, as in
            ``ray start --resources='{"gpu_mem_gb": 80}'``. A task that asks for a resource which no node has waits for
            ever; None does not ask.

    Raises:
        TargetError: nothing is placed, or a step needs more memory than one GPU has.
    """
    return {
        placed.id: Exported(
            _options(placed, gpu_total_gib, gpu_memory_resource),
            placed.notes(_said(gpu_total_gib, gpu_memory_resource)),
        )
        for placed in placed_steps(plan)
    }


def _options(placed: Placed, gpu_total_gib: float | None, gpu_memory_resource: str | None) -> dict[str, Any]:
    config = placed.config
    options: dict[str, Any] = {
        "name": f"{placed.id} {placed.step.tool_name}",
        "num_cpus": ten_thousandths(config.cpu_core),
        "memory": int(config.cpu_mem_gb * GIB),
        "max_retries": 0,  # a tool that failed half-way is not run again unasked
    }
    if placed.uses_gpu:
        options["num_gpus"] = _gpu_share(placed, gpu_total_gib)
        if gpu_memory_resource is not None and config.gpu_mem_gb > 0:
            options["resources"] = {gpu_memory_resource: ten_thousandths(config.gpu_mem_gb)}
        options["runtime_env"] = {"env_vars": mps(config)}
    return options


def _gpu_share(placed: Placed, gpu_total_gib: float | None) -> float:
    of_memory = 0.0
    if gpu_total_gib is not None:
        if placed.config.gpu_mem_gb > gpu_total_gib:
            raise TargetError(
                f"{placed.id} ({placed.step.tool_name}) needs {placed.config.gpu_mem_gb:g} GiB on one GPU, "
                f"which has {gpu_total_gib:g}"
            )
        of_memory = placed.config.gpu_mem_gb / gpu_total_gib
    return min(ten_thousandths(max(placed.config.gpu_sm / 100, of_memory, SMALLEST_SHARE)), 1.0)


def _said(gpu_total_gib: float | None, gpu_memory_resource: str | None) -> dict[str, tuple[How, str]]:
    counted = [
        *(["within num_gpus"] if gpu_total_gib is not None else []),
        *([f"as {gpu_memory_resource}, which nodes must declare"] if gpu_memory_resource is not None else []),
    ]
    memory: tuple[How, str] = ("not_expressed", "num_gpus is the share of SMs alone; say gpu_total_gib")
    if counted:
        memory = ("advisory", f"counted {' and '.join(counted)}; held by MPS only, where its daemon runs")
    return {
        "cpu_core": ("advisory", "num_cpus is counted, not held; Ray sets OMP_NUM_THREADS to its whole part"),
        "cpu_mem_gb": ("advisory", "counted, not held; Ray's memory monitor ends tasks when the node runs short"),
        "gpu_sm": (
            "advisory",
            "num_gpus is counted, and CUDA_VISIBLE_DEVICES shows one GPU; the share is held by MPS only, where its "
            "daemon runs",
        ),
        "gpu_mem_gb": memory,
        "timeout_ms": ("not_expressed", "tasks have no time limit; RayExecutor cancels them"),
        "start_ms": ("not_expressed", "tasks start when they can; submit later, as RayExecutor does"),
        "depends_on": ("not_expressed", "pass the other task's object reference as an argument, as RayExecutor does"),
    }
