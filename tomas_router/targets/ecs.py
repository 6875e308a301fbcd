"""Steps as container definitions of Amazon ECS, whose GPUs are shared by MPS.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html and API_NvidiaMpsAllocation
"""

from __future__ import annotations

import re
from typing import Any

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.environment import threads
from tomas_router.targets.exported import Exported, How, Placed, placed_steps
from tomas_router.targets.rounding import mib, percent

MIN_CPU_UNITS, MIN_MEMORY_MIB = 2, 6
MAX_NAME_CHARS = 255


def to_ecs(plan: ToolPlan, *, image: str = "tools:latest") -> dict[str, Exported]:
    """A container definition by step id.

    Args:
        plan: planned.
        image: of every container.

    Raises:
        TargetError: nothing is placed.
    """
    return {p.id: Exported(_definition(p, image), p.notes(SAID)) for p in placed_steps(plan)}


def _definition(placed: Placed, image: str) -> dict[str, Any]:
    config = placed.config
    environment = [{"name": name, "value": value} for name, value in threads(config).items()]
    definition: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9_-]", "-", f"{placed.id}-{placed.step.tool_name}")[:MAX_NAME_CHARS],
        "image": image,
        "cpu": max(mib(config.cpu_core), MIN_CPU_UNITS),  # a core has 1024 units
        "memory": max(mib(config.cpu_mem_gb), MIN_MEMORY_MIB),
        "environment": environment,
    }
    if placed.uses_gpu:
        allocation = {"memory": max(mib(config.gpu_mem_gb), 1)}
        if config.gpu_sm > 0:
            allocation["maxComputePercent"] = percent(config.gpu_sm)
        definition["resourceRequirements"] = [{"type": "GPU", "sharingStrategy": {"nvidiaMps": allocation}}]
    return definition


SAID: dict[str, tuple[How, str]] = {
    "cpu_core": ("advisory", "units are shares; idle cores may be used beyond them"),
    "cpu_mem_gb": ("enforced", "over it the container is killed"),
    "gpu_sm": ("advisory", "a limit by MPS, not a reservation"),
    "gpu_mem_gb": ("enforced", "a GPU that has as much is chosen, and MPS holds the container to it"),
    "timeout_ms": ("not_expressed", "tasks have no time limit; stop the task from outside"),
    "start_ms": ("not_expressed", "tasks start at once; run it later"),
    "depends_on": ("not_expressed", "dependsOn orders containers of one task; run it when the others have ended"),
}
