"""A whole plan as a file for a target: YAML, JSON or a shell script."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Literal

import yaml

from tomas_router.schema.plan import ToolPlan
from tomas_router.targets.exported import Exported, TargetError

Target = Literal["ray", "kubernetes", "docker", "slurm", "ecs", "local"]
TARGETS: tuple[Target, ...] = ("ray", "kubernetes", "docker", "slurm", "ecs", "local")
DEFAULT_IMAGE = "tools:latest"


def exported(
    plan: ToolPlan, target: Target, *, gpu: str | None = None, image: str | None = None
) -> dict[str, Exported]:
    """The plan in the words of a target.

    Args:
        plan: planned.
        target: which.
        gpu: how the target shares GPUs; None: its default.
        image: of containers; None: the default.

    Raises:
        TargetError: nothing is placed, a step is too large, or the target knows no such ``gpu`` or no images.
    """
    settings: dict[str, Any] = {}
    if gpu is not None:
        _require(target in ("kubernetes", "slurm"), f"{target} shares GPUs in one way, so gpu must not be given")
        settings["gpu"] = gpu
    if image is not None and target != "docker":
        _require(target in ("kubernetes", "ecs"), f"{target} has no images, so image must not be given")
        settings["image"] = image
    said: dict[str, Exported] = getattr(plan, f"to_{target}")(**settings)
    return said


def written(plan: ToolPlan, target: Target, said: Mapping[str, Exported], image: str | None = None) -> str:
    """The text of a file.

    Args:
        plan: what was exported.
        target: where to.
        said: what ``exported`` answered.
        image: of ``docker run``.
    """
    options = {step: export.options for step, export in said.items()}
    if target == "kubernetes":
        return yaml.safe_dump_all(options.values(), sort_keys=False)
    if target == "docker":
        return _script(plan, {s: _docker(flags, image or DEFAULT_IMAGE) for s, flags in options.items()})
    if target == "slurm":
        return _script(plan, {s: _sbatch(s, flags) for s, flags in options.items()})
    return json.dumps(list(options.values()) if target == "ecs" else options, indent=2) + "\n"


def _script(plan: ToolPlan, commands: Mapping[str, str]) -> str:
    lines = ["#!/bin/sh", "set -e"]
    for step in plan.steps:
        after = f", after {' '.join(step.depends_on)}" if step.depends_on else ""
        lines += [f"# {step.id} {' '.join(step.tool_name.split())}: at {step.start_ms} ms{after}", commands[step.id]]
    return "\n".join(lines) + "\n"


def _docker(flags: list[str], image: str) -> str:
    return shlex.join(["docker", "run", "--rm", *flags, image])


def _sbatch(step: str, options: list[str]) -> str:
    words = [f'"{option}"' if option.startswith("--dependency=") else shlex.quote(option) for option in options]
    return f"{step}=$(sbatch --parsable {' '.join(words)} {step}.sh)"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TargetError(otherwise)
