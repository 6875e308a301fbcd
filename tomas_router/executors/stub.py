"""Prints what would run, and lets time pass on paper only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tomas_router.executors.execution import ExecutionReport, StepReport, placed, require_executable
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ResourceConfig
from tomas_router.schema.registry import ToolRegistry

Write = Callable[[str], object]


def write_line(line: str) -> None:
    """To standard output."""
    sys.stdout.write(line + "\n")


class StubExecutor:
    """Simulates a plan on a virtual clock: no tool is called and no time passes."""

    def __init__(
        self,
        write: Write = write_line,
        registry: ToolRegistry | None = None,
        now: Callable[[], datetime] | None = None,
        *,
        check_expiry: bool = True,
    ) -> None:
        """Settings of the simulation.

        Args:
            write: takes one line at a time.
            registry: when given, steps whose required arguments are not bound are pointed out.
            now: the time of day with its zone, for tests.
            check_expiry: refuse plans whose curve has ended.
        """
        self._write = write
        self._registry = registry
        self._now = now or (lambda: datetime.now(UTC))
        self._check_expiry = check_expiry

    def execute(self, plan: ToolPlan) -> ExecutionReport:
        """Goes through starts and ends in order of time, printing each.

        Raises:
            NotExecutableError: the plan is not planned, has expired, or a step starts before one it waits for ends.
        """
        require_executable(plan, self._now() if self._check_expiry else None)
        self._write(f"simulating {len(plan.steps)} step(s); no tool is called and no time passes")
        reports = {step.id: self._report(step) for step in plan.steps}
        for at_ms, is_start, step in _events(plan):
            line = self._started(step) if is_start else f"{step.id} {step.tool_name} done"
            self._write(f"{at_ms:>10} ms  {line}")
            note = reports[step.id].note
            if is_start and note:
                self._write(f"{'':>10}     note: {note}")
        report = ExecutionReport(tuple(sorted(reports.values(), key=lambda r: (r.start_ms, r.end_ms))))
        self._write(f"{report.makespan_ms:>10} ms  plan done (simulated)")
        return report

    def run(self, plan: ToolPlan) -> dict[str, dict[str, Any]]:
        """``execute``, as plain JSON by step id."""
        return self.execute(plan).results()

    def _report(self, step: PlanStep) -> StepReport:
        start, end = placed(step)
        unbound = unbound_arguments(step, self._registry)
        note = None
        if unbound:
            note = f"arguments not bound: {', '.join(unbound)}; simulated, a real executor would not run this step"
        return StepReport(step.id, step.tool_name, "simulated", start, end, note)

    @staticmethod
    def _started(step: PlanStep) -> str:
        after = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
        assert step.resource_config is not None, "a planned step has a configuration"
        return (
            f"{step.id} {step.tool_name} starts{after}: {config_line(step.resource_config)} "
            f"({step.source}), {step.input_size} input, time limit {step.timeout_ms} ms"
        )


def unbound_arguments(step: PlanStep, registry: ToolRegistry | None) -> tuple[str, ...]:
    """Arguments that the tool's schema requires and the step does not bind; none when the schema is unknown."""
    if registry is None or step.tool_name not in registry:
        return ()
    required = (registry[step.tool_name].parameters or {}).get("required")
    names = required if isinstance(required, list) else []
    return tuple(name for name in names if isinstance(name, str) and name not in (step.args or {}))


def config_line(config: ResourceConfig) -> str:
    """``cpu 4 vCPU, 8 GiB; gpu 50 %, 6 GiB``."""
    cpu = f"cpu {config.cpu_core:g} vCPU, {config.cpu_mem_gb:g} GiB"
    if not config.gpu_sm and not config.gpu_mem_gb:
        return f"{cpu}; no gpu"
    return f"{cpu}; gpu {config.gpu_sm:g} %, {config.gpu_mem_gb:g} GiB"


def _events(plan: ToolPlan) -> list[tuple[int, bool, PlanStep]]:
    """(time, whether it is a start, step) by time; at the same time ends come before starts."""
    events = []
    for step in plan.steps:
        start, end = placed(step)
        events += [(start, True, step), (end, False, step)]
    return sorted(events, key=lambda event: (event[0], event[1]))
