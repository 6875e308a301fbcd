"""The answer: a tool plan. Plain JSON types only, so that it survives any checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from tomas_router.schema.findings import InconsistentError
from tomas_router.schema.plan_versions import SCHEMA_VERSION, newest_version
from tomas_router.schema.profiling import InputSize, ResourceConfig
from tomas_router.schema.tool_identity import HASH_CHARS, identity

if TYPE_CHECKING:
    from tomas_router.targets.exported import Exported

UNITS = {
    "cpu_core": "vcpu",
    "cpu_mem_gb": "GiB",
    "gpu_sm": "percent_of_one_gpu",
    "gpu_mem_gb": "GiB",
    "time": "ms",
}

Status = Literal["planned", "no_tool", "infeasible"]
Source = Literal["profiled", "predicted"]
NO_TOOL_REASONS = ("not_needed", "no_match")
PLACED_FIELDS = ("resource_config", "expected_latency_ms", "start_ms", "source")
"""What every step of a planned plan has."""

LATENCY_GUARD = 1e-6
"""As in the allocator: a latency this little above whole milliseconds is binary noise, not another millisecond."""


def _conditional_schema(schema: dict[str, Any]) -> None:
    """What the status decides, for readers that have only the JSON Schema."""
    types = {"resource_config": "object", "expected_latency_ms": "number", "start_ms": "integer", "source": "string"}
    placed = {"required": list(types), "properties": {name: {"type": kind} for name, kind in types.items()}}
    text = {"required": ["reason"], "properties": {"reason": {"type": "string", "minLength": 1}}}
    then: dict[Status, dict[str, Any]] = {
        "planned": {"required": ["steps"], "properties": {"steps": {"minItems": 1, "items": placed}}},
        "no_tool": {
            "required": ["reason"],
            "properties": {"steps": {"maxItems": 0}, "reason": {"enum": list(NO_TOOL_REASONS)}},
        },
        "infeasible": {
            "required": ["steps", *text["required"]],
            "properties": {"steps": {"minItems": 1}, **text["properties"]},  # type: ignore[dict-item]
        },
    }
    schema["allOf"] = [
        {"if": {"properties": {"status": {"const": status}}, "required": ["status"]}, "then": rule}
        for status, rule in then.items()
    ]


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shortfall(_Contract):
    """One thing that is missing."""

    resource: str
    at_ms: int
    needed: float
    available: float
    unit: str


class Optimality(_Contract):
    """How good the placement of a plan's steps is known to be."""

    status: Literal["optimal", "feasible"] = Field(
        description="optimal: with these tools and sizes nothing ends earlier, or as early at less cost"
    )
    bound_ms: int = Field(ge=0, description="no placement ends earlier; since submission")


class Alternative(_Contract):
    """Another tool that came close."""

    tool_name: str
    confidence: float = Field(ge=0, le=1)


class PlanStep(_Contract):
    """One call of one tool."""

    id: str = Field(pattern=r"^s[1-9][0-9]*$")
    tool_id: int = Field(ge=0, description="position in the registry")
    tool_name: str = Field(min_length=1)
    tool_version: str | None = Field(default=None, description="of the tool that was planned; None = it has none")
    tool_schema_hash: str | None = Field(
        default=None, pattern=f"^[0-9a-f]{{{HASH_CHARS}}}$", description="of the arguments' JSON Schema; None = unknown"
    )
    args: dict[str, JsonValue] | None = Field(
        default=None, description='{"$from": "s1", "path": "$.text"} refers to an earlier step'
    )
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
        return self.start_ms + max(1, math.ceil(self.expected_latency_ms - LATENCY_GUARD))

    @property
    def tool_identity(self) -> str:
        """Name, version and schema hash, as the ledger and traces show them."""
        return identity(self.tool_name, self.tool_version, self.tool_schema_hash)


class ToolPlan(_Contract):
    """A validated plan; one of an older ``schema_version`` is migrated, one of an unknown version is refused.

    Raises:
        PlanVersionError: on validation, see ``plan_versions``.
    """

    model_config = ConfigDict(json_schema_extra=_conditional_schema)

    schema_version: Literal["1.1"] = SCHEMA_VERSION
    status: Status
    reason: str | None = Field(default=None, description="why no tool, or why nothing fits")
    units: dict[str, str] = Field(default_factory=lambda: dict(UNITS))
    timeline_id: str
    created_at: str = Field(description="ISO 8601, UTC")
    expires_at: str = Field(description="ISO 8601, UTC; plan again after it")
    t_inf_ms: float = Field(ge=0, description="time reserved for the decision; no step starts earlier")
    explanation: str = ""
    gate_confidence: float = Field(ge=0, le=1)
    steps: tuple[PlanStep, ...] = ()
    missing: tuple[Shortfall, ...] = ()
    optimality: Optimality | None = Field(default=None, description="of a planned plan; None = not known")
    beyond_horizon: bool = Field(default=False, description="a step ends after the last time the curve vouches for")
    booking_id: str | None = Field(default=None, description="what the plan holds in a reservation ledger")
    model: str

    @property
    def makespan_ms(self) -> int | None:
        """When the last step is expected to be done; None unless all steps are placed."""
        ends = [step.end_ms for step in self.steps]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    # The plan in the words of a scheduler (docs/targets.md): by step id, options and what becomes of each promise.
    # Settings are those of the function of the same name in ``tomas_router.targets``.

    def to_ray(self, **settings: Any) -> dict[str, Exported]:
        """Options of Ray tasks, see ``targets.ray``."""
        from tomas_router.targets.ray import to_ray

        return to_ray(self, **settings)

    def to_kubernetes(self, **settings: Any) -> dict[str, Exported]:
        """Manifests of Jobs, with ``gpu="whole"``, ``"mig"`` or ``"hami"``, see ``targets.kubernetes``."""
        from tomas_router.targets.kubernetes import to_kubernetes

        return to_kubernetes(self, **settings)

    def to_docker(self, **settings: Any) -> dict[str, Exported]:
        """Flags of ``docker run``, see ``targets.docker``."""
        from tomas_router.targets.docker import to_docker

        return to_docker(self, **settings)

    def to_slurm(self, **settings: Any) -> dict[str, Exported]:
        """Options of ``sbatch``, see ``targets.slurm``."""
        from tomas_router.targets.slurm import to_slurm

        return to_slurm(self, **settings)

    def to_ecs(self, **settings: Any) -> dict[str, Exported]:
        """Container definitions of Amazon ECS, see ``targets.ecs``."""
        from tomas_router.targets.ecs import to_ecs

        return to_ecs(self, **settings)

    def to_local(self, **settings: Any) -> dict[str, Exported]:
        """Limits of processes of this machine, see ``targets.local``."""
        from tomas_router.targets.local import to_local

        return to_local(self, **settings)

    @field_validator("schema_version", mode="before")
    @classmethod
    def _newest(cls, found: object) -> str:
        return newest_version(found)

    @model_validator(mode="after")
    def _consistent(self) -> ToolPlan:
        problems = [*_head_problems(self), *_step_problems(self)]
        if problems:
            raise InconsistentError(problems)
        return self


def _head_problems(plan: ToolPlan) -> Iterator[str]:
    if plan.status == "no_tool" and plan.steps:
        yield "a plan with status no_tool has no steps"
    if plan.status != "no_tool" and not plan.steps:
        yield f"a plan with status {plan.status} has at least one step"
    if plan.status == "no_tool" and plan.reason not in NO_TOOL_REASONS:
        yield f"a plan with status no_tool has a reason, one of {', '.join(NO_TOOL_REASONS)}, got {plan.reason!r}"
    if plan.status == "infeasible" and not plan.reason:
        yield "a plan with status infeasible says its reason"
    if plan.status != "infeasible" and plan.missing:
        yield f"a plan with status {plan.status} misses nothing, but missing has {len(plan.missing)} entries"
    if plan.status != "planned" and plan.booking_id is not None:
        yield f"a plan with status {plan.status} holds no booking, got booking_id {plan.booking_id!r}"
    if plan.units != UNITS:
        yield f"units must be {UNITS}, got {plan.units}"
    created, expires = _moment(plan.created_at), _moment(plan.expires_at)
    for name, moment, text in (("created_at", created, plan.created_at), ("expires_at", expires, plan.expires_at)):
        if moment is None:
            yield f"{name} must be an ISO 8601 time with a time zone, got {text!r}"
    if created is not None and expires is not None and expires < created:
        yield f"expires_at must not be before created_at {plan.created_at}, got {plan.expires_at}"


def _step_problems(plan: ToolPlan) -> Iterator[str]:
    earlier: dict[str, PlanStep] = {}
    for step in plan.steps:
        if step.id in earlier:
            yield f"step ids must be unique, got {step.id} twice"
        if len(set(step.depends_on)) != len(step.depends_on):
            yield f"{step.id} repeats a dependency: {', '.join(step.depends_on)}"
        for dependency in step.depends_on:
            if dependency not in earlier:
                yield f"{step.id} depends on {dependency}, which is not an earlier step"
        if plan.status == "planned":
            yield from _placement_problems(step, [earlier[d] for d in step.depends_on if d in earlier])
        elif step.start_ms is not None or step.resource_config is not None:
            yield f"{step.id} has a start or a resource configuration, but nothing of an infeasible plan is placed"
        earlier[step.id] = step


def _placement_problems(step: PlanStep, dependencies: list[PlanStep]) -> Iterator[str]:
    for field in PLACED_FIELDS:
        if getattr(step, field) is None:
            yield f"{step.id} is planned, so {field} must be set"
    for dependency in dependencies:
        if dependency.end_ms is not None and step.start_ms is not None and step.start_ms < dependency.end_ms:
            yield f"{step.id} starts at {step.start_ms} ms, before {dependency.id} ends at {dependency.end_ms} ms"


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
