from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from tomas_router.training.calibrate import (
    best_common_threshold,
    best_threshold,
    cut_keeping,
    fit_temperature,
    lowest_cut_keeping,
)

pytestmark = pytest.mark.m4


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


def test_temperature_when_logits_are_too_sure_is_above_one() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 400)
    logits = [8.0 * np.eye(4)[t if rng.random() < 0.7 else rng.integers(0, 4)] for t in targets]
    assert fit_temperature(logits, [int(t) for t in targets]) > 1.5


def test_cut_when_a_share_must_be_kept_is_the_highest_that_keeps_it() -> None:
    values = np.linspace(0.01, 1.0, 100)
    cut = cut_keeping(0.98, values)
    assert (values >= cut).mean() >= 0.98
    assert (values > cut + 0.011).mean() < 0.98
    assert cut_keeping(0.98, np.array([])) == 0.0


def test_common_threshold_when_distance_costs_stays_near_zero_for_a_small_gain() -> None:
    positive, negative = np.array([1.0] + [9.0] * 99), np.array([4.0] + [-5.0] * 99)
    assert best_common_threshold([(positive, negative)]) != pytest.approx(0.0, abs=1.0)
    assert best_common_threshold([(positive, negative)], price=0.02) < 1.0


def test_cut_when_sources_differ_keeps_the_share_of_the_least_sure_large_one() -> None:
    sure, unsure, few = np.linspace(0.8, 1.0, 500), np.linspace(0.2, 0.6, 60), np.array([0.01])
    cut = lowest_cut_keeping(0.98, [sure, unsure, few])
    assert 0.2 <= cut < 0.22
    assert lowest_cut_keeping(0.98, [few]) == 0.01
    assert lowest_cut_keeping(0.98, []) == 0.0
