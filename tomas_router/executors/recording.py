"""An executed plan as a record to learn from: ``tomas train --my-tools tools.json --from-runs runs.jsonl``."""

from __future__ import annotations

from pathlib import Path

from tomas_router.executors.execution import ExecutionReport
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.recorded_run import RecordedRun, RunStep


def recorded_run(instruction: str, plan: ToolPlan, report: ExecutionReport | None = None) -> RecordedRun:
    """What was asked, planned and run.

    Args:
        instruction: The request's text.
        plan: Its plan.
        report: How it went; without one, and for simulated steps, nothing counts as measured. A step that was not run
            counts as failed, so such a plan teaches nothing until somebody corrects it.
    """
    place = {step.id: position for position, step in enumerate(plan.steps)}
    told = {} if report is None else {step.id: step for step in report.steps}
    steps = []
    for step in plan.steps:
        found = told.get(step.id)
        failed = found is not None and found.status in ("failed", "not_run")
        took = found.end_ms - found.start_ms if found is not None and found.status == "done" else 0
        steps.append(
            RunStep(
                tool=step.tool_name,
                depends_on=tuple(place[name] for name in step.depends_on),
                input_size=step.input_size,
                resource_config=step.resource_config,
                status="failed" if failed else "done",
                latency_ms=float(took) if took > 0 and step.resource_config is not None else None,
            )
        )
    return RecordedRun(instruction=instruction, steps=tuple(steps))


def append_run(path: str | Path, run: RecordedRun) -> None:
    """Adds one line to a file of recorded runs."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(run.model_dump_json(exclude_none=True, exclude_defaults=True) + "\n")
