"""Scores answers against rows: which measure applies to which row, and what it is called.

Every measure is a ``Tally``; one that no row of a source bears on stays empty and is left out of the report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tomas_router.datasets.rows import Row
from tomas_router.evaluation import metrics
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.sources import EvalSource, gold_shape
from tomas_router.schema.registry import GROUP_TAG

Tallies = dict[str, Tally]

TITLES = {
    "top1": "top-1 tool",
    "set_accuracy": "all tools right, any order",
    "node_f1": "node F1",
    "link_f1": "link F1",
    "exact": "exact tools",
    "node_f1_published": "node F1, repeats counted as in the published code",
    "link_f1_published": "link F1, repeats counted as in the published code",
    "node_f1_micro": "node F1 as in TaskBench",
    "edge_f1_micro": "edge F1 as in TaskBench",
    "exact_published": "exact tools, as in the published code",
    "edge_f1": "dependency edge F1",
    "seen_steps": "steps found, tool met in training",
    "unseen_steps": "steps found, tool never met",
    "length": "number of steps right",
    "gate": "tool needed?",
    "size": "size bucket",
    "tool": "tools, up to twins",
    "tool_strict": "tools, the very twin",
    "plan_strict": "whole plan, the very twins",
    "twin_choice": "twin right, where the curve decides",
    "raw_tool": "raw heads: tools, up to twins",
    "raw_tool_strict": "raw heads: tools, the very twin",
    "raw_plan_strict": "raw heads: whole plan, the very twins",
    "raw_twin_choice": "raw heads: twin right, where the curve decides",
    "raw_feasible": "raw heads: config fits the curve",
    "final_feasible": "final plan fits the curve",
    "parse": "plan valid against the schema",
}
"""Measures that are shares, in the order of the report."""


@dataclass(frozen=True)
class Answer:
    """What a planner or a baseline said to one row."""

    shape: PlanShape
    needs_tool: bool | None  # None = said nothing usable, which is wrong either way
    sizes: tuple[str, ...] = ()  # one a step; empty for who does not say


def baseline_answer(shape: PlanShape) -> Answer:
    """A baseline says no tool by an empty plan."""
    return Answer(shape, bool(shape.tools))


FAILED = Answer(NO_PLAN, needs_tool=None)
"""Stands for a row without any usable answer; it scores 0 everywhere."""


def score(source: EvalSource, rows: Sequence[Row], answers: Sequence[Answer]) -> Tallies:
    """All measures that the rows bear on."""
    found: Tallies = defaultdict(Tally.empty)
    both_kinds = len({row.needs_tool for row in rows}) == 2
    for row, answer in zip(rows, answers, strict=True):
        if both_kinds:
            found["gate"].add(row.id, answer.needs_tool == row.needs_tool)
        if row.steps:
            _score_plan(source, row, answer, found)
    return dict(found)


def _score_plan(source: EvalSource, row: Row, answer: Answer, found: Tallies) -> None:
    gold, said = up_to_twins(source, row, answer.shape)
    if len(gold.tools) == 1:
        found["top1"].add(row.id, metrics.first_tool(said.tools, gold.tools))
    if row.unordered:
        found["set_accuracy"].add(row.id, metrics.same_tools(said.tools, gold.tools))
    node_f1 = metrics.set_f1(said.tools, gold.tools)
    found["node_f1"].add(row.id, node_f1)
    found["exact"].add(row.id, metrics.is_exact(node_f1))
    published = metrics.published_f1(said.tools, gold.tools)
    found["node_f1_published"].add(row.id, published)
    found["exact_published"].add(row.id, metrics.is_exact(published))
    found["node_f1_micro"].add(row.id, *metrics.micro_f1(said.tools, gold.tools))
    found["length"].add(row.id, len(said.tools) == len(gold.tools))
    if source.edges_known and gold.links():
        found["link_f1"].add(row.id, metrics.set_f1(said.links(), gold.links()))
        found["link_f1_published"].add(row.id, metrics.published_f1(said.links(), gold.links()))
    if source.edges_known:
        found["edge_f1_micro"].add(row.id, *metrics.micro_f1(said.links(), gold.links()))
    if source.edges_known and len(gold.tools) > 1:
        found["edge_f1"].add(row.id, metrics.edge_f1(said, gold))
    aligned = metrics.aligned_steps(said.tools, gold.tools)
    _score_by_acquaintance(source, row, {g for _, g in aligned}, found)
    if answer.sizes:
        sized = [(p, g) for p, g in aligned if row.steps[g].input_size]
        found["size"].add(row.id, sum(answer.sizes[p] == row.steps[g].input_size for p, g in sized), len(sized))


def _score_by_acquaintance(source: EvalSource, row: Row, right: Collection[int], found: Tallies) -> None:
    """How many steps were found, apart for tools that training met and for those that it never met."""
    for name, met in (("seen_steps", True), ("unseen_steps", False)):
        steps = [k for k, step in enumerate(row.steps) if (step.tool not in source.unseen) is met]
        found[name].add(row.id, sum(k in right for k in steps), len(steps))


def up_to_twins(source: EvalSource, row: Row, said: PlanShape) -> tuple[PlanShape, PlanShape]:
    """Gold and answer with one name for all tools of a twin group, where the row leaves the twin to the curve.

    Which twin is right depends on the curve and is scored apart (``resource_scores``); rows of public sets have no
    twins and stay as they are.
    """
    gold = gold_shape(row)
    groups = {step.group for step in row.steps if step.group is not None}
    if not groups:
        return gold, said
    named = {step.tool for step in row.steps if step.group is None}

    def job(tool: str) -> str:
        group = source.registry[tool].group if tool in source.registry and tool not in named else None
        return f"{GROUP_TAG}{group}" if group in groups else tool

    return replace(gold, tools=tuple(map(job, gold.tools))), replace(said, tools=tuple(map(job, said.tools)))
