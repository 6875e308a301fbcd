from __future__ import annotations

import numpy as np
import pytest

from tomas_router.evaluation.intervals import Tally, bootstrap

pytestmark = pytest.mark.m4


def test_bootstrap_when_rows_agree_has_no_width() -> None:
    result = bootstrap([1.0] * 20, [1.0] * 20)
    assert (result.value, result.low, result.high, result.rows) == (1.0, 1.0, 1.0, 20)


def test_bootstrap_when_weights_differ_is_a_ratio_of_sums() -> None:
    # 3 of 4 steps and 1 of 2 steps: 4/6, not the mean of the rows' ratios (0.625)
    assert bootstrap([3.0, 1.0], [4.0, 2.0]).value == pytest.approx(4 / 6)


def test_bootstrap_of_a_proportion_matches_the_normal_interval() -> None:
    hits = [1.0] * 300 + [0.0] * 100
    result = bootstrap(hits, [1.0] * 400)
    half_width = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    # 1000 resamples place a percentile to within about a tenth of the half width.
    assert result.low == pytest.approx(0.75 - half_width, abs=0.15 * half_width)
    assert result.high == pytest.approx(0.75 + half_width, abs=0.15 * half_width)


def test_bootstrap_when_seeded_alike_repeats() -> None:
    values = list(np.random.default_rng(0).random(50))
    assert bootstrap(values, [1.0] * 50, seed=3) == bootstrap(values, [1.0] * 50, seed=3)
    assert bootstrap(values, [1.0] * 50, seed=3) != bootstrap(values, [1.0] * 50, seed=4)


def test_tally_when_a_row_has_no_steps_leaves_it_out() -> None:
    tally = Tally.empty()
    assert tally.interval() is None
    tally.add("a", 1.0)
    tally.add("b", 0.0, weight=0.0)
    found = tally.interval()
    assert found is not None
    assert (found.value, found.rows) == (1.0, 1)
    assert tally.rows == ["a"]
