from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tomas_router.errors import DataValidationError
from tomas_router.evaluation.sources import gold_shape, is_gate_only, load_source
from tomas_router.shipped import instructions_path

pytestmark = pytest.mark.m4


def row(name: str, split: str, *tools: str, **more: Any) -> dict[str, Any]:
    steps = [{"tool": tool, "depends_on": [k - 1] if k else []} for k, tool in enumerate(tools)]
    return {"id": name, "instruction": f"please {name}", "steps": steps, "split": split, **more}


def write(folder: Path, name: str, rows: list[dict[str, Any]], tools: list[str] | None = None) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    if tools is not None:
        specs = [{"name": tool, "desc": f"does {tool}"} for tool in tools]
        (folder / f"{name}.tools.json").write_text(json.dumps(specs), encoding="utf-8")
    return path


def test_load_source_when_a_registry_lies_beside_uses_it_and_the_split(tmp_path: Path) -> None:
    path = write(tmp_path, "sets", [row("a", "train", "x"), row("b", "val", "x", "y")], ["x", "y"])
    source = load_source(path)
    assert source.name == "sets"
    assert source.registry.names == ("x", "y")
    assert source.profiling is None
    assert ([r.id for r in source.rows], [r.id for r in source.training]) == (["b"], ["a"])
    assert gold_shape(source.rows[0]).links() == (("x", "y"),)
    assert source.request(source.rows[0]).links == "dataflow"


def test_load_source_when_edges_are_call_order_asks_for_order(tmp_path: Path) -> None:
    path = write(tmp_path, "ultratool", [row("b", "val", "x", "y")], ["x", "y"])
    source = load_source(path)
    assert source.request(source.rows[0]).links == "order"


def test_load_source_when_the_set_is_a_variant_borrows_registry_and_training(tmp_path: Path) -> None:
    write(tmp_path, "metatool", [row("a", "train", "x"), row("v", "val", "x")], ["x"])
    path = write(
        tmp_path,
        "metatool_multi",
        [row("b", "val", "x", "TaxHelper", candidates=["x", "TaxHelper", "z"], unordered=True)],
    )
    source = load_source(path)
    assert source.registry.names == ("x", "TaxHelper", "z")
    assert source.registry["TaxHelper"].desc == "tax helper"
    assert "2 tools" in source.notes[0]
    assert [r.id for r in source.training] == ["a"]
    assert not source.edges_known
    request = source.request(source.rows[0])
    assert (request.num_steps, request.candidates) == (2, ("x", "TaxHelper", "z"))


def test_load_source_when_no_row_has_the_split_names_those_that_exist(tmp_path: Path) -> None:
    path = write(tmp_path, "sets", [row("a", "train", "x")], ["x"])
    with pytest.raises(
        DataValidationError, match=r"sets.jsonl: must hold rows of split 'val'; splits here: train \(1\)"
    ):
        load_source(path)


def test_load_source_when_it_is_ours_brings_profiles_and_training_rows() -> None:
    source = load_source(instructions_path("val"), limit=5)
    assert source.name == "own_val"
    assert len(source.rows) == 5
    assert source.profiling is not None
    assert len(source.training) > 1000
    assert all(r.split == "train" for r in source.training)


def test_is_gate_only_when_rows_say_only_whether_is_true(tmp_path: Path) -> None:
    path = write(tmp_path, "gate", [{"id": "a", "instruction": "hi", "needs_tool": True, "split": "val"}])
    source = load_source(path)
    assert is_gate_only(source.rows)
    assert len(source.registry) > 50  # the shipped one stands in


def test_load_source_when_training_misses_tools_lists_them_as_unseen(tmp_path: Path) -> None:
    path = write(tmp_path, "sets", [row("a", "train", "x"), row("b", "val", "y")], ["x", "y", "z"])
    assert load_source(path).unseen == {"y", "z"}


def test_load_source_when_a_twin_was_met_counts_the_group_as_met(tmp_path: Path) -> None:
    path = write(tmp_path, "sets", [row("a", "train", "x"), row("b", "val", "y")], ["x"])
    specs = [{"name": name, "desc": name, "tags": ["group:g"]} for name in ("x", "y")]
    (tmp_path / "sets.tools.json").write_text(json.dumps(specs), encoding="utf-8")
    assert load_source(path).unseen == set()


def test_load_source_when_tools_are_held_out_learns_from_no_row_that_names_them(tmp_path: Path) -> None:
    rows = [row("a", "train", "x"), row("c", "train", "x", "y"), row("b", "val", "y")]
    source = load_source(write(tmp_path, "sets", rows, ["x", "y"]), held_out=("y",))
    assert [r.id for r in source.training] == ["a"]
    assert source.unseen == {"y"}


def test_trained_as_when_ours_or_borrowed_is_the_name_that_training_uses(tmp_path: Path) -> None:
    write(tmp_path, "metatool", [row("a", "train", "x"), row("v", "val", "x")], ["x"])
    variant = write(tmp_path, "metatool_multi", [row("b", "val", "x")])
    assert load_source(variant).trained_as == "metatool"
    assert load_source(instructions_path("val"), limit=1).trained_as == "own"
    worlds = instructions_path("val").with_name("worlds_val.jsonl")
    assert load_source(worlds, limit=1).trained_as == "worlds_val"
