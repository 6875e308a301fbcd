from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tomas_router.evaluation.remembered_vectors import WORTH_WRITING, RememberedVectors

pytestmark = pytest.mark.m4

TEXTS = [f"text {i}" for i in range(WORTH_WRITING)]


class Counting:
    """Encodes a text by its length and number; counts what it was asked."""

    label = "Counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fit(self, texts: Sequence[str]) -> Counting:
        return self

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.array([[len(text), int(text.split()[1])] for text in texts], dtype=np.float32)


def test_rows_when_asked_again_in_another_process_encodes_nothing(tmp_path: Path) -> None:
    first = RememberedVectors(Counting(), tmp_path).rows(TEXTS)
    encoder = Counting()
    again = RememberedVectors(encoder, tmp_path).rows(TEXTS[::-1])
    assert encoder.asked == []
    assert np.array_equal(again, first[::-1])


def test_rows_when_some_are_new_encodes_those_once(tmp_path: Path) -> None:
    encoder = Counting()
    vectors = RememberedVectors(encoder, tmp_path)
    vectors.rows(["text 1", "text 2", "text 1"])
    assert np.array_equal(vectors.rows(["text 3", "text 2"]), [[6, 3], [6, 2]])
    assert encoder.asked == ["text 1", "text 2", "text 3"]


def test_rows_when_the_file_is_damaged_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RememberedVectors(Counting(), tmp_path).rows(TEXTS)
    (tmp_path / "vectors-counting.npz").write_bytes(b"PK\x03\x04 torn")
    encoder = Counting()
    RememberedVectors(encoder, tmp_path).rows(TEXTS)
    assert encoder.asked == TEXTS
    assert "damaged" in caplog.text
