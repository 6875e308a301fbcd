import json
from pathlib import Path

import pytest

from tomas_router.errors import DataValidationError, UnknownToolError
from tomas_router.schema.registry import ToolRegistry, load_tool_registry

pytestmark = pytest.mark.m0


def test_registry_when_several_tools_are_wrong_lists_all_of_them() -> None:
    with pytest.raises(DataValidationError) as caught:
        ToolRegistry.from_tools(
            [{"name": "", "desc": "x"}, {"name": "a", "desc": "b", "colour": 1}, {"name": "b", "desc": " "}]
        )
    text = str(caught.value)
    assert len(caught.value.findings) == 3
    assert "tools[0].name" in text
    assert "tools[1].colour" in text
    assert "tools[2].desc" in text


def test_registry_when_a_name_repeats_is_refused() -> None:
    with pytest.raises(DataValidationError, match=r"unique.*'crop'"):
        ToolRegistry.from_tools([{"name": "crop", "desc": "a"}, {"name": "crop", "desc": "b"}])


def test_registry_when_empty_is_refused() -> None:
    with pytest.raises(DataValidationError, match="at least one tool"):
        ToolRegistry.from_tools([])


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


def test_registry_file_when_wrapped_in_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"tools": [{"name": "a", "desc": "b"}]}))
    assert load_tool_registry(tmp_path / "t.json").names == ("a",)


@pytest.mark.parametrize(("text", "message"), [("[", "must be JSON"), ("3", "JSON list"), ("[5]", r"tools\[0\]")])
def test_registry_file_when_malformed_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataValidationError, match=message):
        load_tool_registry(tmp_path / "t.json")


def test_lookup_when_the_tool_is_unknown_names_it() -> None:
    registry = ToolRegistry.from_tools([{"name": "a", "desc": "b"}])
    with pytest.raises(UnknownToolError, match="'z' is not in the registry of 1 tools"):
        registry["z"]
