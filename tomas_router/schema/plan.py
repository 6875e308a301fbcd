"""The answer: a tool plan. Plain JSON types only, so that it survives any checkpoint."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tomas_router.schema.profiling import InputSize, ResourceConfig

SCHEMA_VERSION: Literal["1.0"] = "1.0"
UNITS = {
    "cpu_core": "vcpu",
    "cpu_mem_gb": "GiB",
    "gpu_sm": "percent_of_one_gpu",
    "gpu_mem_gb": "GiB",
    "time": "ms",
}

Status = Literal["planned", "no_tool", "infeasible"]
Source = Literal["profiled", "predicted"]


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shortfall(_Contract):
    """One thing that is missing."""

    resource: str
    at_ms: int
    needed: float
    available: float
    unit: str


class Alternative(_Contract):
    """Another tool that came close."""

    tool_name: str
    confidence: float = Field(ge=0, le=1)


class PlanStep(_Contract):
    """One call of one tool."""

    id: str = Field(pattern=r"^s[1-9][0-9]*$")
    tool_id: int = Field(ge=0, description="position in the registry")
    tool_name: str = Field(min_length=1)
    args: dict[str, Any] | None = None
    input_size: InputSize
    resource_config: ResourceConfig | None = None
    expected_latency_ms: float | None = Field(default=None, ge=0)
    start_ms: int | None = Field(default=None, ge=0, description="since submission")
    timeout_ms: int | None = Field(default=None, gt=0)
    depends_on: tuple[str, ...] = ()
    confidence: float = Field(ge=0, le=1)
    alternatives: tuple[Alternative, ...] = ()
    source: Source | None = Field(default=None, description="where the resource configuration comes from")

    @property
    def end_ms(self) -> int | None:
        """When the step is expected to be done."""
        if self.start_ms is None or self.expected_latency_ms is None:
            return None
        return self.start_ms + math.ceil(self.expected_latency_ms)


class ToolPlan(_Contract):
    """A validated plan."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    status: Status
    reason: str | None = None
    units: dict[str, str] = Field(default_factory=lambda: dict(UNITS))
    timeline_id: str
    created_at: str = Field(description="ISO 8601, UTC")
    expires_at: str = Field(description="ISO 8601, UTC; plan again after it")
    t_inf_ms: float = Field(ge=0, description="time reserved for the decision; no step starts earlier")
    explanation: str = ""
    gate_confidence: float = Field(ge=0, le=1)
    steps: tuple[PlanStep, ...] = ()
    missing: tuple[Shortfall, ...] = ()
    beyond_horizon: bool = Field(default=False, description="a step ends after the last time the curve vouches for")
    model: str

    @property
    def makespan_ms(self) -> int | None:
        """When the last step is expected to be done; None unless all steps are placed."""
        ends = [step.end_ms for step in self.steps]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    @model_validator(mode="after")
    def _consistent(self) -> ToolPlan:
        _check_status(self)
        _check_steps(self)
        return self


def _check_status(plan: ToolPlan) -> None:
    if plan.status == "no_tool" and plan.steps:
        raise ValueError("a plan with status no_tool has no steps")
    if plan.status != "no_tool" and not plan.steps:
        raise ValueError(f"a plan with status {plan.status} has at least one step")
    if plan.status != "planned" and not plan.reason:
        raise ValueError(f"a plan with status {plan.status} says its reason")


def _check_steps(plan: ToolPlan) -> None:
    earlier: dict[str, PlanStep] = {}
    for step in plan.steps:
        if step.id in earlier:
            raise ValueError(f"step ids must be unique, got {step.id} twice")
        for dependency in step.depends_on:
            if dependency not in earlier:
                raise ValueError(f"{step.id} depends on {dependency}, which is not an earlier step")
        if plan.status == "planned":
            _check_placed(step, [earlier[d] for d in step.depends_on])
        earlier[step.id] = step


def _check_placed(step: PlanStep, dependencies: list[PlanStep]) -> None:
    for field in ("resource_config", "expected_latency_ms", "start_ms", "source"):
        if getattr(step, field) is None:
            raise ValueError(f"{step.id} is planned, so {field} must be set")
    for dependency in dependencies:
        if dependency.end_ms is not None and step.start_ms is not None and step.start_ms < dependency.end_ms:
            raise ValueError(f"{step.id} starts at {step.start_ms} ms, before {dependency.id} ends")
