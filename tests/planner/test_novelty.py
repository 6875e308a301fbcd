"""Tools that training never showed: how they are recognised, and how the planner ranks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tests.planner.test_decoding import NAMES, TWO, mask, run, say, tools_of
from tomas_router.features.known_tools import KNOWN_TOOLS, KnownTools
from tomas_router.planner.decoding import DecodingOptions, heard
from tomas_router.planner.engine import Calibration
from tomas_router.planner.novelty import Novelty
from tomas_router.planner.planner import Planner
from tomas_router.planner.word_overlap import WordOverlap
from tomas_router.schema.registry import ToolRegistry, ToolSpec

pytestmark = pytest.mark.m3

OCR, SEARCH = ToolSpec(name="ocr", desc="Reads text in pictures."), ToolSpec(name="search", desc="Searches the web.")
BONUS = Calibration(novelty_bonus=2.0, overlap_weight=0.0)
OVERLAP = Calibration(novelty_bonus=0.0, overlap_weight=10.0)
NEARLY = Script((Slot(say(ocr=9.0, search=8.0, translate=3.0) | {END: 5.0}), Slot({END: 9.0})))


def test_known_tools_are_recognised_by_name_and_description() -> None:
    known = KnownTools.of([OCR])
    described = ToolSpec(name=OCR.name, desc="Reads text in scans.")
    others = [OCR, SEARCH, described, ToolSpec(name="OCR", desc=OCR.desc)]
    assert known.know(others).tolist() == [True, False, False, False]
    assert known.over(KnownTools.of([SEARCH])).know(others).tolist() == [True, True, False, False]


def test_known_tools_file_holds_digests_and_no_text(tmp_path: Path) -> None:
    assert KnownTools.read(tmp_path) is None
    KnownTools.of([SEARCH, OCR]).write(tmp_path)
    lines = (tmp_path / KNOWN_TOOLS).read_text().splitlines()
    assert len(lines) == 2
    assert lines == sorted(lines)
    assert all(len(line) == 16 and int(line, 16) >= 0 for line in lines)
    again = KnownTools.read(tmp_path)
    assert again is not None
    assert again.know([OCR, SEARCH]).all()


def test_novel_tools_are_unknown_where_nobody_noted_what_was_shown() -> None:
    registry = ToolRegistry([OCR, SEARCH])
    assert Novelty(None).of(registry) is None
    found = Novelty(KnownTools.of([OCR])).of(registry)
    assert found is not None
    assert found.novel_N.tolist() == [False, True]
    assert Novelty(KnownTools.of([OCR, SEARCH])).of(registry).overlap("read this") is None  # type: ignore[union-attr]


def test_novelty_follows_the_registry() -> None:
    novelty = Novelty(KnownTools.of([OCR]))
    first, second = ToolRegistry([OCR, SEARCH]), ToolRegistry([SEARCH])
    for _ in range(2):
        assert [n.novel_N.tolist() for n in (novelty.of(first), novelty.of(second)) if n] == [[False, True], [True]]


def test_novelty_indexes_the_same_tools_once_however_often_their_registry_is_made() -> None:
    novelty = Novelty(KnownTools())
    first = novelty.of(ToolRegistry([OCR, SEARCH]))
    assert novelty.of(ToolRegistry([OCR, SEARCH])) is first
    described = ToolSpec(name=SEARCH.name, desc="Searches a folder.")
    assert novelty.of(ToolRegistry([OCR, described])) is not first


def test_word_overlap_counts_telling_words_in_any_form() -> None:
    overlap = WordOverlap(["printStationery Prints menus and cards.", "send_mail Sends mail.", "plot Draws a chart."])
    found = overlap.of("Have 60 menus and ten table numbers printed, please")
    assert found.argmax() == 0
    assert found[1:].tolist() == [0.0, 0.0]  # no word of those two that says anything
    assert overlap.of("mails sending").argmax() == 1
    assert overlap.of("menus card prints stationery")[0] == pytest.approx(0.97, abs=0.05)
    assert overlap.of("Have you any of the?").tolist() == [0.0, 0.0, 0.0]
    assert WordOverlap(["天气 查询城市的天气预报", "地图 显示地图"]).of("查一下北京的天气").argmax() == 0


def test_rare_words_tell_more_than_common_ones() -> None:
    overlap = WordOverlap(["resize photo", "rotate photo", "tag photo", "crop photo video"])
    assert overlap.of("crop it, a photo").argmax() == 3
    assert overlap.of("photo")[3] < overlap.of("photo")[0]  # its text says more beside that


def test_novelty_bonus_lets_a_new_tool_pass_one_that_training_showed() -> None:
    assert tools_of(run(NEARLY, DecodingOptions(), BONUS)) == ["ocr"]
    assert tools_of(run(NEARLY, DecodingOptions(novel_N=mask("search")), BONUS)) == ["search"]
    assert tools_of(run(NEARLY, DecodingOptions(novel_N=mask("translate")), BONUS)) == ["ocr"]  # too far behind


@pytest.mark.parametrize("novel", [(), NAMES])
def test_novelty_bonus_changes_nothing_where_all_tools_are_alike(novel: tuple[str, ...]) -> None:
    options = DecodingOptions(novel_N=mask(*novel))
    logits = np.array([9.0, 3.0, 1.0, 8.0, 5.0])
    assert heard(logits, BONUS, options).tolist() == logits.tolist()
    assert run(TWO, options, BONUS) == run(TWO, DecodingOptions(), BONUS)


def test_novelty_bonus_looks_at_candidates_alone() -> None:
    both_known = DecodingOptions(novel_N=mask("translate"), candidates_N=mask("ocr", "search"))
    logits = np.array([9.0, 3.0, 1.0, 8.0, 5.0])
    assert heard(logits, BONUS, both_known).tolist() == logits.tolist()


def test_correction_leaves_the_best_tool_as_far_from_end_as_before() -> None:
    logits = np.array([9.0, 3.0, 1.0, 8.0, 5.0])
    for calibration in (BONUS, OVERLAP, Calibration()):
        options = DecodingOptions(novel_N=mask("search", "translate"), overlap_N=np.array([0.1, 0.9, 0.2, 0.3]))
        changed = heard(logits, calibration, options)
        assert changed[:-1].max() == 9.0
        assert changed[-1] == 5.0
    refused = Script((Slot(say(ocr=5.5, search=5.4) | {END: 5.0}),))
    options = DecodingOptions(novel_N=mask("search"))
    assert run(refused, options, replace(BONUS, match_margin=1.0)).no_tool == "no_match"
    assert run(refused, options, replace(BONUS, match_margin=0.2)).no_tool is None


def test_overlap_ranks_new_tools_and_no_others() -> None:
    shared = np.array([0.1, 0.1, 0.1, 0.4])
    all_new = DecodingOptions(novel_N=mask(*NAMES), overlap_N=shared)
    assert tools_of(run(NEARLY, all_new, OVERLAP)) == ["search"]
    known = DecodingOptions(novel_N=mask("translate"), overlap_N=shared)
    assert tools_of(run(NEARLY, known, OVERLAP)) == ["ocr"]


def test_planner_counts_words_where_tools_are_new() -> None:
    registry = ToolRegistry.from_tools({"name": name, "desc": f"can {name}"} for name in NAMES)
    script = Script((Slot(say(ocr=9.0, search=8.0) | {END: 1.0}), Slot({END: 9.0})))

    def planned(known: KnownTools | None) -> str:
        engine = ScriptedEngine(script, OVERLAP)
        engine.known_tools = known
        return Planner(engine).plan("search the web", registry).steps[0].tool_name

    assert planned(None) == "ocr"
    assert planned(KnownTools.of(registry.tools)) == "ocr"
    assert planned(KnownTools()) == "search"


def test_planner_prefers_a_tool_added_after_training_that_fits_nearly_as_well() -> None:
    registry = ToolRegistry.from_tools({"name": name, "desc": f"can {name} things"} for name in NAMES)
    engine = ScriptedEngine(NEARLY, BONUS)
    assert Planner(engine).plan("do it", registry).steps[0].tool_name == "ocr"
    engine.known_tools = KnownTools.of(tool for tool in registry if tool.name != "search")
    plan = Planner(engine).plan("do it", registry)
    assert [step.tool_name for step in plan.steps] == ["search"]
    assert [choice.tool_name for choice in plan.steps[0].alternatives][:1] == ["ocr"]
