"""Worlds: the file format, its findings, and what is composed from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tomas_router.datasets.worlds import TEST_WORLDS, VAL_WORLDS, load_worlds, world_registry, world_rows
from tomas_router.datasets.worlds.world import read_world
from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import FindingLog

TOOL = """tool {name}
desc Does {name}.
{feeds}
order do {name} with [a|b|c|d]
order run {name} on [one|two|three]
order start {name} for [Ana|Bob]
ask Could somebody look after {name}?
ask I need {name}, urgently
ask what about {name} for [Mia|Kai]
ask {name} is overdue.
then hand it to {name}
then let {name} finish it
"""
PLAN = "plan First alpha, then beta with it [now|today]. => alpha; beta(0)\n"


def world_file(folder: Path, name: str = "events", names: tuple[str, ...] = ("alpha", "beta", "gamma")) -> Path:
    path = folder / f"{name}.txt"
    feeds = {names[0]: f"feeds {', '.join(names[1:])}"}
    path.write_text("# world\n" + "".join(TOOL.format(name=n, feeds=feeds.get(n, "")) for n in names) + PLAN)
    return path


def test_world_when_read_has_tools_and_plans(tmp_path: Path) -> None:
    path = world_file(tmp_path)
    log = FindingLog.of(path)
    world = read_world(path, log)
    assert not log.findings
    assert list(world.tools) == ["alpha", "beta", "gamma"]
    assert world.tools["alpha"].feeds == ["beta", "gamma"]
    assert [(s.tool, s.depends_on) for s in world.plans[0].steps] == [("alpha", ()), ("beta", (0,))]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("=> alpha; beta(0)", "=> alpha; delta(0)", "must be a tool of this world"),
        ("=> alpha; beta(0)", "=> alpha; beta(1)", "must use earlier steps only"),
        ("=> alpha; beta(0)", "alpha; beta(0)", "must have '=>'"),
        ("desc Does beta.", "descr Does beta.", "must be a keyword"),
        ("feeds beta, gamma", "feeds beta, omega", "must name tools of this world"),
        ("then hand it to gamma\n", "", "at least 2 lines 'then'"),
        ("[Ana|Bob]", "[Ana]", "alternatives"),
        ("tool gamma", "tool alpha", "must be new"),
    ],
)
def test_world_when_malformed_is_refused_with_file_and_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = world_file(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataValidationError, match=expected) as caught:
        load_worlds("val", tmp_path)
    assert "events.txt:" in str(caught.value)


def test_rows_when_drawn_are_of_the_world_reproducible_and_varied(tmp_path: Path) -> None:
    world_file(tmp_path)
    worlds = load_worlds("val", tmp_path)
    rows = world_rows(worlds, 200, "val")
    assert rows == world_rows(worlds, 200, "val")
    assert {row.domain for row in rows} == {"events"}
    assert len({row.instruction for row in rows}) == len(rows)
    assert set(Counter(row.kind for row in rows)) == {"single", "written", "chain", "parallel", "dag"}
    assert not any("[" in row.instruction or "{" in row.instruction for row in rows)
    for row in rows:
        assert all(0 <= d < i for i, step in enumerate(row.steps) for d in step.depends_on)


def test_shipped_worlds_are_sound_many_and_apart() -> None:
    splits = {split: load_worlds(split) for split in ("train", "val", "test")}
    assert [w.name for w in splits["val"]] == sorted(VAL_WORLDS)
    assert [w.name for w in splits["test"]] == sorted(TEST_WORLDS)
    registries = {split: world_registry(worlds) for split, worlds in splits.items()}
    assert sum(len(r.names) for r in registries.values()) >= 900
    assert sum(len(worlds) for worlds in splits.values()) >= 25
    for world in (w for worlds in splits.values() for w in worlds):
        assert len(world.plans) >= 15
        asked = [text for tool in world.tools.values() for text in (*tool.orders, *tool.asks)]
        assert len(set(asked)) == len(asked), world.name


def test_load_worlds_when_the_split_is_unknown_says_what_exists() -> None:
    with pytest.raises(ValueError, match="train, val or test, got 'dev'"):
        load_worlds("dev")
