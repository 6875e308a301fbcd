from __future__ import annotations

from dataclasses import replace

import pytest

from tomas_router.datasets.rows import Row, Step
from tomas_router.evaluation.candidate_lists import Likeness, candidate_lists, likeness
from tomas_router.evaluation.sources import EvalSource
from tomas_router.schema.registry import ToolRegistry

pytest.importorskip("sklearn")
pytestmark = pytest.mark.m4

FAMILIES = ("apple", "brick", "cloud", "drum", "eagle")
TOOLS = [{"name": f"{f}{k}", "desc": f"Handles one {f} and {f} number n{k}."} for f in FAMILIES for k in range(10)]
TOOLS.append({"name": "apple_gpu", "desc": "Handles one apple on a GPU.", "tags": ["group:apple"]})
TOOLS[0] = TOOLS[0] | {"tags": ["group:apple"]}
REGISTRY = ToolRegistry.from_tools(TOOLS)
ROW = Row(id="r", instruction="an apple please", steps=(Step("apple0", (), None, "apple"),), split="val")
SOURCE = EvalSource("s", (ROW,), (), REGISTRY, None, edges_known=True, call_order=False)


@pytest.fixture(scope="module")
def alike() -> Likeness:
    return likeness(REGISTRY, ())


def test_candidate_lists_when_similar_hold_the_right_tool_and_its_family_without_twins(alike: Likeness) -> None:
    similar = candidate_lists(SOURCE, ROW, alike, 0)["similar_10"]
    assert similar[0] == "apple0"
    assert len(set(similar)) == 10
    assert sum(name.startswith("apple") for name in similar) == 10
    assert "apple_gpu" not in similar


def test_candidate_lists_when_absent_leave_out_the_right_tool_its_twins_and_what_is_alike(alike: Likeness) -> None:
    found = candidate_lists(SOURCE, ROW, alike, 0)
    assert len(set(found["absent_10"])) == 10
    assert not any(name.startswith("apple") for name in found["absent_10"])
    assert found["present_10"] == ("apple0", *found["absent_10"][:9])
    assert set(found["absent_all"]) == set(REGISTRY.names) - {"apple0", "apple_gpu"}


def test_candidate_lists_when_counted_grow_and_hold_the_right_tools(alike: Likeness) -> None:
    found = candidate_lists(SOURCE, ROW, alike, 0)
    sizes = [n for n in (5, 10, 20, 50, 100) if f"of_{n}" in found]
    assert sizes == [5, 10, 20, 50]
    assert all(len(found[f"of_{n}"]) == n and {"apple0", "apple_gpu"} <= set(found[f"of_{n}"]) for n in sizes)
    assert set(found["of_5"]) < set(found["of_10"]) < set(found["of_20"])


def test_candidate_lists_when_drawn_again_depend_on_row_and_seed_alone(alike: Likeness) -> None:
    first = candidate_lists(SOURCE, ROW, alike, 0)
    assert candidate_lists(SOURCE, ROW, alike, 0) == first
    assert candidate_lists(SOURCE, ROW, alike, 1)["absent_10"] != first["absent_10"]
    assert candidate_lists(SOURCE, replace(ROW, id="q"), alike, 0)["of_10"] != first["of_10"]


def test_candidate_lists_when_a_tool_was_never_met_name_those_like_it(alike: Likeness) -> None:
    unseen = frozenset({"apple0", "apple_gpu", "drum3"})
    assert set(candidate_lists(replace(SOURCE, unseen=unseen), ROW, alike, 0)["unseen_among"]) == unseen
    met = replace(SOURCE, unseen=frozenset({"drum3", "drum4"}))
    assert "unseen_among" not in candidate_lists(met, ROW, alike, 0)
    assert "unseen_among" not in candidate_lists(replace(SOURCE, unseen=frozenset(REGISTRY.names)), ROW, alike, 0)


def test_candidate_lists_when_the_row_brings_candidates_stay_within_them(alike: Likeness) -> None:
    row = replace(ROW, candidates=("apple0", *(f"drum{k}" for k in range(9))))
    found = candidate_lists(SOURCE, row, alike, 0)
    assert set(found) == {"of_5", "absent_all"}
    assert set(found["absent_all"]) == {f"drum{k}" for k in range(9)}


def test_candidate_lists_when_the_registry_is_small_are_left_out() -> None:
    registry = ToolRegistry.from_tools(TOOLS[1:3])
    source = replace(SOURCE, registry=registry)
    row = replace(ROW, steps=(Step("apple1"),))
    assert candidate_lists(source, row, likeness(registry, ()), 0) == {}
