from __future__ import annotations

from typing import Annotated

import pytest

from tomas_router import ProfilingTable, ToolRegistry
from tomas_router.errors import DataValidationError
from tomas_router.schema.profiling import ResourceConfig
from tomas_router.schema.tool_objects import profiled

pytest.importorskip("langchain_core")

from langchain_core.tools import tool

from tomas_router.langgraph import InjectedResources

ROW = {"input_size": "small", "cpu_core": 2, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0, "latency_ms": 900}


@tool
def count_words(text: str, unique: bool = False) -> int:
    """Counts the words of a text."""
    return len(text.split())


def shout(text: str) -> str:
    """Writes a text in capitals.

    Nobody reads this paragraph.
    """
    return text.upper()


def test_registry_when_read_from_tools_has_names_descriptions_and_schemas():
    registry = ToolRegistry.from_langchain([count_words, shout])
    assert registry.names == ("count_words", "shout")
    assert registry["count_words"].desc == "Counts the words of a text."
    assert registry["count_words"].parameters["required"] == ["text"]
    assert registry["shout"].desc == "Writes a text in capitals."
    assert registry["shout"].parameters is None


@pytest.mark.parametrize("above", [True, False], ids=["above @tool", "below @tool"])
def test_profile_when_decorated_reaches_registry_and_table(above):
    def make(text: str) -> str:
        """Does something heavy."""
        return text

    mark = profiled([ROW], tags=["group:heavy"])
    made = mark(tool(make)) if above else tool(mark(make))
    registry = ToolRegistry.from_langchain([made])
    assert registry["make"].group == "heavy"
    assert ProfilingTable.from_langchain([made]).rows("make")[0].latency_ms == 900


def test_profile_when_an_mcp_server_sends_it_is_read():
    plain = tool(shout)
    plain.metadata = {"_meta": {"tomas": {"profile": [ROW]}}}
    assert len(ProfilingTable.from_langchain([plain])) == 1


def test_schema_when_a_parameter_is_injected_hides_it():
    @tool
    def heavy(path: str, resources: Annotated[ResourceConfig, InjectedResources()]) -> str:
        """Does something heavy."""
        return path

    assert list(ToolRegistry.from_langchain([heavy])["heavy"].parameters["properties"]) == ["path"]


def test_registry_when_tools_are_wrong_lists_all_of_it():
    bare = tool(shout)
    bare.metadata = {"tomas": {"prfile": []}}
    with pytest.raises(DataValidationError) as error:
        ToolRegistry.from_langchain([object(), lambda: None, bare])
    text = str(error.value)
    assert "tools[0]" in text
    assert "description" in text
    assert "prfile" in text


def test_registry_when_two_tools_have_one_name_refuses():
    with pytest.raises(DataValidationError, match="must be unique"):
        ToolRegistry.from_langchain([count_words, count_words])


def test_table_when_a_row_is_wrong_names_row_and_field():
    with pytest.raises(DataValidationError, match="cpu_core"):
        ProfilingTable.from_langchain([profiled([ROW | {"cpu_core": -1}])(shout)])
