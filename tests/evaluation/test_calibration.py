from __future__ import annotations

import pytest

from tomas_router.evaluation.calibration import Sure, calibration

pytestmark = pytest.mark.m4


def sure(confidence: float, right: int, wrong: int) -> list[Sure]:
    said = [True] * right + [False] * wrong
    return [Sure(f"{confidence}-{i}", confidence, answer) for i, answer in enumerate(said)]


def test_calibration_when_confidence_is_honest_has_no_error() -> None:
    found = calibration([*sure(0.75, 3, 1), *sure(0.25, 1, 3)], seed=0)
    assert found is not None
    assert found.ece.value == pytest.approx(0.0)
    assert [(b.low, b.high, b.steps, b.accuracy.value) for b in found.bins] == [
        (0.2, 0.3, 4, 0.25),
        (0.7, 0.8, 4, 0.75),
    ]


def test_calibration_when_overconfident_is_the_gap_weighted_by_steps() -> None:
    # 10 steps at 0.95 of which half are right: gap 0.45; 30 steps at 0.55, of which 60 % are right: gap 0.05
    found = calibration([*sure(0.95, 5, 5), *sure(0.55, 18, 12)], seed=0)
    assert found is not None
    assert found.ece.value == pytest.approx((10 * 0.45 + 30 * 0.05) / 40)
    assert found.ece.low < found.ece.value < found.ece.high


def test_calibration_when_certain_belongs_to_the_last_bin() -> None:
    found = calibration(sure(1.0, 2, 0), seed=0)
    assert found is not None
    assert (found.bins[0].low, found.bins[0].high) == (0.9, 1.0)


def test_calibration_when_steps_share_a_row_resamples_rows() -> None:
    one_row = [Sure("r", 0.9, True), Sure("r", 0.9, False)]
    found = calibration(one_row, seed=0)
    assert found is not None
    assert (found.ece.low, found.ece.high, found.ece.rows) == (pytest.approx(0.4), pytest.approx(0.4), 1)


def test_calibration_when_nothing_was_planned_is_none() -> None:
    assert calibration([], seed=0) is None
