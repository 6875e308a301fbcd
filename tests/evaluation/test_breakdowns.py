from __future__ import annotations

import pytest

from tomas_router.datasets.rows import Row, Step
from tomas_router.evaluation.asking import Asked
from tomas_router.evaluation.breakdowns import by_steps, confused_pairs, gate_cases, steps_label
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.scores import FAILED, Answer
from tomas_router.evaluation.sources import EvalSource
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools([{"name": name, "desc": f"does {name}"} for name in "abc"])
ROWS = (
    Row(id="one", instruction="x", steps=(Step("a"),)),
    Row(id="two", instruction="x", steps=(Step("a"), Step("b", (0,)))),
    Row(id="none", instruction="x", steps=(), needs_tool=False),
)
SOURCE = EvalSource("s", ROWS, (), REGISTRY, None, edges_known=True, call_order=False)
ANSWERS = [
    Answer(PlanShape.chain(("a",)), needs_tool=True),
    Answer(PlanShape.chain(("a", "c")), needs_tool=True),
    Answer(NO_PLAN, needs_tool=False),
]


def test_by_steps_when_rows_want_more_or_fewer_scores_them_apart() -> None:
    found = by_steps(SOURCE, ANSWERS)
    assert set(found) == {"1", "2"}
    assert found["1"]["node_f1"].totals == [pytest.approx(1.0)]
    assert found["2"]["node_f1"].totals == [pytest.approx(0.5)]
    assert "edge_f1" not in found["1"]


def test_steps_label_when_many_falls_together() -> None:
    assert [steps_label(n) for n in (1, 5, 6, 9)] == ["1", "5", "6+", "6+"]


def test_confused_pairs_when_a_row_wants_no_tool_leaves_it_out() -> None:
    assert confused_pairs(SOURCE, ANSWERS) == [("a", "a"), ("a", "a"), ("b", "c")]


def test_gate_cases_when_the_planner_failed_are_least_confident() -> None:
    cases = gate_cases(SOURCE, [Asked(None, ())] * 3, [FAILED] * 3)
    assert [(case.confidence, case.said, case.needs_tool) for case in cases] == [
        (0.0, None, True),
        (0.0, None, True),
        (0.0, None, False),
    ]
