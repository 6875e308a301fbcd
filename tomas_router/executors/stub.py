"""The default executor: prints every step's resource configuration and simulates its time. No tool is run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tomas_router.errors import TomasRouterError
from tomas_router.schema.plan import PlanStep, ToolPlan

Write = Callable[[str], object]


class PlanExpiredError(TomasRouterError):
    """The plan's curve is out of date; plan again."""


@dataclass(frozen=True)
class StepRecord:
    """What became of a step, on the simulation's clock (milliseconds since submission)."""

    id: str
    tool_name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class ExecutionReport:
    """Steps in the order they started; ``makespan_ms`` is the end of the last."""

    records: tuple[StepRecord, ...]
    makespan_ms: int
    simulated: bool = True


class StubExecutor:
    """Walks a plan in time order and says what a real executor would reserve and run."""

    def __init__(self, write: Write = sys.stdout.write, check_expiry: bool = False) -> None:
        """Args: write: receives text; check_expiry: refuse plans past ``expires_at``."""
        self._write, self._check_expiry = write, check_expiry

    def run(self, plan: ToolPlan) -> ExecutionReport:
        """Simulates a plan.

        Raises:
            ValueError: The plan is not placed (status other than ``planned``).
            PlanExpiredError: ``check_expiry`` is set and the plan is too old.
        """
        if plan.status != "planned":
            raise ValueError(f"only a plan with status planned can run, got {plan.status}: {plan.reason}")
        if self._check_expiry and datetime.now(UTC) > datetime.fromisoformat(plan.expires_at):
            raise PlanExpiredError(f"the plan expired at {plan.expires_at}; plan again on the present curve")
        ordered = sorted(plan.steps, key=lambda step: (step.start_ms or 0, step.id))
        records = tuple(self._simulate(step) for step in ordered)
        makespan = max(record.end_ms for record in records)
        self._write(f"simulated {len(records)} steps in {makespan} ms; no tool was run\n")
        return ExecutionReport(records, makespan)

    def _simulate(self, step: PlanStep) -> StepRecord:
        config, start, end = step.resource_config, step.start_ms, step.end_ms
        assert config is not None and start is not None and end is not None  # a planned step is placed
        waits = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
        self._write(
            f"[{start:>8} ms] {step.id} {step.tool_name}{waits}: {config.cpu_core:g} vCPU, {config.cpu_mem_gb:g} GiB, "
            f"{config.gpu_sm:g} % SM, {config.gpu_mem_gb:g} GiB GPU, until {end} ms\n"
        )
        return StepRecord(step.id, step.tool_name, start, end)
