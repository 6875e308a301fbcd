"""What every target shares: a step's options, and an honest word about each thing that the plan promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tomas_router.errors import TomasRouterError
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import AMOUNTS, ResourceConfig

How = Literal["enforced", "advisory", "not_expressed"]
"""``enforced``: the system holds the step to it. ``advisory``: it is said, and something may go beyond it.
``not_expressed``: the system has no word for it."""

FIELDS = (*AMOUNTS, "timeout_ms", "start_ms", "depends_on")
"""What a step of a plan promises or asks, in the order of the notes."""


class TargetError(TomasRouterError, ValueError):
    """The plan cannot be said to this target: nothing is placed, or a step is larger than anything it has."""


@dataclass(frozen=True)
class Note:
    """What becomes of one field of a step."""

    field: str
    how: How
    text: str


class Exported(NamedTuple):
    """One step, as a target is told it."""

    options: Any
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Placed:
    """A step of a planned plan, with its fields known to be there."""

    step: PlanStep
    config: ResourceConfig
    start_ms: int
    timeout_ms: int | None

    @property
    def id(self) -> str:
        return self.step.id

    @property
    def uses_gpu(self) -> bool:
        return self.config.gpu_sm > 0 or self.config.gpu_mem_gb > 0

    def notes(self, said: dict[str, tuple[How, str]]) -> tuple[Note, ...]:
        """One note for each field that this step uses, in the usual order."""
        used = {"cpu_core": True, "cpu_mem_gb": True, "gpu_sm": self.uses_gpu, "gpu_mem_gb": self.uses_gpu}
        used |= {"timeout_ms": self.timeout_ms is not None, "start_ms": self.start_ms > 0}
        used |= {"depends_on": bool(self.step.depends_on)}
        return tuple(Note(field, *said[field]) for field in FIELDS if used[field])


def placed_steps(plan: ToolPlan) -> Sequence[Placed]:
    """The steps of a plan, in call order.

    Raises:
        TargetError: nothing of it is placed.
    """
    if plan.status != "planned":
        raise TargetError(f"nothing to say: the plan's status is {plan.status} ({plan.reason})")
    return [_placed(step) for step in plan.steps]


def _placed(step: PlanStep) -> Placed:
    assert step.resource_config is not None, "a planned step has a configuration"
    assert step.start_ms is not None, "a planned step has a start"
    return Placed(step, step.resource_config, step.start_ms, step.timeout_ms)
