"""Fits every number of a ``Calibration`` on validation questions.

One after the other, each by what it decides:

* ``gate_threshold`` by balanced accuracy, sources alike, and paying for its distance from 0;
* ``end_margin`` by node F1, which forgives a step too many, and exact plans, which do not;
* ``depends_threshold`` by the F1 of links;
* ``temperature`` by the likelihood of the right tool at every slot that was reached rightly;
* ``match_margin``, then ``min_confidence``, by all measures together, that of the right tool absent among them;
* ``twin_margin`` by how often the allocated plan has the very tool that the curve asks for, over all steps and over
  those that have twins.

Numbers that rows can hardly tell apart are treated so: of all values whose worth is nearly the best, the middle one, or
for those two that refuse the one that refuses least.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tomas_router.datasets.oracle import label, twins
from tomas_router.evaluation.calibration_questions import (
    EXACT,
    GATE,
    LEAST_ROWS,
    LINKS,
    OF_20,
    WHOLE,
    Question,
    means,
    score_questions,
    worth,
)
from tomas_router.evaluation.candidate_lists import ABSENT_10, PRESENT_10, SIMILAR
from tomas_router.evaluation.resource_scores import Case, score_choice
from tomas_router.evaluation.scores import Tallies
from tomas_router.evaluation.traces import TraceRecorder
from tomas_router.planner.decoding import heard, tool_probabilities
from tomas_router.planner.engine import Calibration

Float = NDArray[np.float64]

GATE_PRICE = 0.02
"""Balanced accuracy that each logit of the gate's threshold must earn: few validation rows need no tool, and bare short
commands, which have the smallest logits of those that do, are rare among the others."""
NEARLY = 0.002
"""Worth that rows cannot tell from the best."""
TEMPERATURES = np.geomspace(0.5, 4.0, 43)
END_MARGINS = np.arange(-2.0, 4.01, 0.25)
DEPENDS_THRESHOLDS = np.arange(-4.0, 4.01, 0.25)
MATCH_MARGINS = np.arange(-2.0, 4.01, 0.125)
CONFIDENCES = np.arange(0.0, 0.501, 0.01)
TWIN_MARGINS = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
TWINS = ("tool_strict", "twin_choice")
NODES = (WHOLE, OF_20)
DECISIONS = (WHOLE, OF_20, SIMILAR, PRESENT_10, ABSENT_10, GATE)


def fit_calibration(questions: Sequence[Question], recorder: TraceRecorder) -> Calibration:
    """All numbers but those of the ranking; those that no row bears on keep their defaults."""
    found = replace(recorder.ranking, gate_threshold=best_common_threshold(_gates(questions), GATE_PRICE))
    plain = [q for q in questions if q.name in NODES]

    def nodes(margin: float) -> float:
        return worth(means(score_questions(plain, replace(found, end_margin=margin)), 0.0, 0.0), [*NODES, EXACT])

    def links(cut: float) -> float:
        tried = score_questions([q for q in plain if q.name == WHOLE], replace(found, depends_threshold=cut))
        return worth(means(tried, 0.0, 0.0), [LINKS])

    found = replace(found, end_margin=middle_of_best(nodes, END_MARGINS))
    found = replace(found, depends_threshold=middle_of_best(links, DEPENDS_THRESHOLDS))
    found = replace(found, temperature=fit_temperature(*_reached_slots(plain, found)))
    scored = score_questions(questions, found)

    def decides(match_margin: float, min_confidence: float) -> float:
        return worth(means(scored, match_margin, min_confidence), DECISIONS)

    margin = least_of_best(lambda margin: decides(margin, 0.0), MATCH_MARGINS)
    confidence = least_of_best(lambda confidence: decides(margin, confidence), CONFIDENCES)
    found = replace(found, match_margin=margin, min_confidence=confidence)
    return replace(found, twin_margin=_twin_margin(questions, recorder, found))


def middle_of_best(worth_of: Callable[[float], float], values: Float) -> float:
    """Of the run of values around the best that are worth nearly as much, the middle one; the one nearest to 0 if all.

    Args:
        worth_of: Higher is better.
        values: Ascending.
    """
    good, best = _nearly_best(worth_of, values)
    if good.all():
        return float(min(values, key=abs))
    first = last = best
    while first > 0 and good[first - 1]:
        first -= 1
    while last < len(values) - 1 and good[last + 1]:
        last += 1
    return float(values[(first + last) // 2])


def least_of_best(worth_of: Callable[[float], float], values: Float) -> float:
    """Of all values that are worth nearly as much as the best, the one nearest to 0: what refuses must earn it."""
    good, _ = _nearly_best(worth_of, values)
    return float(min(values[good], key=abs))


def _nearly_best(worth_of: Callable[[float], float], values: Float) -> tuple[NDArray[np.bool_], int]:
    """Which values are worth nearly as much as the best one, and its place."""
    worths = np.array([worth_of(float(value)) for value in values])
    return worths >= worths.max() - NEARLY, int(worths.argmax())


def fit_temperature(logits: Sequence[Float], right: Sequence[NDArray[np.bool_]]) -> float:
    """The temperature of highest likelihood on a grid from 0.5 to 4; 1 without slots.

    Args:
        logits: A slot's logits, END last; -inf for what may not be chosen.
        right: Which choices are right; several where twins do the same job.
    """

    def likelihood(temperature: float) -> float:
        plain = Calibration(temperature=temperature)
        shares = [tool_probabilities(z, plain, None)[r].sum() for z, r in zip(logits, right, strict=True)]
        return float(np.log(np.maximum(shares, 1e-12)).mean())

    return float(max(TEMPERATURES, key=likelihood)) if logits else 1.0


def best_threshold(positive: Float, negative: Float) -> float:
    """The cut of highest balanced accuracy, in the middle of the best plateau; 0 when a class is missing."""
    return best_common_threshold([(positive, negative)])


def best_common_threshold(groups: Sequence[tuple[Float, Float]], price: float = 0.0) -> float:
    """One cut for several groups of (positive, negative), by mean balanced accuracy; needs both classes in a group.

    ``price`` is what a cut loses for each unit that it lies away from 0.
    """
    groups = [(positive, negative) for positive, negative in groups if len(positive) and len(negative)]
    if not groups:
        return 0.0
    cuts = np.unique(np.concatenate([values for group in groups for values in group]))
    cuts = np.concatenate([[cuts[0] - 1e-3], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1e-3]])
    score = np.array([sum((p > c).mean() + (n <= c).mean() for p, n in groups) for c in cuts]) / (2 * len(groups))
    score -= price * np.abs(cuts)
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def _gates(questions: Sequence[Question]) -> list[tuple[Float, Float]]:
    """By source, the gate's logits of requests that need a tool and of the others."""
    by_source: dict[str, tuple[list[float], list[float]]] = {}
    for question in questions:
        if question.name == WHOLE:
            needed, other = by_source.setdefault(question.source.name, ([], []))
            (needed if question.row.needs_tool else other).append(float(question.trace.opening.gate_logit))
    return [(np.array(needed), np.array(other)) for needed, other in by_source.values()]


def _reached_slots(
    questions: Sequence[Question], calibration: Calibration
) -> tuple[list[Float], list[NDArray[np.bool_]]]:
    """Logits and right choices of every slot before which the walk made no mistake, the last slot's END among them."""
    logits: list[Float] = []
    right: list[NDArray[np.bool_]] = []
    for question in questions:
        trace, row = question.trace, question.row
        if question.name != WHOLE or not row.steps or trace.options.num_steps is not None:
            continue
        index = question.source.registry.index
        jobs = [{index(tool) for tool in twins(step, question.source.registry)} for step in row.steps]
        slots = [trace.opening.tool_logits, *(outcome.tool_logits for outcome in trace.outcomes)]
        taken: list[int] = []
        for place, (slot, job) in enumerate(zip(slots, [*jobs, None], strict=False)):
            z = heard(slot, calibration, trace.options, taken)
            z[-1] -= calibration.end_margin if place else 0.0
            if trace.options.candidates_N is not None:
                z[:-1][~trace.options.candidates_N] = -np.inf
            wanted = np.zeros(len(z), dtype=bool)
            wanted[[-1] if job is None else sorted(job)] = True
            logits.append(z)
            right.append(wanted)
            taken.append(int(z[:-1].argmax()))
            if job is None or taken[-1] not in job:
                break
    return logits, right


def _twin_margin(questions: Sequence[Question], recorder: TraceRecorder, calibration: Calibration) -> float:
    """By the allocated plans of rows with profiles; twice the temperature where there are few."""
    cases = [
        _case(q, recorder) for q in questions if q.name == WHOLE and q.row.steps and q.source.profiling is not None
    ]
    if len(cases) < LEAST_ROWS:
        return 2.0 * calibration.temperature

    def twins_right(margin: float) -> float:
        found: Tallies = {}
        for question, case in cases:
            plan = recorder.final_plan(
                question.trace,
                replace(calibration, twin_margin=margin),
                question.request,
                question.source.registry,
                question.source.profiling,
                question.timeline,
            )
            score_choice(case, [step.tool_name for step in plan.steps], question.source.registry, found)
        tallies = [found[name] for name in TWINS if name in found and found[name].totals]
        shares = [sum(tally.totals) / sum(tally.weights) for tally in tallies]
        return float(np.mean(shares)) if shares else 0.0

    return middle_of_best(twins_right, TWIN_MARGINS)


def _case(question: Question, recorder: TraceRecorder) -> tuple[Question, Case]:
    """With the oracle's plan under the question's curve."""
    source, row = question.source, question.row
    assert source.profiling is not None
    release_ms = ceil(recorder.planner.latency.t_inf_ms())
    oracle = label(row, source.registry, source.profiling, question.timeline, release_ms)
    return question, Case(row, question.timeline, oracle, release_ms)
