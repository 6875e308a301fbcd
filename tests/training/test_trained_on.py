from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from tomas_router.datasets.worlds import load_worlds, world_registry
from tomas_router.features.known_tools import KnownTools, digest
from tomas_router.features.request_words import BUCKETS, JobWords, RequestWords
from tomas_router.schema.registry import ToolSpec, load_tool_registry
from tomas_router.shipped import instructions_path, model_dir, registry_path
from tomas_router.training.artifacts import trained_on_of
from tomas_router.training.checkpoint import write_known_tools, write_trained_on

pytestmark = pytest.mark.m4

EVEN = np.ones(BUCKETS, dtype=np.float32)


def words_of(tool: ToolSpec) -> RequestWords:
    return RequestWords(EVEN, [JobWords.of(EVEN, 0.0, most=3, least=0.0)], {digest(tool): 0})


def test_trained_on_when_noted_holds_this_run_and_the_one_before(tmp_path: Path) -> None:
    write_trained_on(tmp_path, ["worlds", "own"], ("metatool", "own"))
    assert trained_on_of(tmp_path) == ("metatool", "own", "worlds")


def test_trained_on_when_the_start_is_unknown_stays_unknown(tmp_path: Path) -> None:
    write_trained_on(tmp_path, ["own"], None)
    assert trained_on_of(tmp_path) is None


def test_trained_on_when_the_model_is_packaged_is_in_its_manifest() -> None:
    names = trained_on_of(model_dir())
    assert names is not None
    assert "own" in names
    assert not any(name.startswith("taskbench") for name in names)  # its registries must stay unseen


def test_known_tools_when_noted_hold_this_run_and_the_one_before(tmp_path: Path) -> None:
    first, second, third = (ToolSpec(name=f"tool_{i}", desc="does it") for i in range(3))
    write_known_tools(tmp_path, [first], words_of(first), KnownTools.of([second], words_of(third)))
    found = KnownTools.read(tmp_path)
    assert found is not None
    assert found.know([first, second, third]).tolist() == [True, True, False]
    assert [found.words_of([tool]) is not None for tool in (first, second, third)] == [True, False, True]


def test_known_tools_when_those_of_the_start_are_unknown_stay_unknown(tmp_path: Path) -> None:
    tool = ToolSpec(name="tool", desc="does it")
    write_known_tools(tmp_path, [tool], words_of(tool), None)
    assert KnownTools.read(tmp_path) is None


def test_known_tools_when_the_model_is_packaged_are_ours_and_not_those_of_held_out_worlds() -> None:
    known = KnownTools.read(model_dir())
    assert known is not None
    own = load_tool_registry(registry_path())
    unseen = json.loads(instructions_path("train").with_name("meta.json").read_text())["unseen_tools"]
    assert {tool.name for tool, met in zip(own, known.know(own.tools), strict=True) if not met} == set(unseen)
    assert known.know(world_registry(load_worlds("train")).tools).mean() > 0.9  # some worlds are younger than the model
    held_out = load_tool_registry(instructions_path("worlds_val").with_name("worlds_val.tools.json"))
    assert not known.know(held_out.tools).any()
