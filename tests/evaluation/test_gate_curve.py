from __future__ import annotations

import pytest

from tomas_router.evaluation.gate_curve import GateCase, gate_curve

pytestmark = pytest.mark.m4


def cases(*rows: tuple[float, bool]) -> list[GateCase]:
    return [GateCase(confidence, confidence > 0.5, needs) for confidence, needs in rows]


def test_gate_curve_when_the_gate_separates_is_perfect() -> None:
    found = gate_curve(cases((0.9, True), (0.8, True), (0.3, False), (0.1, False)), seed=0)
    assert found is not None
    assert found.average_precision.value == pytest.approx(1.0)
    assert (found.chosen.precision, found.chosen.recall) == (1.0, 1.0)
    assert (found.points[-1].precision, found.points[-1].recall) == (0.5, 1.0)


def test_gate_curve_when_mistaken_agrees_with_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rows = [(0.9, True), (0.8, False), (0.8, True), (0.6, True), (0.55, False), (0.2, True), (0.1, False)]
    found = gate_curve(cases(*rows), seed=0)
    assert found is not None
    expected = metrics.average_precision_score([needs for _, needs in rows], [confidence for confidence, _ in rows])
    assert found.average_precision.value == pytest.approx(expected)
    assert (found.chosen.precision, found.chosen.recall) == (pytest.approx(3 / 5), pytest.approx(3 / 4))


def test_gate_curve_when_confidences_tie_takes_them_together() -> None:
    found = gate_curve(cases((0.7, True), (0.7, False)), seed=0)
    assert found is not None
    assert [(p.precision, p.recall) for p in found.points] == [(0.5, 1.0)]


def test_gate_curve_when_an_answer_is_missing_counts_it_as_not_found() -> None:
    found = gate_curve([GateCase(0.9, True, True), GateCase(0.0, None, True), GateCase(0.1, False, False)], seed=0)
    assert found is not None
    assert found.chosen.recall == 0.5


def test_gate_curve_when_all_rows_need_a_tool_is_none() -> None:
    assert gate_curve(cases((0.9, True), (0.1, True)), seed=0) is None
