"""The classifier from a request's words to tools: what it stores, what it says, and how the decoder hears it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tests.planner.test_decoding import NAMES, mask, run, say, tools_of
from tomas_router.features.known_tools import KnownTools, digest
from tomas_router.features.request_words import (
    BUCKETS,
    REQUEST_WORDS,
    JobWords,
    RequestWords,
    bucket,
    buckets_of,
    rarity_of,
    word_vector,
)
from tomas_router.planner.decoding import FARTHEST_BEHIND, DecodingOptions, heard
from tomas_router.planner.engine import Calibration
from tomas_router.planner.planner import Planner
from tomas_router.schema.registry import ToolRegistry, ToolSpec

pytestmark = pytest.mark.m3

OCR, OCR_GPU, SEARCH, MAIL = (
    ToolSpec(name=name, desc=f"does {name}") for name in ("ocr", "ocr_gpu", "search", "send_mail")
)
EVEN = np.ones(BUCKETS, dtype=np.float32)
WORDS = Calibration(words_weight=1.0, overlap_weight=0.0, novelty_bonus=0.0)
LOGITS = np.array([9.0, 3.0, 1.0, 8.0, 5.0])


def job(bias: float = 0.0, most: int = 300, least: float = 0.0, **weights: float) -> JobWords:
    weights_H = np.zeros(BUCKETS, dtype=np.float32)
    for word, weight in weights.items():
        weights_H[bucket(word)] = weight
    return JobWords.of(weights_H, bias, most, least)


def request_words() -> RequestWords:
    """OCR and its twin are asked for by ``scan``, searching by ``web``."""
    jobs = [job(scan=2.0, web=-1.0), job(bias=-0.5, web=3.0)]
    return RequestWords(EVEN, jobs, {digest(OCR): 0, digest(OCR_GPU): 0, digest(SEARCH): 1})


def odds(**logits: float) -> np.ndarray:
    return np.array([logits.get(name, np.nan) for name in NAMES])


# --- what it stores and says ---------------------------------------------------------------------------------


def test_words_count_once_by_their_stems() -> None:
    assert buckets_of("Mail the mails, mailed!").tolist() == buckets_of("the mail").tolist()
    assert len(buckets_of("scan the web")) == 3  # stop words too
    assert bucket("scan") == 15496  # the hash is part of the file's format
    assert buckets_of("?!").tolist() == []


def test_word_vectors_have_length_one_and_rare_words_the_most() -> None:
    rarity_H = rarity_of(["scan a page", "scan a card", "scan a form", "mail a form"])
    places, values = word_vector("scan a card", rarity_H)
    by_place = dict(zip(places.tolist(), values.tolist(), strict=True))
    assert sum(v * v for v in by_place.values()) == pytest.approx(1.0)
    assert by_place[bucket("card")] > by_place[bucket("scan")] > by_place[bucket("a")]
    assert word_vector("", rarity_H)[1].tolist() == []


def test_log_odds_add_up_the_words_and_twins_share_them() -> None:
    found = request_words().of([digest(tool) for tool in (MAIL, SEARCH, OCR, OCR_GPU)])
    assert found is not None
    said = found.log_odds("scan web")
    half = 2**-0.5
    assert np.isnan(said[0])
    assert said[1:] == pytest.approx([3 * half - 0.5, half, half], abs=0.02)
    assert found.log_odds("nothing of this")[1:] == pytest.approx([-0.5, 0.0, 0.0])
    assert found.log_odds("")[1:] == pytest.approx([-0.5, 0.0, 0.0])


def test_registry_of_which_no_tool_was_asked_for_has_no_words() -> None:
    assert request_words().of([digest(MAIL)]) is None
    assert KnownTools.of([MAIL]).words_of([MAIL]) is None
    assert KnownTools.of([MAIL], request_words()).words_of([MAIL]) is None
    assert KnownTools.of([MAIL], request_words()).words_of([MAIL, OCR]) is not None


def test_job_keeps_its_strongest_words_and_none_that_hardly_count() -> None:
    kept = job(most=2, least=0.5, scan=-3.0, web=2.0, page=1.0)
    assert sorted(kept.buckets.tolist()) == sorted([bucket("scan"), bucket("web")])
    assert job(most=3, least=1.5, scan=-3.0, web=2.0, page=1.0).buckets.tolist() == kept.buckets.tolist()
    assert job(least=0.1, scan=0.05).buckets.tolist() == []


def test_file_holds_hashes_and_comes_back_the_same(tmp_path: Path) -> None:
    assert RequestWords.read(tmp_path) is None
    KnownTools.of([OCR], request_words()).write(tmp_path)
    first = (tmp_path / REQUEST_WORDS).read_bytes()
    again = RequestWords.read(tmp_path)
    assert again is not None
    assert len(again) == 3
    with np.load(tmp_path / REQUEST_WORDS) as stored:
        assert all(stored[name].dtype.kind in "iuf" for name in stored.files)  # no text
    (tmp_path / "again").mkdir()
    again.write(tmp_path / "again")
    assert (tmp_path / "again" / REQUEST_WORDS).read_bytes() == first
    tools = [digest(OCR), digest(SEARCH)]
    before, after = request_words().of(tools), again.of(tools)
    assert before is not None
    assert after is not None
    assert after.log_odds("scan the web") == pytest.approx(before.log_odds("scan the web"), abs=1e-3)
    assert KnownTools.read(tmp_path, words=False).words is None  # type: ignore[union-attr]
    assert KnownTools.read(tmp_path).words is not None  # type: ignore[union-attr]


def test_newer_words_replace_those_of_the_same_tool_and_keep_the_others() -> None:
    newer = RequestWords(EVEN, [job(letter=4.0), job(scan=9.0)], {digest(MAIL): 0, digest(OCR): 1})
    both = KnownTools.of([MAIL], newer).over(KnownTools.of([OCR], request_words()))
    found = both.words_of([MAIL, OCR, OCR_GPU, SEARCH])
    assert found is not None
    assert found.log_odds("scan") == pytest.approx([0.0, 9.0, 2.0, -0.5])
    assert both.know([MAIL, OCR, SEARCH]).tolist() == [True, True, False]
    assert found.source_N.tolist() == [0, 0, 1, 1]  # fitted apart
    alone = KnownTools.of([MAIL]).over(KnownTools.of([OCR], request_words()))
    assert alone.words_of([OCR]) is not None


# --- how the decoder hears it --------------------------------------------------------------------------------


def test_words_put_tools_behind_the_one_that_they_speak_for() -> None:
    options = DecodingOptions(word_logits_N=odds(ocr=0.0, translate=-1.0, search=2.0))
    said = heard(LOGITS, WORDS, options)
    assert said[3] == 9.0  # now the best, and as far from END as the best was
    assert said[3] - said[0] == pytest.approx(8.0 - (9.0 - 2.0))
    assert said[3] - said[1] == pytest.approx(8.0 - (3.0 - 3.0))
    assert said[3] - said[2] == pytest.approx(8.0 - 1.0)  # of which they know nothing
    assert said[4] == LOGITS[4]


def test_words_put_no_tool_farther_behind_than_so_many_logits() -> None:
    said = heard(LOGITS, WORDS, DecodingOptions(word_logits_N=odds(ocr=-50.0, search=2.0)))
    assert said[3] - said[0] == pytest.approx(8.0 - (9.0 - FARTHEST_BEHIND))


def test_words_of_a_tool_that_is_taken_hold_nobody_back() -> None:
    options = DecodingOptions(word_logits_N=odds(ocr=5.0, translate=1.0, search=2.0))
    after_ocr = heard(LOGITS, WORDS, options, taken=[0])
    assert after_ocr[0] - after_ocr[3] == pytest.approx(9.0 - 8.0)
    assert after_ocr[0] - after_ocr[1] == pytest.approx(9.0 - (3.0 - 1.0))
    everything = heard(LOGITS, WORDS, DecodingOptions(word_logits_N=odds(ocr=5.0)), taken=[0])
    assert everything.tolist() == LOGITS.tolist()


def test_words_of_sources_fitted_apart_are_not_compared() -> None:
    spoken = odds(ocr=9.0, translate=8.0, summarise=0.5, search=1.0)
    options = DecodingOptions(word_logits_N=spoken, word_source_N=np.array([4, 4, 2, 2]))
    said = heard(LOGITS, WORDS, options)
    assert said[0] - said[3] == pytest.approx(9.0 - 8.0)  # each the best of its own
    assert said[0] - said[1] == pytest.approx(9.0 - (3.0 - 1.0))
    assert said[3] - said[2] == pytest.approx(8.0 - (1.0 - 0.5))
    after_search = heard(LOGITS, WORDS, options, taken=[3])
    assert after_search[0] - after_search[2] == pytest.approx(9.0 - 1.0)


def test_words_look_at_candidates_alone() -> None:
    options = DecodingOptions(
        word_logits_N=odds(ocr=0.0, translate=-1.0, search=9.0), candidates_N=mask("ocr", "translate")
    )
    said = heard(LOGITS, WORDS, options)
    assert said[0] - said[1] == pytest.approx(9.0 - (3.0 - 1.0))


@pytest.mark.parametrize("described", [True, False])
def test_new_tool_that_is_but_a_name_stands_behind_as_most_do(described: bool) -> None:
    options = DecodingOptions(
        word_logits_N=odds(ocr=3.0, translate=1.0, summarise=0.0),
        novel_N=mask("search"),
        undescribed_N=mask() if described else mask("search"),
    )
    bonus = Calibration(words_weight=1.0, overlap_weight=0.0, novelty_bonus=0.5)
    said = heard(LOGITS, bonus, options)
    assert said[0] - said[3] == pytest.approx(9.0 - (8.5 if described else 8.0 - 2.0))


def test_words_change_nothing_where_nothing_is_known_of_them() -> None:
    for options in (DecodingOptions(), DecodingOptions(word_logits_N=odds())):
        assert heard(LOGITS, WORDS, options).tolist() == LOGITS.tolist()
    alike = DecodingOptions(word_logits_N=odds(ocr=1.0, translate=1.0, summarise=1.0, search=1.0))
    assert heard(LOGITS, WORDS, alike).tolist() == LOGITS.tolist()


def test_two_of_the_named_tools_are_those_that_both_readings_speak_for() -> None:
    """What the first slot says of the tools that are left counts once, however many slots are heard."""
    script = Script((Slot(say(ocr=9.0, search=4.0, translate=5.0)), Slot(say(search=6.0, translate=6.5) | {END: 9.0})))
    plain = DecodingOptions(num_steps=2, candidates_N=mask("ocr", "search", "translate"))
    assert tools_of(run(script, plain, WORDS)) == ["ocr", "translate"]
    spoken = DecodingOptions(
        num_steps=2,
        candidates_N=mask("ocr", "search", "translate"),
        word_logits_N=odds(ocr=6.0, search=3.0, translate=1.0),
    )
    assert tools_of(run(script, spoken, WORDS)) == ["ocr", "search"]


def test_planner_listens_to_the_words_of_training_requests() -> None:
    registry = ToolRegistry([OCR, SEARCH])
    script = Script((Slot(say(ocr=9.0, search=8.0) | {END: 1.0}), Slot({END: 9.0})))
    engine = ScriptedEngine(script, WORDS)
    engine.known_tools = KnownTools.of([OCR, SEARCH], request_words())
    assert Planner(engine).plan("web", registry).steps[0].tool_name == "search"
    assert Planner(engine).plan("scan", registry).steps[0].tool_name == "ocr"
    engine.known_tools = KnownTools.of([OCR, SEARCH])
    assert Planner(engine).plan("web", registry).steps[0].tool_name == "ocr"
