"""Requests in other languages: the files, their findings, and what is composed from them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tomas_router.datasets.build import build_worlds
from tomas_router.datasets.rows import Row, Step, load_rows
from tomas_router.datasets.telling import Asked
from tomas_router.datasets.tongues import LANGUAGES, TongueTeller, load_words
from tomas_router.datasets.worlds import World, load_tongues, load_worlds, tongue_rows, world_registry
from tomas_router.errors import DataValidationError
from tomas_router.schema.registry import ToolRegistry, ToolSpec
from tomas_router.training.batches import Augmentation, BatchSampler, expected_tokens
from tomas_router.training.sources import Source

DATA = Path(__file__).parents[2] / "data" / "instructions"
HAN = re.compile(r"[\u4e00-\u9fff]")
WORLD = """tool {name}
desc Does {name}.
{feeds}
order do {name} with [a|b]
order run {name}
order start {name}
ask Could somebody look after {name}?
ask I need {name}, urgently
ask what about {name}
ask {name} is overdue.
then hand it to {name}
then let {name} finish it
"""
SPOKEN = """tool alpha
order mach alpha mit [eins|zwei|drei] ({mark})
ask Wer kümmert sich um alpha? ({mark})
ask alpha ist [heute|morgen|bald] fällig ({mark})
tool beta
ask beta [dringend|irgendwann] ({mark})
then gib es an beta ({mark})
plan Erst alpha, dann beta ({mark}). => alpha; beta(0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A held-out world with tools alpha, beta and gamma, written in German and in Spanish."""
    feeds = {"alpha": "feeds beta, gamma"}
    tools = "".join(WORLD.format(name=name, feeds=feeds.get(name, "")) for name in ("alpha", "beta", "gamma"))
    (tmp_path / "events.txt").write_text(tools)
    for language in ("de", "es"):
        (tmp_path / f"events.{language}.txt").write_text(SPOKEN.format(mark=f"mark-{language}"), encoding="utf-8")
    return tmp_path


def spoken(folder: Path) -> dict[str, list[World]]:
    return load_tongues(load_worlds("val", folder), folder)


def test_tongue_when_read_has_the_tools_it_speaks_of_and_feeds_only_those(folder: Path) -> None:
    found = spoken(folder)
    assert list(found) == ["de", "es"]
    world = found["de"][0]
    assert (world.name, list(world.tools)) == ("events", ["alpha", "beta"])
    assert world.tools["alpha"].feeds == ["beta"]
    assert [(s.tool, s.depends_on) for s in world.plans[0].steps] == [("alpha", ()), ("beta", (0,))]


@pytest.mark.parametrize(
    ("old", "new", "expected", "line"),
    [
        ("tool beta", "tool omega", "must be a tool of events.txt", 5),
        ("tool beta", "tool alpha", "must be new in its file", 5),
        ("then gib", "danach gib", "must be tool, plan, or order", 7),
        ("tool alpha\n", "", "behind a tool", 1),
        ("ask beta [dringend|irgendwann] (mark-de)\n", "", "at least one line 'order' or 'ask'", 5),
        ("[eins|zwei|drei]", "[eins]", "alternatives", 2),
        ("=> alpha; beta(0)", "=> alpha; delta(0)", "must be a tool of this world", 8),
    ],
)
def test_tongue_when_malformed_is_refused_with_file_and_line(
    folder: Path, old: str, new: str, expected: str, line: int
) -> None:
    path = folder / "events.de.txt"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(DataValidationError, match=expected) as caught:
        spoken(folder)
    assert f"events.de.txt:{line}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"), [("events.xx.txt", "a language of de, es, zh, fr"), ("tours.de.txt", "tours.txt")]
)
def test_tongue_when_it_belongs_to_nothing_is_refused(folder: Path, name: str, expected: str) -> None:
    (folder / name).write_text("tool alpha\nask alpha\n")
    with pytest.raises(DataValidationError, match=expected) as caught:
        spoken(folder)
    assert name in str(caught.value)


def test_tongue_rows_when_composed_keep_to_one_language_and_are_reproducible(folder: Path) -> None:
    found = spoken(folder)
    rows = tongue_rows(found, 120, "train")
    assert rows == tongue_rows(found, 120, "train")
    assert {language_of(row) for row in rows} == {"de", "es"}
    told = [row for row in rows if row.kind != "no_tool"]
    for row in told:
        marks = set(re.findall(r"mark-(\w\w)", row.instruction.lower()))
        assert marks <= {language_of(row)}, row.instruction
    assert sum("mark-" in row.instruction.lower() for row in told) > 0.9 * len(told)
    assert set(Counter(row.kind for row in rows)) == {"single", "written", "chain", "parallel", "dag", "no_tool"}
    assert not any("[" in row.instruction or "{" in row.instruction for row in rows)


def test_tongue_rows_when_no_tool_is_needed_say_so(folder: Path) -> None:
    rows = tongue_rows(spoken(folder), 120, "train")
    assert all(row.needs_tool == bool(row.steps) == (row.kind != "no_tool") for row in rows)


def test_tongue_rows_when_chained_depend_on_the_step_before(folder: Path) -> None:
    chained = [row for row in tongue_rows(spoken(folder), 120, "train") if row.kind == "chain"]
    assert {tuple((s.tool, s.depends_on) for s in row.steps) for row in chained} == {(("alpha", ()), ("beta", (0,)))}


@pytest.mark.parametrize("language", LANGUAGES)
def test_teller_when_it_says_everything_it_can_leaves_no_slot(language: str) -> None:
    tell = TongueTeller(load_words(language), np.random.default_rng(1))
    one, two = Asked("Eins.", "eins"), Asked("Zwei?")
    for _ in range(60):
        texts = [
            tell.chain(one, ["drei"]), tell.chain(two, ["drei", "vier"]), tell.parallel([one, one]),
            tell.parallel([one, two, one]), tell.branches("Eins.", "it", ["drei", "vier"]),
            tell.branches("Eins.", "it", ["drei", "vier", "fünf"]), tell.polite(one), tell.then("drei"),
        ]  # fmt: skip
        assert not any("{" in text for text in texts)
        assert all("drei" in text.lower() for text in texts[:2])


def test_words_when_malformed_are_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "de.txt").write_text("then danach\nthen {b} {b}\nwhat {b}\n")
    with pytest.raises(DataValidationError) as caught:
        load_words("de", tmp_path)
    told = str(caught.value)
    assert "de.txt:1" in told
    assert "de.txt:2" in told
    assert "de.txt:3" in told
    assert "must have at least one line" in told


def test_words_when_the_language_is_unknown_say_which_there_are() -> None:
    with pytest.raises(ValueError, match="de, es, zh, fr, got 'it'"):
        load_words("it")


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_when_held_out_differ_from_those_of_training(language: str) -> None:
    words = load_words(language)
    assert not set(words["chat"]) & set(words["chat_new"])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_shipped_tongues_are_sound_and_in_their_script(split: str) -> None:
    found = load_tongues(load_worlds(split))
    assert set(found) >= {"de", "es", "zh"}
    for language, worlds in found.items():
        for world in worlds:
            lines = [text for t in world.tools.values() for text in (*t.orders, *t.asks, *t.thens)]
            lines += [plan.text for plan in world.plans]
            assert len(set(lines)) > 0.95 * len(lines), (world.name, language)
            for text in lines:
                assert bool(HAN.search(text)) == (language == "zh"), (world.name, language, text)


def test_shipped_tongues_when_asked_alone_never_share_a_request_between_tools() -> None:
    for language, worlds in load_tongues(load_worlds("train")).items():
        for world in worlds:
            asked = [text for tool in world.tools.values() for text in {*tool.orders, *tool.asks}]
            assert len(set(asked)) == len(asked), (world.name, language)


def test_shipped_rows_of_held_out_worlds_when_rebuilt_are_identical(tmp_path: Path) -> None:
    build_worlds(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_text(encoding="utf-8") == (DATA / path.name).read_text(encoding="utf-8"), path.name
    assert len(list(tmp_path.iterdir())) == 6


def test_shipped_tongue_rows_ask_only_for_held_out_tools_in_every_language() -> None:
    rows = load_rows(DATA / "worlds_tongues_test.jsonl")
    assert 120 <= len(rows) <= 200
    assert {language_of(row) for row in rows} == set(LANGUAGES)
    held_out = world_registry([*load_worlds("val"), *load_worlds("test")])
    assert {step.tool for row in rows for step in row.steps} <= set(held_out.names)
    trained = {text for worlds in load_tongues(load_worlds("train")).values() for w in worlds for text in _texts(w)}
    assert not trained & {row.instruction for row in rows}


def test_training_when_it_joins_rows_leaves_other_languages_alone() -> None:
    rows = [Row(str(i), f"text {i}", (Step(f"t{i}"),), language="de" if i < 4 else "en") for i in range(8)]
    source = Source("worlds", ToolRegistry([ToolSpec(name=f"t{i}", desc="d") for i in range(8)]), None, tuple(rows))
    sampler = BatchSampler.__new__(BatchSampler)
    sampler.rng, sampler.augmentation = np.random.default_rng(1), Augmentation(compose_singles=1.0)
    joined = sampler._compose_some(rows, source)
    assert [row.id for row in joined if row.language == "de"] == ["0", "1", "2", "3"]
    assert sum(len(row.steps) == 2 for row in joined) == 2


def test_expected_tokens_when_text_is_chinese_counts_more_than_letters() -> None:
    assert expected_tokens("把会议录音转成文字") > 3 * expected_tokens("transcribe")


def language_of(row: Row) -> str:
    return row.id.split("-")[1]


def _texts(world: World) -> set[str]:
    return {text for tool in world.tools.values() for text in (*tool.orders, *tool.asks)}
