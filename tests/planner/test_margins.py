"""Room above predicted demand, and a planner whose profile learns."""

from __future__ import annotations

import numpy as np
import pytest

from tomas_router.planner.margins import NO_MARGINS, PredictionMargins, conformal_factor

pytestmark = pytest.mark.m3


def test_prediction_when_it_has_margins_asks_for_more_memory_and_time_but_not_for_cores():
    margins = PredictionMargins(cpu_mem_gb=2, gpu_mem_gb=3, latency_ms=1.5)
    assert margins.over([4, 1, 50, 2, 100]) == (4, 2, 50, 6, 150)
    assert NO_MARGINS.over([4, 1, 50, 2, 100]) == (4, 1, 50, 2, 100)


@pytest.mark.parametrize("factor", [0.9, float("nan"), float("inf")])
def test_margins_when_they_would_shrink_a_prediction_are_refused(factor):
    with pytest.raises(ValueError, match="gpu_mem_gb must be a finite factor >= 1"):
        PredictionMargins(gpu_mem_gb=factor)


def test_conformal_factor_when_drawn_from_the_same_ratios_covers_the_next_one_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = [
        ratios[-1] <= conformal_factor(ratios[:-1].tolist(), 0.8) for ratios in np.exp(rng.normal(0.5, 0.7, (2000, 20)))
    ]
    assert 0.78 < np.mean(covered) < 0.88


def test_conformal_factor_when_every_prediction_was_too_large_is_1():
    assert conformal_factor([0.5, 0.2], 0.9) == 1.0


def test_conformal_factor_when_ratios_are_few_is_the_largest():
    assert conformal_factor([1.5, 3.0], 0.99) == 3.0


@pytest.mark.parametrize("ratios", [[], [1.0, 0.0], [float("nan")]])
def test_conformal_factor_when_a_ratio_is_impossible_is_refused(ratios):
    with pytest.raises(ValueError, match="ratios must be finite numbers > 0"):
        conformal_factor(ratios, 0.9)
