import json
from pathlib import Path
from typing import Any

import pytest

from tomas_router.errors import DataValidationError, UnknownToolError
from tomas_router.schema.registry import ToolRegistry, load_tool_registry, read_registry

pytestmark = pytest.mark.m0


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tools.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_registry_when_several_tools_are_wrong_lists_all_of_them() -> None:
    with pytest.raises(DataValidationError) as caught:
        ToolRegistry.from_tools(
            [{"name": "", "desc": "x"}, {"name": "a", "desc": "b", "colour": 1}, {"name": "b", "desc": " "}]
        )
    assert [f.field for f in caught.value.findings] == ["tools[0].name", "tools[1].colour", "tools[2].desc"]


def test_registry_file_when_tools_are_wrong_names_line_and_place(tmp_path: Path) -> None:
    text = '{"tools": [\n {"name": "a", "desc": "A"},\n {"name": "b"},\n 7,\n {"name": "a", "desc": "again"}\n]}'
    with pytest.raises(DataValidationError) as caught:
        load_tool_registry(write(tmp_path, text))
    assert str(caught.value).splitlines() == [
        "tools.json:3: tools[1].desc is missing",
        "tools.json:4: tools[2] must be an object with 'name' and 'desc', got 7",
        "tools.json:5: tools[3].name must be unique, but tools[0] has the same, got 'a'",
    ]
    assert read_registry(tmp_path / "tools.json").names == {"a", "b"}


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({"name": "a" * 201, "desc": "x"}, "at most 200 characters"),
        ({"name": "a", "desc": "x" * 4001}, "at most 4000 characters"),
        ({"name": "two\nlines", "desc": "x"}, "must match pattern"),
        ({"name": "a", "desc": 5}, "must be a valid string, got 5"),
        ({"name": "a", "desc": "x", "parameters": {"type": "string"}}, "JSON Schema of an object"),
        ({"name": "a", "desc": "x", "parameters": {"default": float("nan")}}, "finite"),
        ({"name": "a", "desc": "x", "tags": "gpu"}, "must be a valid tuple"),
    ],
)
def test_tool_when_a_field_breaks_the_contract_is_refused(tool: dict[str, Any], message: str) -> None:
    with pytest.raises(DataValidationError, match=message):
        ToolRegistry.from_tools([tool])


def test_names_when_surrounded_by_spaces_are_trimmed_before_they_are_compared() -> None:
    with pytest.raises(DataValidationError, match=r"tools\[1\].name must be unique, but tools\[0\]"):
        ToolRegistry.from_tools([{"name": "crop", "desc": "a"}, {"name": " crop ", "desc": "b"}])


def test_registry_when_empty_or_too_large_is_refused() -> None:
    with pytest.raises(DataValidationError, match="at least one tool"):
        ToolRegistry.from_tools([])
    tool = ToolRegistry.from_tools([{"name": "a", "desc": "b"}])["a"]
    many = [tool.model_copy(update={"name": f"t{i}"}) for i in range(10_001)]
    assert len(ToolRegistry(many[:10_000])) == 10_000
    with pytest.raises(DataValidationError, match="at most 10000 tools, got 10001"):
        ToolRegistry(many)


def test_registry_when_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    registry = ToolRegistry.from_tools(
        [{"name": "a", "desc": "Ä", "tags": ["group:g"], "parameters": {"type": "object"}}, {"name": "b", "desc": "B"}]
    )
    registry.to_json(tmp_path / "tools.json")
    loaded = load_tool_registry(tmp_path / "tools.json")
    assert loaded.tools == registry.tools
    assert loaded.content_hash == registry.content_hash
    assert loaded["a"].group == "g"
    assert loaded["b"].group is None


def test_content_hash_when_text_or_order_changes_changes() -> None:
    tools = [{"name": "a", "desc": "A"}, {"name": "b", "desc": "B"}]
    variants = [tools, tools[::-1], [tools[0] | {"desc": "A!"}, tools[1]], tools[:1]]
    assert len({ToolRegistry.from_tools(v).content_hash for v in variants}) == 4


def test_registry_file_when_wrapped_in_an_object_is_read(tmp_path: Path) -> None:
    assert load_tool_registry(write(tmp_path, json.dumps({"tools": [{"name": "a", "desc": "b"}]}))).names == ("a",)
    with pytest.raises(DataValidationError, match="version is unknown"):
        load_tool_registry(write(tmp_path, json.dumps({"version": 1, "tools": [{"name": "a", "desc": "b"}]})))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[\n[", "tools.json:2: must be JSON"),
        ("3", "JSON list"),
        ("{}", "JSON list"),
        ("[]", "at least one tool"),
        ('[{"name": "a", "name": "b", "desc": "c"}]', "key 'name' repeats"),
    ],
)
def test_registry_file_when_malformed_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataValidationError, match=message):
        load_tool_registry(write(tmp_path, text))


def test_lookup_when_the_tool_is_unknown_names_it_and_the_closest() -> None:
    registry = ToolRegistry.from_tools([{"name": "crop_image", "desc": "b"}])
    with pytest.raises(UnknownToolError, match=r"'z' is not in the registry of 1 tools$"):
        registry["z"]
    with pytest.raises(UnknownToolError, match=r"did you mean 'crop_image'\?"):
        registry.subset(["crop_images"])


def test_subset_when_names_are_given_keeps_their_order() -> None:
    registry = ToolRegistry.from_tools([{"name": n, "desc": n} for n in "abc"])
    subset = registry.subset(["c", "a"])
    assert subset.names == ("c", "a")
    assert (subset.index("a"), "b" in subset, len(subset)) == (1, False, 2)
