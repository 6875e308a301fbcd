"""What every executor shares: the protocol, the report, and when a plan may be run at all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tomas_router.errors import TomasRouterError

if TYPE_CHECKING:  # a step's process starts without the schema
    from tomas_router.schema.plan import PlanStep, ToolPlan

StepStatus = Literal["simulated", "done", "failed", "not_run"]


class NotExecutableError(TomasRouterError):
    """The plan cannot be run: nothing is planned, it has expired, or its steps are out of order."""


class StepFailedError(TomasRouterError):
    """A step's tool raised, crashed, hung, or took more than it was given."""

    def __init__(self, message: str, begun_s: float | None = None, *, out_of_memory: bool = False) -> None:
        """What went wrong.

        Args:
            message: for people.
            begun_s: Unix time at which the tool was called; None where it was not.
            out_of_memory: it took, or asked for, more memory than it was given.
        """
        super().__init__(message)
        self.begun_s, self.out_of_memory = begun_s, out_of_memory


@dataclass(frozen=True)
class Outcome:
    """What a tool returned that ran elsewhere, with the times that were seen there (Unix, seconds)."""

    output: Any
    begun_s: float
    ended_s: float
    note: str | None = None
    peak_bytes: int | None = None
    """Of host memory; None where nobody looked."""


@dataclass(frozen=True)
class StepReport:
    """What became of one step; times are on the plan's clock, ms since submission."""

    id: str
    tool_name: str
    status: StepStatus
    start_ms: int
    end_ms: int
    note: str | None = None
    output: Any = None
    """What the tool returned, as plain JSON."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class ExecutionReport:
    """What became of a plan, in order of start."""

    steps: tuple[StepReport, ...]

    @property
    def makespan_ms(self) -> int:
        """When the last step ended."""
        return max(step.end_ms for step in self.steps)

    def results(self) -> dict[str, dict[str, Any]]:
        """Plain JSON by step id, for states that are checkpointed."""
        return {step.id: step.as_json() for step in self.steps}


class Executor(Protocol):
    """Runs a plan."""

    def execute(self, plan: ToolPlan) -> ExecutionReport:
        """Runs every step in its place.

        Raises:
            NotExecutableError: see there.
        """
        ...


def require_executable(plan: ToolPlan, now: datetime | None) -> None:
    """Raises unless the plan may be run.

    Args:
        plan: a validated plan.
        now: the time of day with its zone; None does not look at the plan's expiry.

    Raises:
        NotExecutableError: names what forbids it.
    """
    if plan.status != "planned":
        raise NotExecutableError(f"nothing to run: the plan's status is {plan.status} ({plan.reason})")
    if now is not None and now > datetime.fromisoformat(plan.expires_at):
        raise NotExecutableError(
            f"the plan expired at {plan.expires_at}: the curve it was made for has ended; plan again"
        )
    ends: dict[str, int] = {}
    for step in plan.steps:
        start, end = placed(step)
        for dependency in step.depends_on:
            if start < ends[dependency]:
                raise NotExecutableError(
                    f"{step.id} starts at {start} ms, before {dependency} ends at {ends[dependency]} ms"
                )
        ends[step.id] = end


def placed(step: PlanStep) -> tuple[int, int]:
    """Start and end of a planned step."""
    start, end = step.start_ms, step.end_ms
    assert start is not None, "a planned step has a start"
    assert end is not None, "a planned step has an end"
    return start, end
