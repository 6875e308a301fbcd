"""What became of a plan, for people: every step with what was planned beside what was seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from tomas_router.cli.plan_view import duration

if TYPE_CHECKING:
    from tomas_router.executors.execution import ExecutionReport, StepReport
    from tomas_router.schema.plan import ToolPlan

STYLE = {"done": "green", "failed": "bold red", "not_run": "yellow"}
MAX_NOTE_CHARS, MAX_OUTPUT_CHARS = 300, 80


def execution_view(plan: ToolPlan, report: ExecutionReport) -> Table:
    """One row a step, in order of start."""
    planned = {step.id: step.expected_latency_ms or 0.0 for step in plan.steps}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("step", no_wrap=True)
    table.add_column("tool", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("began", justify="right", no_wrap=True)
    table.add_column("took (planned)", justify="right", no_wrap=True)
    table.add_column("returned", overflow="fold")
    for step in report.steps:
        took = f"{duration(step.end_ms - step.start_ms)} ({duration(planned[step.id])})"
        status = Text(step.status.replace("_", " "), style=STYLE.get(step.status, ""))
        row = [status, Text(duration(step.start_ms)), Text(took if step.status != "not_run" else "-"), _said(step)]
        table.add_row(Text(step.id), Text(step.tool_name), *row)
    return table


def _said(step: StepReport) -> Text:
    """The note of a step that went wrong, else its output, shortened."""
    if step.status != "done" and step.note:
        return Text(_short(step.note, MAX_NOTE_CHARS))
    return Text(_short(json.dumps(step.output, ensure_ascii=False), MAX_OUTPUT_CHARS))


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
