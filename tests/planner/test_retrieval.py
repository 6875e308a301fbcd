from __future__ import annotations

import numpy as np
import pytest

from tomas_router.planner.retrieval import shortlist

pytestmark = pytest.mark.m3


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_small_registry_goes_into_the_prefix_whole() -> None:
    assert shortlist(unit_vectors(5), unit_vectors(1)[0], 64).tolist() == [0, 1, 2, 3, 4]


def test_large_registry_keeps_the_best_by_score_in_ascending_order() -> None:
    tools, request = unit_vectors(500), unit_vectors(1, seed=1)[0]
    got = shortlist(tools, request, 64)
    assert set(got.tolist()) == set(np.argsort(-(tools @ request))[:64].tolist())
    assert got.tolist() == sorted(got.tolist())


def test_candidates_that_fit_are_all_included_whatever_their_score() -> None:
    tools, request = unit_vectors(500), unit_vectors(1, seed=1)[0]
    worst = np.argsort(tools @ request)[:10]
    assert shortlist(tools, request, 64, worst).tolist() == sorted(worst.tolist())


def test_candidates_beyond_the_limit_keep_their_best() -> None:
    tools, request = unit_vectors(500), unit_vectors(1, seed=1)[0]
    candidates = np.arange(100, 300)
    got = shortlist(tools, request, 64, candidates)
    best = candidates[np.argsort(-(tools[candidates] @ request))[:64]]
    assert got.tolist() == sorted(best.tolist())


def test_repeated_candidates_count_once() -> None:
    assert shortlist(unit_vectors(9), unit_vectors(1)[0], 4, np.array([3, 3, 1])).tolist() == [1, 3]
