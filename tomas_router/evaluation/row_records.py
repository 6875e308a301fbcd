"""One line of the report a row: what was asked, wanted and planned, and every score; what comparisons rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tomas_router.datasets.rows import Row
from tomas_router.evaluation.asking import Asked
from tomas_router.evaluation.metrics import EXACT_F1
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.scores import Tallies
from tomas_router.schema.plan import ToolPlan

NO_TOOL, SOME_TOOL, NO_ANSWER = "no tool", "some tool", "no answer"


@dataclass
class RowRecord:
    """How one row went."""

    id: str
    instruction: str
    wanted: str
    planned: str
    confidence: float | None
    """Of the least certain step; of the gate where it saw no need; None where nothing matched or nothing was said."""
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)  # total and weight, by measure

    @property
    def right_share(self) -> float:
        """Node F1, else whether the gate was right; 1 where nothing was scored."""
        for measure in ("node_f1", "gate"):
            if measure in self.scores:
                total, weight = self.scores[measure]
                return total / weight
        return 1.0


def row_record(row: Row, wanted: PlanShape, said: PlanShape, asked: Asked) -> RowRecord:
    """The record of a row, before its scores are known."""
    plan = asked.plan
    planned = NO_ANSWER if plan is None else plan_text(said) or f"{NO_TOOL} ({plan.reason})"
    if plan is not None and plan.status == "infeasible":
        planned += " (does not fit the curve)"
    expected = plan_text(wanted) or (SOME_TOOL if row.needs_tool else NO_TOOL)
    return RowRecord(row.id, row.instruction, expected, planned, None if plan is None else _confidence(plan))


def _confidence(plan: ToolPlan) -> float | None:
    if plan.steps:
        return min(step.confidence for step in plan.steps)
    return 1 - plan.gate_confidence if plan.reason == "not_needed" else None


def plan_text(shape: PlanShape) -> str:
    """``ocr; translate (after 1)``: tools in call order and the steps they wait for, counted from 1."""
    parts = []
    for tool, needs in zip(shape.tools, shape.depends_on, strict=True):
        after = ", ".join(str(d + 1) for d in needs)
        parts.append(f"{tool} (after {after})" if after else tool)
    return "; ".join(parts)


def add_scores(records: Mapping[str, RowRecord], tallies: Tallies) -> None:
    """Writes every row's part of every measure into its record."""
    for measure, tally in tallies.items():
        for row, total, weight in zip(tally.rows, tally.totals, tally.weights, strict=True):
            if row in records:
                records[row].scores[measure] = (total, weight)


def worst(records: list[RowRecord], count: int) -> list[RowRecord]:
    """The rows that went wrong, worst first: least right, and among equals the surest."""
    wrong = [record for record in records if record.right_share < EXACT_F1]
    return sorted(wrong, key=lambda record: (record.right_share, -(record.confidence or 0.0), record.id))[:count]
