"""Steps as Kubernetes Jobs, with a whole GPU, a MIG slice of one, or a share of one by HAMi.

https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/ and https://project-hami.io/docs/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import threads
from tomas_router.targets.exported import Exported, How, Placed, TargetError, placed_steps
from tomas_router.targets.mig import H100_80GB, SLICES, smallest_profile
from tomas_router.targets.rounding import mib, milli, percent, seconds

GpuSharing = Literal["whole", "mig", "hami"]
GPU_SHARINGS: tuple[GpuSharing, ...] = ("whole", "mig", "hami")
DEFAULT_IMAGE = "tools:latest"
STARTUP_S = 60
MAX_NAME_CHARS = 50  # of 63; Kubernetes appends its own
LABEL = "tomas-router"


def to_kubernetes(
    plan: ToolPlan,
    *,
    gpu: GpuSharing = "whole",
    image: str | Mapping[str, str] = DEFAULT_IMAGE,
    namespace: str | None = None,
    mig_profiles: Sequence[str] = H100_80GB,
    mig_slices: int = SLICES,
    startup_s: int = STARTUP_S,
) -> dict[str, Exported]:
    """A manifest of ``batch/v1`` by step id, for ``kubectl create``.

    Args:
        plan: planned.
        gpu: how the cluster shares GPUs.
        image: of the container, or of each tool by name; the command is the image's own.
        namespace: None leaves it to whoever creates the Job.
        mig_profiles: what the cluster offers, for ``gpu="mig"``.
        mig_slices: how many slices one GPU has.
        startup_s: added to a step's time limit, because the Job's clock runs while its image is pulled.

    Raises:
        TargetError: nothing is placed, no MIG profile is large enough, or a tool has no image.
    """
    if gpu not in GPU_SHARINGS:
        raise TargetError(f"gpu must be one of {', '.join(GPU_SHARINGS)}, got {gpu!r}")
    exported = {}
    for placed in placed_steps(plan):
        asked = _gpu(placed, gpu, mig_profiles, mig_slices)
        job = _job(placed, _image(placed, image), asked, startup_s)
        if namespace is not None:
            job["metadata"]["namespace"] = namespace
        exported[placed.id] = Exported(job, placed.notes(_said(gpu, startup_s)))
    return exported


def _job(placed: Placed, image: str, gpu: dict[str, str], startup_s: int) -> dict[str, Any]:
    amounts = _host(placed) | gpu
    container = {
        "name": "tool",
        "image": image,
        "env": [{"name": name, "value": value} for name, value in threads(placed.config).items()],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
    }
    labels = {f"{LABEL}/step": placed.id}
    spec: dict[str, Any] = {
        "backoffLimit": 0,  # a tool that failed half-way is not run again unasked
        "template": {
            "metadata": {"labels": dict(labels)},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        },
    }
    if placed.timeout_ms is not None:
        spec["activeDeadlineSeconds"] = seconds(placed.timeout_ms) + startup_s
    metadata: dict[str, Any] = {"generateName": _name(placed), "labels": labels, "annotations": _annotations(placed)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _host(placed: Placed) -> dict[str, str]:
    """At least the smallest amount: a limit of zero would be none."""
    cores, memory = max(milli(placed.config.cpu_core), 1), max(mib(placed.config.cpu_mem_gb), 1)
    return {"cpu": f"{cores}m", "memory": f"{memory}Mi"}


def _gpu(placed: Placed, gpu: GpuSharing, profiles: Sequence[str], slices: int) -> dict[str, str]:
    config = placed.config
    if not placed.uses_gpu:
        return {}
    if gpu == "mig":
        return {f"nvidia.com/mig-{smallest_profile(config, profiles, slices)}": "1"}
    asked = {"nvidia.com/gpu": "1"}
    if gpu == "hami" and config.gpu_mem_gb > 0:
        asked["nvidia.com/gpumem"] = str(mib(config.gpu_mem_gb))
    if gpu == "hami" and config.gpu_sm > 0:
        asked["nvidia.com/gpucores"] = str(percent(config.gpu_sm))
    return asked


def _annotations(placed: Placed) -> dict[str, str]:
    said = {f"{LABEL}/tool": placed.step.tool_name, f"{LABEL}/start-ms": str(placed.start_ms)}
    return said | ({f"{LABEL}/depends-on": ",".join(placed.step.depends_on)} if placed.step.depends_on else {})


def _image(placed: Placed, image: str | Mapping[str, str]) -> str:
    if isinstance(image, str):
        return image
    if placed.step.tool_name not in image:
        raise TargetError(f"{placed.id}: there is no image for {placed.step.tool_name}, only for {', '.join(image)}")
    return image[placed.step.tool_name]


def _name(placed: Placed) -> str:
    tool = re.sub(r"[^a-z0-9]+", "-", placed.step.tool_name.lower())[:MAX_NAME_CHARS].strip("-")
    return f"{tool or 'tool'}-{placed.id}-"


def _said(gpu: GpuSharing, startup_s: int) -> dict[str, tuple[How, str]]:
    return {
        "cpu_core": ("enforced", "over the limit it is throttled"),
        "cpu_mem_gb": ("enforced", "over the limit it is killed"),
        "gpu_sm": GPU_SHARE[gpu],
        "gpu_mem_gb": GPU_MEMORY[gpu],
        "timeout_ms": (
            "enforced",
            f"activeDeadlineSeconds, with {startup_s} s more to schedule it and pull the image, which its clock counts",
        ),
        "start_ms": ("not_expressed", "a Job starts when it can; create it later, or queue it with Kueue"),
        "depends_on": ("not_expressed", "Jobs do not wait for each other; create it when the others are complete"),
    }


GPU_SHARE: dict[GpuSharing, tuple[How, str]] = {
    "whole": ("not_expressed", "GPUs are counted whole, so the step holds all of one"),
    "mig": ("enforced", "a slice of its own, at least as large; SMs in a slice differ somewhat by model"),
    "hami": ("advisory", "HAMi keeps new kernels back; one large kernel that runs already is not limited"),
}
GPU_MEMORY: dict[GpuSharing, tuple[How, str]] = {
    "whole": ("not_expressed", "all memory of the GPU; no check that it has enough, so select nodes by label"),
    "mig": ("enforced", "the slice has its own memory, at least as much"),
    "hami": ("enforced", "HAMi refuses allocations beyond it"),
}
