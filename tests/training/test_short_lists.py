"""Short lists of candidates: hard ones hold what is alike, and those that lack the tool hold nothing near it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tomas_router.schema.registry import ToolRegistry, ToolSpec
from tomas_router.training.batches import NO_AUGMENTATION, BatchSampler
from tomas_router.training.short_lists import LONGEST, SHORTEST, WordLikeness, short_list
from tomas_router.training.sources import load_own

pytestmark = pytest.mark.m4


def test_word_likeness_when_words_are_rare_tells_related_tools() -> None:
    tools = [("resizePhoto", "Changes the size of a photo."), ("photo_crop", "Cuts a photo."), ("sum", "Adds numbers.")]
    likeness_NN = WordLikeness(ToolRegistry(ToolSpec(name=n, desc=d) for n, d in tools)).among([n for n, _ in tools])
    np.testing.assert_allclose(np.diag(likeness_NN), 1.0)
    np.testing.assert_allclose(likeness_NN, likeness_NN.T)
    assert likeness_NN[0, 1] > 0.05 > likeness_NN[0, 2]


def test_word_likeness_when_names_are_written_together_finds_their_words() -> None:
    tools = ["PDFReader", "reader", "Überweisung", "uberweisung", "other"]
    likeness_NN = WordLikeness(ToolRegistry(ToolSpec(name=name, desc="-") for name in tools)).among(tools)
    assert likeness_NN[0, 1] > 0.1
    assert likeness_NN[2, 3] == 0


@pytest.mark.parametrize("seed", range(20))
def test_short_list_when_drawn_holds_the_right_tools_or_nothing_near_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place_N = np.arange(60)
    likeness_NN = 1.0 / (1.0 + abs(place_N[:, None] - place_N[None, :]))
    offered = short_list([7, 30], [8], False, likeness_NN, rng).tolist()
    assert {7, 30} <= set(offered)
    assert SHORTEST <= len(offered) == len(set(offered)) <= LONGEST
    lacking = short_list([7], [8, 50], True, likeness_NN, rng).tolist()
    assert not {7, 8, 50} & set(lacking)
    assert min(abs(i - 7) for i in lacking) > 5
    assert SHORTEST <= len(lacking) == len(set(lacking)) <= LONGEST


@pytest.mark.parametrize("lacks", [0.0, 1.0])
def test_batch_when_listed_gives_every_request_a_few_candidates_of_its_own(lacks: float) -> None:
    own = replace(load_own("train"), profiling=None)
    augmentation = replace(NO_AUGMENTATION, short_lists=1.0, short_list_lacks_tool=lacks)
    batch = BatchSampler({own.name: own}, {own.name: 1.0}, 32, 100, 16, 5, augmentation=augmentation).draw(0)
    counts_B = batch.candidate_mask_BN.sum(1)
    assert counts_B.max() <= LONGEST
    assert len({mask.tobytes() for mask in batch.candidate_mask_BN}) > 20
    for example, plan, mask_N in zip(batch.examples, batch.plans, batch.candidate_mask_BN, strict=True):
        offered = {name for name, here in zip(batch.pool, mask_N, strict=True) if here}
        if lacks:
            assert plan == ()
            assert not offered & {n for t in example.tools for n in (t, *own.registry.in_group(own.registry[t].group))}
        else:
            assert set(example.tools) <= offered
            assert len(plan) == len(example.tools)
