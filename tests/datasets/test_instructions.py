"""The shipped instructions: complete, consistent, reproducible, and not solved by copying a neighbour."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tomas_router.datasets import connectives
from tomas_router.datasets.composer import Composer
from tomas_router.datasets.entities import BUCKETS, fill, plain_slots, sized_slots
from tomas_router.datasets.instruction_generator import generate, normalised
from tomas_router.datasets.nearest_copy import copied_plan_share
from tomas_router.datasets.phrasings import load_bank
from tomas_router.datasets.rows import Row, load_rows, to_json
from tomas_router.schema.registry import ToolRegistry, load_tool_registry

DATA = Path(__file__).parents[2] / "data"
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def registry() -> ToolRegistry:
    return load_tool_registry(DATA / "tool_registry" / "tools.json")


@pytest.fixture(scope="module")
def shipped() -> dict[str, list[Row]]:
    return {split: load_rows(DATA / "instructions" / f"{split}.jsonl") for split in SPLITS}


def test_shipped_rows_when_rebuilt_are_identical(registry: ToolRegistry) -> None:
    for split, rows in generate(registry, seed=7).items():
        text = (DATA / "instructions" / f"{split}.jsonl").read_text(encoding="utf-8")
        assert "".join(to_json(row) + "\n" for row in rows) == text, split


def test_splits_when_counted_are_large_and_mixed(shipped: dict[str, list[Row]]) -> None:
    assert {split: len(rows) for split, rows in shipped.items()} == {"train": 2600, "val": 300, "test": 400}
    for rows in shipped.values():
        kinds = Counter(row.kind for row in rows)
        assert set(kinds) == {"single", "chain", "parallel", "dag", "no_tool"}
        assert min(kinds.values()) >= 0.05 * len(rows)


def test_instructions_across_splits_never_repeat(shipped: dict[str, list[Row]]) -> None:
    texts = [normalised(row.instruction) for rows in shipped.values() for row in rows]
    assert len(set(texts)) == len(texts)


def test_every_row_when_read_is_consistent(shipped: dict[str, list[Row]], registry: ToolRegistry) -> None:
    for row in (row for rows in shipped.values() for row in rows):
        assert row.explanation, row.id
        assert row.needs_tool == bool(row.steps) == (row.kind != "no_tool"), row.id
        for step in row.steps:
            assert step.input_size in BUCKETS, row.id
            assert step.group is None or registry[step.tool].group == step.group, row.id
        edges = [step.depends_on for step in row.steps]
        if row.kind == "chain":
            assert edges == [(i - 1,) if i else () for i in range(len(edges))], row.id
            assert 2 <= len(edges) <= 5, row.id
        if row.kind == "parallel":
            assert len(edges) >= 2, row.id
            assert not any(edges), row.id
        if row.kind == "dag":
            assert len(edges) >= 3, row.id
            assert any(edges), row.id


def test_every_tool_occurs_and_unseen_ones_only_outside_training(
    shipped: dict[str, list[Row]], registry: ToolRegistry
) -> None:
    used = {split: {s.group or s.tool for row in rows for s in row.steps} for split, rows in shipped.items()}
    unseen = set(json.loads((DATA / "instructions" / "meta.json").read_text(encoding="utf-8"))["unseen_tools"])
    units = {tool.group or tool.name for tool in registry}
    assert 12 <= len(unseen) <= 15
    assert not used["train"] & unseen
    assert units - unseen <= used["train"]
    assert unseen <= used["test"]
    assert unseen <= used["val"]
    pinned = {s.tool for row in shipped["train"] for s in row.steps if s.group is None}
    assert {tool.name for tool in registry if tool.group} <= pinned


def test_test_wording_when_compared_with_training_is_new() -> None:
    for unit in load_bank().values():
        assert not set(unit.asks) & set(unit.held_out_asks), unit.name
        assert not set(unit.followups) & set(unit.held_out_followups), unit.name
        assert not unit.unseen or not (unit.asks or unit.followups), unit.name


def test_copying_the_nearest_training_plan_scores_below_seventy_percent(shipped: dict[str, list[Row]]) -> None:
    assert copied_plan_share(shipped["train"], shipped["test"]) < 0.70
    assert copied_plan_share(shipped["train"], shipped["train"][:40]) == 1.0


def test_fill_when_sized_uses_words_of_one_bucket() -> None:
    rng = np.random.default_rng(0)
    for slot in sized_slots():
        for bucket in BUCKETS:
            assert fill(f"use {{{slot}}}", rng, held_out=False, size=bucket).size == bucket
    assert all(fillers.seen and fillers.held_out for fillers in plain_slots().values())
    assert fill("Is {audio} clear?", np.random.default_rng(0), False, "small").text.startswith("Is ")


def test_repeated_request_when_composed_names_one_tool_on_different_inputs(registry: ToolRegistry) -> None:
    composer = Composer(registry, list(load_bank().values()), np.random.default_rng(3), held_out_share=0.0)
    made = [composer.repeated() for _ in range(20)]
    assert all(len({step.tool for step in m.steps}) == 1 and not any(s.depends_on for s in m.steps) for m in made)
    assert any(len(m.steps) > 1 for m in made)


def test_fan_in_when_composed_uses_both_results(registry: ToolRegistry) -> None:
    composer = Composer(registry, list(load_bank().values()), np.random.default_rng(3), held_out_share=1.0)
    made = [composer.fan_in() for _ in range(10)]
    assert all(m.steps[2].depends_on == (0, 1) for m in made)


def test_connectives_when_held_out_differ_from_training() -> None:
    wordings = [w for w in vars(connectives).values() if isinstance(w, connectives.Wordings)]
    assert wordings
    assert all(not set(w.seen) & set(w.held_out) for w in wordings)
