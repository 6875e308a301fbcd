"""The same answers seen from other sides: by number of steps, step by step with confidence, at the gate."""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.datasets.rows import Row
from tomas_router.evaluation.asking import Asked
from tomas_router.evaluation.calibration import Sure
from tomas_router.evaluation.confusions import Pair, step_pairs
from tomas_router.evaluation.gate_curve import GateCase
from tomas_router.evaluation.metrics import aligned_steps
from tomas_router.evaluation.scores import Answer, Tallies, score, up_to_twins
from tomas_router.evaluation.sources import EvalSource, is_gate_only

MANY_STEPS = 6
BY_STEPS = ("node_f1", "exact", "edge_f1", "length")


def steps_label(count: int) -> str:
    """``1`` to ``5``, then ``6+``."""
    return str(count) if count < MANY_STEPS else f"{MANY_STEPS}+"


def by_steps(source: EvalSource, answers: Sequence[Answer]) -> dict[str, Tallies]:
    """Measures of the rows that want so many steps."""
    groups: dict[str, list[tuple[Row, Answer]]] = {}
    for row, answer in zip(source.rows, answers, strict=True):
        if row.steps:
            groups.setdefault(steps_label(len(row.steps)), []).append((row, answer))
    found: dict[str, Tallies] = {}
    for label, members in sorted(groups.items()):
        scored = score(source, [row for row, _ in members], [answer for _, answer in members])
        found[label] = {name: scored[name] for name in BY_STEPS if name in scored}
    return found


def sure_steps(source: EvalSource, asked: Sequence[Asked], answers: Sequence[Answer]) -> list[Sure]:
    """Every planned step with its confidence; nothing for rows that do not say which tools are right."""
    if is_gate_only(source.rows):
        return []
    found: list[Sure] = []
    for row, one, answer in zip(source.rows, asked, answers, strict=True):
        gold, said = up_to_twins(source, row, answer.shape)
        right = {p for p, _ in aligned_steps(said.tools, gold.tools)}
        steps = () if one.plan is None else one.plan.steps
        found += [Sure(row.id, step.confidence, p in right) for p, step in enumerate(steps)]
    return found


def confused_pairs(source: EvalSource, answers: Sequence[Answer]) -> list[Pair]:
    """Wanted and named tools of all rows with steps, up to twins."""
    found: list[Pair] = []
    for row, answer in zip(source.rows, answers, strict=True):
        if row.steps:
            gold, said = up_to_twins(source, row, answer.shape)
            found += step_pairs(said.tools, gold.tools)
    return found


def gate_cases(source: EvalSource, asked: Sequence[Asked], answers: Sequence[Answer]) -> list[GateCase]:
    """Every row at the gate; one without an answer counts as least confident."""
    return [
        GateCase(0.0 if one.plan is None else one.plan.gate_confidence, answer.needs_tool, row.needs_tool)
        for row, one, answer in zip(source.rows, asked, answers, strict=True)
    ]
