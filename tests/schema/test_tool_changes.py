"""A plan knows for which version and schema of a tool it was made."""

from __future__ import annotations

import pickle

import pytest

from tests.schema.test_plan import plan, step
from tomas_router import ToolRegistry
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.tool_changes import ToolChangedError, require_same_tools, tool_changes
from tomas_router.schema.tool_identity import identity, schema_hash

SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def registry(version: str | None = "1", parameters: dict | None = SCHEMA, name: str = "ocr") -> ToolRegistry:
    spec = {"name": name, "desc": "Reads pictures.", "parameters": parameters}
    return ToolRegistry.from_tools([spec | ({"version": version} if version else {})])


def planned(made_for: ToolRegistry) -> ToolPlan:
    tool = made_for.tools[0]
    extra = {"tool_name": tool.name, "tool_version": tool.version, "tool_schema_hash": tool.schema_hash}
    return ToolPlan.model_validate(plan(step(1, 500, **extra)))


def test_hash_when_only_words_change_stays() -> None:
    worded = {"title": "Args", "type": "object", "properties": {"path": {"type": "string", "description": "where"}}}
    assert schema_hash(worded | {"required": ["path"]}) == schema_hash(SCHEMA)


@pytest.mark.parametrize(
    "other",
    [
        None,
        SCHEMA | {"required": []},
        SCHEMA | {"properties": {"path": {"type": "integer"}}},
        SCHEMA | {"properties": {"path": {"type": "string"}, "title": {"type": "string"}}},
        SCHEMA | {"properties": {"path": {"type": "string", "default": {"title": "x"}}}},
    ],
)
def test_hash_when_other_arguments_are_right_changes(other: dict | None) -> None:
    assert schema_hash(other) != schema_hash(SCHEMA)


def test_identity_when_parts_are_unknown_leaves_them_out() -> None:
    assert identity("ocr", "2", "abc") == "ocr@2#abc"
    assert identity("ocr", None, None) == "ocr"


def test_plan_when_the_tools_are_the_same_is_fine() -> None:
    require_same_tools(planned(registry()), registry())


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (registry(version="2"), "ocr was planned in version 1, now it has 2"),
        (registry(version=None), "ocr was planned in version 1, now it has none"),
        (registry(parameters=None), "ocr was planned for arguments of schema"),
        (registry(name="other"), "ocr was planned and is not in the registry any more"),
    ],
)
def test_plan_when_a_tool_has_changed_is_refused_by_name(now: ToolRegistry, message: str) -> None:
    with pytest.raises(ToolChangedError, match=message) as caught:
        require_same_tools(planned(registry()), now)
    assert pickle.loads(pickle.dumps(caught.value)).changes == caught.value.changes  # noqa: S301


def test_plan_when_it_does_not_say_what_it_was_made_for_is_not_compared() -> None:
    assert tool_changes(ToolPlan.model_validate(plan(step(1, 500, tool_name="ocr"))), registry()) == ()
