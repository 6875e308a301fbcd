"""The questions that a calibration is fitted on: validation rows over their registry and over lists of candidates.

Each is asked once and kept as a trace. What a calibration is worth is the mean over measures of the mean over sources:
the list without the right tool counts as much as any other, though few sources have one, and small sources as much as
large ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from tomas_router.datasets.rows import Row
from tomas_router.errors import MissingExtraError
from tomas_router.evaluation import metrics
from tomas_router.evaluation.candidate_lists import (
    ABSENT_10,
    OF,
    PRESENT_10,
    SIMILAR,
    Likeness,
    candidate_lists,
    likeness,
)
from tomas_router.evaluation.curves import curve_of
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.scores import up_to_twins
from tomas_router.evaluation.sources import EvalSource, is_gate_only
from tomas_router.evaluation.text_vectors import TextVectors, cosine
from tomas_router.evaluation.traces import Trace, TraceRecorder
from tomas_router.planner.decoding import RawPlan, first_choice
from tomas_router.planner.engine import Calibration
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.request import PlanRequest

WHOLE, OF_20, EXACT, LINKS, GATE = "whole", f"{OF}20", "exact", "links", "gate"
LISTS = (OF_20, SIMILAR, PRESENT_10, ABSENT_10)
LEAST_ROWS = 40
"""Rows that a source must have for a measure to count."""
Means = dict[str, dict[str, float]]
"""By source, then by measure; shares from 0 to 1."""


@dataclass(frozen=True)
class Question:
    """One row over its registry (``whole``) or over a list, and what the network said."""

    source: EvalSource
    row: Row
    name: str
    request: PlanRequest
    timeline: SystemTimeline
    trace: Trace


@dataclass(frozen=True)
class Scored:
    """One measure of one question, as it is if the plan begins and if the request is refused for want of a tool."""

    source: str
    measure: str
    begun: float
    refused: float
    lead: float  # logits; infinite where nothing can be refused
    confidence: float


def ask_questions(
    source: EvalSource, recorder: TraceRecorder, encoders: Sequence[TextVectors] = (), seed: int = 0
) -> Iterator[Question]:
    """Every question about the rows of a source, a row's side by side.

    Likeness of tools is that of the first encoder, else TF-IDF's, as in ``tomas eval``. Where neither is installed it
    is the model's own, which makes lists without the right tool easier: what it finds alike is not in them.
    """
    try:
        alike = likeness(source.registry, encoders)
    except MissingExtraError:
        alike = _own_likeness(source, recorder)
    for row in source.rows:
        timeline = SystemTimeline.default() if source.profiling is None else curve_of(row, seed).timeline
        for name, request in _requests(source, row, alike, seed):
            trace = recorder.record(request, source.registry, source.profiling, timeline)
            yield Question(source, row, name, request, timeline, trace)


def _own_likeness(source: EvalSource, recorder: TraceRecorder) -> Likeness:
    keys_ND = recorder.planner.encode(source.registry, source.profiling).key_ND.astype(np.float64)
    keys_ND /= np.maximum(np.linalg.norm(keys_ND, axis=1, keepdims=True), 1e-12)
    return Likeness("classifier keys", cosine(keys_ND, keys_ND))


def _requests(source: EvalSource, row: Row, alike: Likeness, seed: int) -> Iterator[tuple[str, PlanRequest]]:
    whole = source.request(row)
    yield WHOLE, whole
    if row.steps and not row.unordered:  # who states a number of tools can neither be refused nor end early
        found = candidate_lists(source, row, alike, seed)
        yield from ((name, whole.model_copy(update={"candidates": found[name]})) for name in LISTS if name in found)


def score_questions(questions: Sequence[Question], calibration: Calibration) -> list[Scored]:
    """All measures; ``match_margin`` and ``min_confidence`` are left open, see ``means``."""
    begins = replace(calibration, match_margin=-inf, min_confidence=0.0)
    return [scored for question in questions for scored in _score(question, begins)]


def means(scored: Sequence[Scored], match_margin: float, min_confidence: float) -> Means:
    """Measures with ``LEAST_ROWS`` rows or more; sources without any are left out."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in scored:
        begins = one.lead >= match_margin and one.confidence >= min_confidence
        values[one.source][one.measure].append(one.begun if begins else one.refused)
    found = {
        source: {name: float(np.mean(v)) for name, v in measures.items() if len(v) >= LEAST_ROWS}
        for source, measures in values.items()
    }
    return {source: measures for source, measures in found.items() if measures}


def worth(found: Means, measures: Sequence[str] | None = None) -> float:
    """Mean over measures of the mean over the sources that have them; only the measures named, where some are."""
    by_measure: dict[str, list[float]] = defaultdict(list)
    for own in found.values():
        for name, value in own.items():
            if measures is None or name in measures:
                by_measure[name].append(value)
    return float(np.mean([np.mean(values) for values in by_measure.values()])) if by_measure else 0.0


def shape_of(source: EvalSource, raw: RawPlan) -> PlanShape:
    """Tools by name, and links."""
    names = source.registry.names
    return PlanShape(tuple(names[s.tool] for s in raw.steps), tuple(s.depends_on for s in raw.steps))


def _score(question: Question, begins: Calibration) -> Iterator[Scored]:
    source, row, trace = question.source, question.row, question.trace
    raw = trace.plan(begins)
    lead, confidence = inf, inf
    if raw.no_tool is None and trace.options.num_steps is None:
        lead, confidence = first_choice(trace.opening, begins, trace.options.candidates_N)

    def scored(measure: str, begun: float, refused: float) -> Scored:
        return Scored(source.name, measure, begun, refused, lead, confidence)

    if question.name == ABSENT_10:
        yield scored(ABSENT_10, float(raw.no_tool is not None), 1.0)
        return
    if question.name == WHOLE and len({r.needs_tool for r in source.rows}) == 2:
        right = float((raw.no_tool is None) == row.needs_tool)
        yield scored(GATE, right, right if is_gate_only(source.rows) else float(not row.needs_tool))
    if not row.steps:
        return
    gold, said = up_to_twins(source, row, shape_of(source, raw))
    node_f1 = metrics.set_f1(said.tools, gold.tools)
    yield scored(question.name, node_f1, 0.0)
    if question.name == WHOLE:
        yield scored(EXACT, metrics.is_exact(node_f1), 0.0)
    if question.name == WHOLE and source.edges_known and question.request.links == "dataflow" and len(gold.tools) > 1:
        yield scored(LINKS, metrics.edge_f1(said, gold), 0.0)
