from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomas_router.datasets import connectives as words
from tomas_router.datasets.connectives import read_asides
from tomas_router.datasets.rows import load_rows
from tomas_router.datasets.wording import dress, with_purpose
from tomas_router.shipped import instructions_path


def test_read_asides_when_a_line_fits_no_form_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "asides.txt"
    file.write_text("closer\n> Thanks!\nno mark\n")
    with pytest.raises(ValueError, match=r"asides\.txt:3: .*'no mark'"):
        read_asides(file)


def test_asides_when_loaded_share_no_line_between_training_and_test() -> None:
    for wordings in (words.OPENERS, words.CLOSERS, words.CONTEXT):
        assert wordings.held_out
        assert not set(wordings.seen) & set(wordings.held_out)


@pytest.mark.parametrize(
    ("text", "purpose", "joined", "expected"),
    [
        ("Scan it.", "So that I can file it.", True, "Scan it so that I can file it."),
        ("Scan it.", "So that I can file it.", False, "Scan it. So that I can file it."),
        ("Scan it?", "So that I can file it.", True, "Scan it? So that I can file it."),
        ("Scan it.", "I only need this.", True, "Scan it. I only need this."),
    ],
)
def test_with_purpose_when_it_is_a_clause_goes_on_the_sentence(
    text: str, purpose: str, joined: bool, expected: str
) -> None:
    assert with_purpose(text, purpose, joined) == expected


def test_dress_when_purposes_are_wanted_tells_what_the_result_is_for() -> None:
    told = [dress("Scan it.", np.random.default_rng(seed), False, 1.0) for seed in range(50)]
    # Half of them are sentences of their own, which nothing can follow unchanged but a closing and a typo.
    assert sum(any(p in text for p in words.PURPOSE.seen) for text in told) > 20


@pytest.mark.parametrize("split", ["val", "test"])
def test_shipped_rows_when_held_out_tell_no_purpose_of_training(split: str) -> None:
    rows = load_rows(instructions_path(split))
    assert not [row.id for row in rows if any(p in row.instruction for p in words.PURPOSE.seen)]
