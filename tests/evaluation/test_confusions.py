from __future__ import annotations

import pytest

from tomas_router.evaluation.confusions import NOTHING, confusions, step_pairs

pytestmark = pytest.mark.m4


def test_step_pairs_when_tools_agree_pairs_them_whatever_their_order() -> None:
    assert sorted(step_pairs(["b", "a"], ["a", "b"])) == [("a", "a"), ("b", "b")]


def test_step_pairs_when_one_is_wrong_pairs_it_with_what_is_left() -> None:
    assert sorted(step_pairs(["a", "x"], ["a", "b"])) == [("a", "a"), ("b", "x")]


def test_step_pairs_when_lengths_differ_pairs_with_nothing() -> None:
    assert step_pairs([], ["a"]) == [("a", NOTHING)]
    assert sorted(step_pairs(["a", "x"], ["a"])) == [(NOTHING, "x"), ("a", "a")]


def test_confusions_when_counted_ranks_pairs_and_draws_the_tools_involved() -> None:
    pairs = [("a", "b")] * 3 + [("a", "a")] * 1 + [("c", "d")] * 2 + [("e", NOTHING)] * 9
    found = confusions(pairs)
    assert found is not None
    assert [(c.wanted, c.said, c.times, c.of) for c in found.pairs] == [("a", "b", 3, 4), ("c", "d", 2, 2)]
    assert found.tools == ("a", "b", "c", "d")
    assert found.counts[0] == (1, 3, 0, 0)


def test_confusions_when_only_steps_are_missing_is_none() -> None:
    assert confusions([("a", "a"), ("b", NOTHING), (NOTHING, "c")]) is None
