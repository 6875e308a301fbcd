from __future__ import annotations

import pytest

from tomas_router import ToolRegistry
from tomas_router.langgraph.arguments import ArgumentError, check_arguments, resolve
from tomas_router.planner.static import static_plan

SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["text"],
    "additionalProperties": False,
}
REGISTRY = ToolRegistry.from_tools([{"name": n, "desc": n, "parameters": SCHEMA} for n in ("first", "second")])
OUTPUTS = {"s1": {"text": "hello", "items": [{"url": "u0"}, {"url": "u1"}]}}


def plan(**args):
    return static_plan("first", "second", args={"s1": {"text": "x"}, **args})


def test_check_when_arguments_are_right_says_nothing():
    check_arguments(plan(s2={"text": {"$from": "s1", "path": "$.text"}, "count": 2}), REGISTRY)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"count": 2}, "s2 misses text"),
        ({"text": 5}, r"s2 \(second\) text: 5 is not of type 'string'"),
        ({"text": "x", "count": 0}, "less than the minimum"),
        ({"text": "x", "colour": 1}, "'colour' was unexpected"),
        ({"text": {"$from": "s7"}}, "s7, which is not an earlier step"),
        ({"text": {"$from": "s1", "path": "text"}}, "a path must look like"),
    ],
)
def test_check_when_something_is_wrong_names_step_and_argument(args, message):
    with pytest.raises(ArgumentError, match=message):
        check_arguments(plan(s2=args), REGISTRY)


def test_check_when_arguments_are_missing_lists_them_by_step():
    with pytest.raises(ArgumentError) as error:
        check_arguments(static_plan("first", "second"), REGISTRY)
    assert error.value.missing == {"s1": ("text",), "s2": ("text",)}


def test_check_when_a_reference_is_no_dependency_refuses():
    apart = static_plan(
        "first", "second", links="parallel", args={"s1": {"text": "x"}, "s2": {"text": {"$from": "s1"}}}
    )
    with pytest.raises(ArgumentError, match="does not depend on it"):
        check_arguments(apart, REGISTRY)


def test_resolve_when_nested_follows_paths_everywhere():
    value = {"a": [{"$from": "s1", "path": "$.items[1].url"}], "b": {"$from": "s1", "path": "$.text"}, "c": 3}
    assert resolve(value, OUTPUTS) == {"a": ["u1"], "b": "hello", "c": 3}
    assert resolve({"$from": "s1"}, OUTPUTS) == OUTPUTS["s1"]


@pytest.mark.parametrize("path", ["$.nothing", "$.items[9]", "$.text.more"])
def test_resolve_when_the_output_has_no_such_place_says_what_there_is(path):
    with pytest.raises(ArgumentError, match="s1 has no"):
        resolve({"$from": "s1", "path": path}, OUTPUTS)


def test_resolve_when_the_step_returned_nothing_says_so():
    with pytest.raises(ArgumentError, match="s3 has returned nothing"):
        resolve({"$from": "s3"}, OUTPUTS)
