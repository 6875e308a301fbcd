from __future__ import annotations

import math

import numpy as np
import pytest

from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.runtime.timeline import SystemTimeline

pytestmark = pytest.mark.m2

DROP = SystemTimeline.from_rows([(0, 16, 64, 100, 24), (4000, 2, 8, 0, 0)], horizon_ms=8000)


def test_window_has_96_samples_from_t_inf_to_the_horizon() -> None:
    window = ResourcePredictor(DROP).window(500)
    assert (window.series_GT4.shape, window.series_GT4.dtype) == ((1, 96, 4), np.float32)
    assert window.log_horizon == pytest.approx(math.log(7.5))


def test_changing_t_inf_moves_the_window() -> None:
    predictor = ResourcePredictor(DROP)
    early, late = predictor.window(500), predictor.window(4000)
    assert early.series_GT4[0, 0].tolist() == [16, 64, 100, 24]
    assert late.series_GT4[0, 0].tolist() == [2, 8, 0, 0]
    assert late.log_horizon < early.log_horizon


def test_short_dip_is_never_averaged_away() -> None:
    dip = SystemTimeline.from_rows(
        [(0, 16, 64, 100, 24), (5001, 1, 64, 100, 24), (5002, 16, 64, 100, 24)], horizon_ms=600_000
    )
    assert ResourcePredictor(dip).window(500).series_GT4[0, :, 0].min() == 1


def test_several_times_of_decision_give_a_batch() -> None:
    predictor = ResourcePredictor(DROP)
    batch = predictor.windows([500, 1000, 7900])
    assert batch.series_BGT4.shape == (3, 1, 96, 4)
    for b, t_inf in enumerate((500, 1000, 7900)):
        single = predictor.window(t_inf)
        np.testing.assert_array_equal(batch.series_BGT4[b], single.series_GT4)
        assert batch.log_horizon_B[b] == pytest.approx(single.log_horizon)


def test_one_curve_per_gpu_gives_one_series_each() -> None:
    other = SystemTimeline.from_rows([(0, 16, 64, 30, 8)], horizon_ms=8000)
    window = ResourcePredictor([DROP, other]).window(500)
    assert window.series_GT4.shape == (2, 96, 4)
    assert window.series_GT4[:, 0, 2].tolist() == [100, 30]


def test_missing_timeline_is_the_documented_default() -> None:
    given = ResourcePredictor(SystemTimeline.default()).window(500)
    np.testing.assert_array_equal(ResourcePredictor().window(500).series_GT4, given.series_GT4)


def test_t_inf_behind_a_strict_end_leaves_nothing_and_behind_a_held_one_the_last_row() -> None:
    gone = ResourcePredictor(DROP).window(9000)
    assert gone.series_GT4.max() == 0
    assert gone.log_horizon == 0.0
    held = ResourcePredictor(DROP.with_tail("hold")).window(9000)
    assert held.series_GT4[0, -1].tolist() == [2, 8, 0, 0]


def test_no_curve_at_all_is_named() -> None:
    with pytest.raises(ValueError, match="at least one curve"):
        ResourcePredictor([])
