from __future__ import annotations

from math import log

import pytest

from tomas_router.evaluation.bm25 import Bm25
from tomas_router.features.words import words

pytestmark = pytest.mark.m4


def test_words_when_names_are_joined_come_apart() -> None:
    assert words("PDFReader_v2 toText") == ["pdf", "reader", "v2", "to", "text"]
    assert words("翻译 file") == ["翻", "译", "file"]


def test_scores_when_computed_by_hand_agree() -> None:
    # Two documents of 2 and 4 words, mean 3. "cat" is in the first only: idf ln(1 + 1.5/1.5) = ln 2.
    # tf part: 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2/3)) = 2.5 / 2.125
    scores = Bm25(["cat sat", "dog sat on mat"]).scores(["cat", "sat sat", "unknown"])
    assert scores[0, 0] == pytest.approx(log(2) * 2.5 / 2.125)
    assert scores[0, 1] == 0.0
    # "sat" is in both: idf ln(1 + .5/2.5); said twice, it counts twice.
    assert scores[1, 0] == pytest.approx(2 * log(1.2) * 2.5 / 2.125)
    assert scores[1, 1] == pytest.approx(2 * log(1.2) * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 4 / 3)))
    assert scores[2].tolist() == [0.0, 0.0]
