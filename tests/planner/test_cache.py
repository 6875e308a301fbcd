from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest

from tests.planner.scripted_engine import Script, ScriptedEngine
from tomas_router.planner import cache
from tomas_router.planner.cache import EncodingCache, tool_key
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

pytestmark = pytest.mark.m3


def registry(*names: str) -> ToolRegistry:
    return ToolRegistry.from_tools({"name": name, "desc": f"does {name}"} for name in names)


def profile(tool: str, latency_ms: float = 10) -> ProfilingTable:
    row = {"tool": tool, "input_size": "small", "cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}
    return ProfilingTable.from_rows([{**row, "latency_ms": latency_ms}])


def test_same_registry_is_encoded_once() -> None:
    engine, tools = ScriptedEngine(Script()), registry("a", "b")
    encodings = EncodingCache(engine)
    assert encodings.encodings(tools, None) is encodings.encodings(tools, None)
    assert sorted(engine.encoded) == ["a", "b"]


def test_equal_registry_in_another_object_is_not_encoded_again() -> None:
    engine = ScriptedEngine(Script())
    encodings = EncodingCache(engine)
    encodings.encodings(registry("a", "b"), None)
    encodings.encodings(registry("a", "b"), None)
    assert len(engine.encoded) == 2


def test_only_new_tools_of_a_changed_registry_are_encoded_and_order_is_kept() -> None:
    engine = ScriptedEngine(Script())
    encodings = EncodingCache(engine)
    encodings.encodings(registry("a", "b"), None)
    mixed = encodings.encodings(registry("c", "b", "a"), None)
    assert sorted(engine.encoded) == ["a", "b", "c"]
    fresh = EncodingCache(ScriptedEngine(Script())).encodings(registry("c", "b", "a"), None)
    np.testing.assert_array_equal(mixed.v_toolaware_ND, fresh.v_toolaware_ND)
    np.testing.assert_array_equal(mixed.prefix_values, fresh.prefix_values)


def test_changed_profile_rows_encode_that_tool_again() -> None:
    engine, tools = ScriptedEngine(Script()), registry("a", "b")
    encodings = EncodingCache(engine)
    bare = encodings.encodings(tools, None)
    profiled = encodings.encodings(tools, profile("a"))
    assert sorted(engine.encoded) == ["a", "a", "b"]
    assert not np.array_equal(bare.v_toolaware_ND[0], profiled.v_toolaware_ND[0])


def test_tool_key_covers_name_description_rows_and_weights() -> None:
    tool = ToolSpec(name="a", desc="does a")
    keys = [
        tool_key(tool, None, "w1"),
        tool_key(tool, None, "w2"),
        tool_key(ToolSpec(name="b", desc="does a"), None, "w1"),
        tool_key(ToolSpec(name="a", desc="does b"), None, "w1"),
        tool_key(tool, profile("a"), "w1"),
        tool_key(tool, profile("a", 20), "w1"),
    ]
    assert len(set(keys)) == len(keys)
    assert tool_key(tool, profile("other"), "w1") == keys[0]


def test_encodings_on_disk_serve_a_new_process(tmp_path: Path) -> None:
    first = EncodingCache(ScriptedEngine(Script()), tmp_path).encodings(registry("a", "b"), None)
    engine = ScriptedEngine(Script())
    second = EncodingCache(engine, tmp_path).encodings(registry("b", "c", "a"), None)
    assert engine.encoded == ["c"]
    np.testing.assert_array_equal(second.v_toolaware_ND[[2, 0]], first.v_toolaware_ND)
    third = ScriptedEngine(Script())
    EncodingCache(third, tmp_path).encodings(registry("a", "b", "c"), None)
    assert third.encoded == []


def test_other_weights_never_read_old_encodings(tmp_path: Path) -> None:
    EncodingCache(ScriptedEngine(Script()), tmp_path).encodings(registry("a"), None)
    engine = ScriptedEngine(Script(), fingerprint="scripted-2")
    EncodingCache(engine, tmp_path).encodings(registry("a"), None)
    assert engine.encoded == ["a"]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_damaged_file_is_ignored_with_a_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    EncodingCache(ScriptedEngine(Script()), tmp_path).encodings(registry("a"), None)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(content)
    engine = ScriptedEngine(Script())
    with caplog.at_level(logging.WARNING):
        EncodingCache(engine, tmp_path).encodings(registry("a"), None)
    assert engine.encoded == ["a"]
    assert "damaged cache file" in caplog.text


def test_large_registry_is_encoded_in_batches_back_in_its_own_order() -> None:
    names = [f"tool_{'x' * (i % 7)}{i}" for i in range(100)]
    engine = ScriptedEngine(Script())
    got = EncodingCache(engine).encodings(registry(*names), None)
    alone = engine.encode_tools(engine.prepare_tools(registry(*names).tools, None))
    np.testing.assert_array_equal(got.v_toolaware_ND, alone.v_toolaware_ND)


def test_progress_is_silent_when_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PROGRESS_AFTER_S", 0.0)
    EncodingCache(ScriptedEngine(Script())).encodings(registry("a"), None)
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(cache, "PROGRESS_AFTER_S", 0.0)
    EncodingCache(ScriptedEngine(Script())).encodings(registry("a"), None)
    assert "encoding tools" in terminal.getvalue()
