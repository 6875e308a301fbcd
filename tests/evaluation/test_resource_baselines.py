from __future__ import annotations

import numpy as np
import pytest

from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytest.importorskip("sklearn")
from tomas_router.evaluation.resource_baselines import resource_baselines

pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "whisper_large", "desc": "Speech recognition of audio recordings."},
        {"name": "whisper_tiny", "desc": "Speech recognition of audio recordings, fast."},
        {"name": "sql_query", "desc": "Reads tables of a database."},
    ]
)


def row(tool: str, size: str, cpu: float, sm: float, latency: float) -> dict[str, object]:
    return {"tool": tool, "input_size": size, "cpu_core": cpu, "cpu_mem_gb": 1.0, "gpu_sm": sm, "gpu_mem_gb": 0.0,
            "latency_ms": latency}  # fmt: skip


PROFILING = ProfilingTable.from_rows(
    [
        row("whisper_large", "small", 2, 50, 1000),
        row("whisper_large", "small", 8, 0, 3000),
        row("whisper_tiny", "small", 1, 0, 200),
        row("whisper_tiny", "small", 3, 0, 100),
        row("sql_query", "small", 1, 0, 50),
        row("sql_query", "large", 4, 0, 5000),
    ]
)


def test_mean_row_when_sizes_differ_averages_within_the_size() -> None:
    guess = resource_baselines(PROFILING, REGISTRY)["mean row"]("anything", "small")
    assert guess is not None
    np.testing.assert_allclose(guess, [3.0, 1.0, 10.0, 0.0, 870.0])


def test_nearest_tool_when_texts_are_alike_takes_the_twin_and_never_itself() -> None:
    guess = resource_baselines(PROFILING, REGISTRY)["nearest tool (TF-IDF)"]("whisper_large", "small")
    assert guess is not None
    np.testing.assert_allclose(guess, [2.0, 1.0, 0.0, 0.0, 150.0])


def test_largest_profile_when_a_row_holds_half_a_gpu_prefers_it_to_eight_cores() -> None:
    guesses = resource_baselines(PROFILING, REGISTRY)["largest profile"]
    found = guesses("whisper_large", "small")
    assert found is not None
    assert found[2] == 50
    assert guesses("whisper_large", "large") is None
