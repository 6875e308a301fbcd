from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tomas_router.datasets.rows import Row, Step
from tomas_router.evaluation.calibration_questions import (
    EXACT,
    GATE,
    LINKS,
    OF_20,
    WHOLE,
    Question,
    ask_questions,
    means,
    score_questions,
    worth,
)
from tomas_router.evaluation.candidate_lists import ABSENT_10, PRESENT_10, SIMILAR
from tomas_router.evaluation.fit_calibration import (
    NEARLY,
    best_common_threshold,
    best_threshold,
    fit_calibration,
    fit_temperature,
    least_of_best,
    middle_of_best,
)
from tomas_router.evaluation.sources import EvalSource
from tomas_router.evaluation.traces import TraceRecorder
from tomas_router.planner.engine import Calibration
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m4

NAMES = [f"tool{k}" for k in range(40)]
REGISTRY = ToolRegistry.from_tools([{"name": name, "desc": f"Does job number {name}."} for name in NAMES])
ONE = [Row(id=f"a{k}", instruction=f"one {k}", steps=(Step(NAMES[k % 40]),), split="val") for k in range(40)]
TWO = [
    Row(
        id=f"b{k}",
        instruction=f"two {k}",
        steps=(Step(NAMES[k % 40]), Step(NAMES[(k + 1) % 40], depends_on=(0,) if k % 2 else ())),
        split="val",
    )
    for k in range(40)
]
CHAT = [Row(id=f"c{k}", instruction=f"chat {k}", steps=(), split="val", needs_tool=False) for k in range(40)]
SOURCE = EvalSource("s", (*ONE, *TWO, *CHAT), (), REGISTRY, None, edges_known=True, call_order=False)


def script(row: Row) -> Script:
    """END is 1 below tools that do not fit, wins by 1 where a second step is wanted, and by 3 where it is not."""
    if not row.steps:
        return Script((Slot({NAMES[0]: -12.0, END: -21.0}),), gate_logit=0.5)
    first = Slot({row.steps[0].tool: -12.0, END: -21.0})
    if len(row.steps) == 1:
        return Script((first, Slot({END: 5.0, NAMES[0]: 2.0})), gate_logit=1.5)
    depends = (-1.5,) if row.steps[1].depends_on else (-2.5,)
    second = Slot({END: 5.0, row.steps[1].tool: 4.0}, depends=depends)
    return Script((first, second), gate_logit=1.5)


def asked() -> tuple[list[Question], TraceRecorder]:
    recorder = TraceRecorder(ScriptedEngine({row.instruction: script(row) for row in SOURCE.rows}))
    return list(ask_questions(SOURCE, recorder)), recorder


def test_fit_when_an_engine_is_off_by_known_amounts_finds_all_of_them() -> None:
    questions, recorder = asked()
    found = fit_calibration(questions, recorder)
    assert 0.5 < found.gate_threshold < 1.5
    assert 1.0 <= found.end_margin < 3.0
    assert -2.5 <= found.depends_threshold < -1.5
    assert 1.0 < found.match_margin <= 4.0  # tools that do not fit lead END by 1, those that do by 9
    assert found.min_confidence == 0.0  # nothing is left for it to refuse
    assert found.twin_margin == 2.0 * found.temperature  # no profiles
    after = means(score_questions(questions, found), found.match_margin, found.min_confidence)
    measures = (GATE, WHOLE, EXACT, LINKS, OF_20, SIMILAR, PRESENT_10, ABSENT_10)
    assert after == {"s": {name: pytest.approx(1.0) for name in measures}}
    before = means(score_questions(questions, Calibration()), 0.0, 0.0)["s"]
    assert (before[ABSENT_10], before[LINKS]) == (0.0, 0.5)  # a plan that rightly has no links counts
    assert before[GATE] < 0.7


def test_means_when_nothing_begins_are_those_of_a_calibration_that_refuses_all() -> None:
    questions, _ = asked()
    refusing = means(score_questions(questions, Calibration(gate_threshold=1.0)), inf, 0.0)["s"]
    assert refusing == {GATE: 1 / 3, WHOLE: 0, EXACT: 0, LINKS: 0, OF_20: 0, SIMILAR: 0, PRESENT_10: 0, ABSENT_10: 1}
    plans = [q.trace.plan(Calibration(gate_threshold=1.0, match_margin=inf)) for q in questions]
    assert {plan.no_tool for plan in plans} == {"no_match", "not_needed"}


def test_means_when_a_measure_has_few_rows_leave_it_out() -> None:
    questions, _ = asked()
    few = [q for q in questions if q.name != SIMILAR or q.row.id in {"a1", "a2"}]
    assert SIMILAR not in means(score_questions(few, Calibration()), 0.0, 0.0)["s"]


def test_worth_when_sources_differ_in_measures_counts_measures_alike() -> None:
    found = {"a": {WHOLE: 1.0, ABSENT_10: 0.5}, "b": {WHOLE: 0.25}}
    assert worth(found) == pytest.approx((0.625 + 0.5) / 2)
    assert worth(found, [ABSENT_10]) == 0.5
    assert worth(found, [LINKS]) == 0.0


def test_questions_when_a_row_states_its_number_of_steps_are_the_row_alone() -> None:
    stated = replace(SOURCE, rows=(replace(TWO[0], unordered=True),))
    recorder = TraceRecorder(ScriptedEngine(script(TWO[0])))
    (question,) = ask_questions(stated, recorder)
    assert question.name == WHOLE
    (scored,) = [one for one in score_questions([question], Calibration()) if one.measure == WHOLE]
    assert scored.lead == inf  # cannot be refused


def test_middle_of_best_when_neighbours_are_nearly_as_good_is_between_them() -> None:
    worths = {
        -4.0: 0.9 - NEARLY / 4,
        0.0: 0.2,
        1.0: 0.9 - NEARLY / 2,
        2.0: 0.9,
        3.0: 0.9 - NEARLY / 2,
        4.0: 0.1,
        5.0: 0.9,
    }
    values = np.array(sorted(worths))
    assert middle_of_best(worths.__getitem__, values) == 2.0
    assert least_of_best(worths.__getitem__, values) == 1.0
    assert middle_of_best(lambda _: 0.5, np.array([-2.0, 0.0, 1.0])) == 0.0


def test_threshold_when_classes_are_apart_lies_between_them() -> None:
    assert 1.0 < best_threshold(np.array([2.0, 3.0]), np.array([0.0, 1.0])) < 2.0


def test_threshold_when_a_class_is_missing_is_zero() -> None:
    assert best_threshold(np.array([2.0]), np.array([])) == 0.0
    assert best_common_threshold([(np.array([2.0]), np.array([]))]) == 0.0


def test_common_threshold_when_one_source_is_large_lets_the_small_one_count_alike() -> None:
    large = np.linspace(5.5, 9.0, 900), np.linspace(3.0, 6.0, 900)
    small = np.array([1.0, 1.2, 1.4]), np.array([-1.0, -0.9])
    cut = best_common_threshold([large, small])
    assert -0.9 < cut < 1.0
    pooled = best_threshold(*(np.concatenate(pair) for pair in zip(large, small, strict=True)))
    assert pooled > 3.0


def test_common_threshold_when_distance_costs_stays_near_zero_for_a_small_gain() -> None:
    positive, negative = np.array([1.0] + [9.0] * 99), np.array([4.0] + [-5.0] * 99)
    assert best_common_threshold([(positive, negative)]) != pytest.approx(0.0, abs=1.0)
    assert best_common_threshold([(positive, negative)], price=0.02) < 1.0


def test_temperature_when_logits_are_too_sure_is_above_one() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 400)
    logits = [8.0 * np.eye(4)[t if rng.random() < 0.7 else rng.integers(0, 4)] for t in targets]
    assert fit_temperature(logits, [np.arange(4) == t for t in targets]) > 1.5
    assert fit_temperature([], []) == 1.0


def test_temperature_when_twins_share_the_probability_counts_both() -> None:
    logits = [np.array([3.0, 3.0, 0.0])] * 10
    assert fit_temperature(logits, [np.array([True, True, False])] * 10) == 0.5
    assert fit_temperature(logits, [np.array([True, False, False])] * 5 + [np.array([False, False, True])] * 5) > 2.0
