from __future__ import annotations

import asyncio

import pytest
from langchain_core.tools import tool as langchain_tool

from tomas_router.profiling import ProfiledTool
from tomas_router.profiling.tool import ProfiledToolError

pytestmark = pytest.mark.m0


def double(n: int) -> int:
    """Doubles a number.

    And here are details.
    """
    return 2 * n


async def double_later(n: int) -> int:
    """Doubles a number, after a while."""
    await asyncio.sleep(0)
    return 2 * n


def test_function_when_wrapped_lends_its_name_and_first_paragraph():
    spec = ProfiledTool(double, {"small": {"n": 1}}).spec()
    assert (spec.name, spec.desc) == ("double", "Doubles a number.")


@pytest.mark.parametrize("call", [double, double_later, langchain_tool(double)], ids=["function", "coroutine", "tool"])
def test_tool_when_run_returns_what_the_call_returns(call):
    tool = ProfiledTool(call, {"small": {"n": 21}})
    assert tool.run(tool.arguments("small")) == 42


def test_langchain_tool_when_wrapped_lends_its_name_and_description():
    tool = ProfiledTool(langchain_tool(double), {"small": {"n": 1}})
    assert tool.name == "double"
    assert tool.desc.startswith("Doubles a number.")


def test_inputs_when_a_function_are_made_anew_for_every_run():
    tool = ProfiledTool(double, {"small": lambda: {"n": []}})
    assert tool.arguments("small")["n"] is not tool.arguments("small")["n"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ProfiledTool(7, {"small": {}}, name="seven", desc="x"), "call must be a function or a .*, got 7"),
        (lambda: ProfiledTool(lambda: 0, {"small": {}}), "<lambda>: desc must be given"),
        (lambda: ProfiledTool(double, {}), "double: inputs must hold at least one of small, medium, large"),
        (lambda: ProfiledTool(double, {"huge": {}}), "double: inputs must be by small, medium, large, got 'huge'"),
        (lambda: ProfiledTool(double, {"small": [1]}).arguments("small"), r"inputs\['small'\] must be .* got list"),
    ],
)  # fmt: skip
def test_tool_when_not_well_described_says_what_is_missing(build, message):
    with pytest.raises(ProfiledToolError, match=message):
        build()
