"""Asks rows again over their candidate lists and scores what comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tomas_router.datasets.rows import Row
from tomas_router.evaluation import metrics
from tomas_router.evaluation.asking import Settings, ask_shape
from tomas_router.evaluation.baselines import Baseline
from tomas_router.evaluation.candidate_lists import (
    ABSENT_10,
    ABSENT_ALL,
    OF,
    PRESENT_10,
    SIMILAR,
    UNSEEN,
    candidate_lists,
    likeness,
)
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.scores import Answer, Tallies, up_to_twins
from tomas_router.evaluation.sources import EvalSource
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.request import PlanRequest

PRESENT_ALL, UNSEEN_ALL = "present_all", "unseen_all"

LIST_TITLES = {
    SIMILAR: "ten similar tools: the right one named",
    ABSENT_10: "right tool absent, ten unlike tools: refused",
    PRESENT_10: "right tool among nine unlike ones: refused (less is better)",
    ABSENT_ALL: "right tool and its twins taken out: refused",
    PRESENT_ALL: "the same rows with the right tool in: refused (less is better)",
    UNSEEN_ALL: "tools never met, among all: node F1",
    UNSEEN: "tools never met, among themselves: node F1",
}
"""Measures over candidate lists, in the order of the report."""


@dataclass(frozen=True)
class Listed:
    """One row with one list."""

    name: str
    row: Row
    request: PlanRequest


@dataclass(frozen=True)
class ListScores:
    """By method."""

    lists: dict[str, Tallies]
    by_candidates: dict[str, dict[str, Tallies]]  # method, number of candidates, measures
    likeness: str


def listed_requests(source: EvalSource, rows: Sequence[Row], settings: Settings) -> tuple[list[Listed], str]:
    """Every list of every row, a row's lists side by side, and which likeness the lists of similar tools rest on."""
    alike = likeness(source.registry, settings.encoders)
    found: list[Listed] = []
    for row in rows:
        for name, candidates in candidate_lists(source, row, alike, settings.seed).items():
            changed = {"candidates": candidates} | ({"num_steps": None} if name in (ABSENT_10, ABSENT_ALL) else {})
            found.append(Listed(name, row, source.request(row).model_copy(update=changed)))
    return found, alike.label


def score_lists(
    source: EvalSource,
    router: Router,
    answers: Sequence[Answer],
    given: Sequence[SystemTimeline],
    baselines: Mapping[str, tuple[Baseline, Sequence[PlanShape]]],
    ours: str,
    settings: Settings,
) -> ListScores:
    """Every measure over candidate lists.

    Args:
        source: The rows.
        router: Asked once for every list.
        answers: What it said to every row over the whole registry.
        given: The curve of every row.
        baselines: By name: who to ask for every list, and what it said to every row over the whole registry.
        ours: What the planner is called.
        settings: Seed, encoders and progress.
    """
    rows = [row for row in source.rows if row.steps]
    listed, label = listed_requests(source, rows, settings)
    curve_of = {id(row): curve for row, curve in zip(source.rows, given, strict=True)}
    bar = settings.bar(listed, f"{source.name}, candidate lists")
    said: dict[str, Sequence[PlanShape | None]] = {
        ours: [ask_shape(source, router, one.row, one.request, curve_of[id(one.row)]) for one in bar]
    }
    whole: dict[str, Sequence[PlanShape | None]] = {
        ours: [answer.shape if answer.needs_tool is not None else None for answer in answers]
    }
    for name, (baseline, plans) in baselines.items():
        said[name] = baseline.predict([one.request for one in listed]) if listed else []
        whole[name] = plans
    lists = {name: _score(source, listed, shapes) for name, shapes in said.items()}
    by_candidates = {name: _by_candidates(source, listed, shapes) for name, shapes in said.items()}
    for name, shapes in whole.items():
        _score_whole(source, shapes, {one.name: one for one in listed}, lists[name], by_candidates[name])
    return ListScores(lists, by_candidates, label)


def _score(source: EvalSource, listed: Sequence[Listed], shapes: Sequence[PlanShape | None]) -> Tallies:
    found: Tallies = defaultdict(Tally.empty)
    for one, shape in zip(listed, shapes, strict=True):
        if one.name in (ABSENT_10, ABSENT_ALL, PRESENT_10):
            found[one.name].add(one.row.id, _refused(shape))
        elif one.name == SIMILAR:
            found[SIMILAR].add(one.row.id, _first_tool(source, one.row, shape))
        elif one.name == UNSEEN:
            found[UNSEEN].add(one.row.id, _node_f1(source, one.row, shape))
    return dict(found)


def _by_candidates(
    source: EvalSource, listed: Sequence[Listed], shapes: Sequence[PlanShape | None]
) -> dict[str, Tallies]:
    found: dict[str, Tallies] = {}
    for one, shape in zip(listed, shapes, strict=True):
        if one.name.startswith(OF):
            _add_node_f1(source, one.row, shape, one.name.removeprefix(OF), found)
    return found


def _score_whole(
    source: EvalSource,
    shapes: Sequence[PlanShape | None],
    names: Mapping[str, object],
    lists: Tallies,
    by_candidates: dict[str, Tallies],
) -> None:
    """Adds what the answers over the whole registry say about the same rows."""
    for row, shape in zip(source.rows, shapes, strict=True):
        if not row.steps:
            continue
        _add_node_f1(source, row, shape, str(len(row.candidates or source.registry)), by_candidates)
        if ABSENT_ALL in names and not row.unordered:  # a stated number of tools forbids to refuse
            lists.setdefault(PRESENT_ALL, Tally.empty()).add(row.id, _refused(shape))
        if UNSEEN in names and all(step.tool in source.unseen for step in row.steps):
            lists.setdefault(UNSEEN_ALL, Tally.empty()).add(row.id, _node_f1(source, row, shape))


def _add_node_f1(source: EvalSource, row: Row, shape: PlanShape | None, group: str, found: dict[str, Tallies]) -> None:
    tallies = found.setdefault(group, {})
    tallies.setdefault("node_f1", Tally.empty()).add(row.id, _node_f1(source, row, shape))


def _refused(shape: PlanShape | None) -> bool:
    """An error is no refusal."""
    return shape is not None and not shape.tools


def _node_f1(source: EvalSource, row: Row, shape: PlanShape | None) -> float:
    if shape is None:
        return 0.0
    gold, said = up_to_twins(source, row, shape)
    return metrics.set_f1(said.tools, gold.tools)


def _first_tool(source: EvalSource, row: Row, shape: PlanShape | None) -> float:
    if shape is None:
        return 0.0
    gold, said = up_to_twins(source, row, shape)
    return metrics.first_tool(said.tools, gold.tools)
