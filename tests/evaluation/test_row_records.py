from __future__ import annotations

import pytest

from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.row_records import RowRecord, add_scores, plan_text, worst

pytestmark = pytest.mark.m4


def record(name: str, f1: float, confidence: float) -> RowRecord:
    return RowRecord(name, "do it", "a", "b", confidence, {"node_f1": (f1, 1.0)})


def test_plan_text_when_steps_depend_names_them_from_one() -> None:
    shape = PlanShape(("ocr", "translate", "mail"), ((), (0,), (0, 1)))
    assert plan_text(shape) == "ocr; translate (after 1); mail (after 1, 2)"


def test_worst_when_ranked_puts_the_surest_of_the_most_wrong_first() -> None:
    rows = [record("half", 0.5, 0.9), record("unsure", 0.0, 0.2), record("sure", 0.0, 0.8), record("right", 1.0, 0.9)]
    assert [r.id for r in worst(rows, 3)] == ["sure", "unsure", "half"]


def test_worst_when_the_formula_gives_just_below_one_counts_it_as_right() -> None:
    assert worst([record("right", 1 - 5e-10, 0.9)], 3) == []


def test_right_share_when_only_the_gate_was_scored_is_the_gate() -> None:
    asked = RowRecord("g", "hello", "no tool", "a", 0.9, {"gate": (0.0, 1.0)})
    assert asked.right_share == 0.0
    assert RowRecord("n", "hello", "", "", 0.9).right_share == 1.0


def test_add_scores_when_a_measure_leaves_a_row_out_leaves_it_out() -> None:
    records = {name: RowRecord(name, "", "", "", 0.5) for name in ("a", "b")}
    tally = Tally.empty()
    tally.add("a", 2.0, 3.0)
    add_scores(records, {"tool": tally})
    assert records["a"].scores == {"tool": (2.0, 3.0)}
    assert records["b"].scores == {}


def test_worst_when_nothing_matched_ranks_as_least_sure() -> None:
    refused = RowRecord("refused", "do it", "a", "no tool (no_match)", None, {"node_f1": (0.0, 1.0)})
    assert [r.id for r in worst([refused, record("named", 0.0, 0.1)], 2)] == ["named", "refused"]
