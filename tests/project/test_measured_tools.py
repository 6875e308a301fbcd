"""The measured example: its tools work, and the shipped profile is theirs."""

from __future__ import annotations

import gzip
import lzma
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

from tomas_router import load_profiling_matrix, load_tool_registry
from tomas_router.profiling.results import read_profile
from tomas_router.profiling.target import load_tools

pytestmark = pytest.mark.m0

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "measured_tools.py"
CSV = ROOT / "data" / "profiling" / "measured_cpu.csv"
REGISTRY = ROOT / "data" / "tool_registry" / "measured_cpu.json"
TOOLS = {tool.name: tool for tool in load_tools(f"{EXAMPLE}:tools")}

RIGHT = {
    "gzip_compress": lambda given, got: gzip.decompress(got) == given["data"],
    "xz_compress": lambda given, got: lzma.decompress(got) == given["data"],
    "archive_folder": lambda given, got: [gzip.decompress(data) for data in got] == given["files"],
    "verify_checksums": lambda given, got: len(got) == len(given["files"]) and len(set(got)) == 1,
    "resize_image": lambda given, got: got.width == given["image"].width // 3,
    "blur_image": lambda given, got: np.std(np.asarray(got)) < np.std(np.asarray(given["image"])) / 2,
    "html_to_text": lambda given, got: "more & more" in got and "var x" not in got and "<" not in got,
    "query_database": lambda given, got: len(got) == 50,
    "group_table": lambda given, got: np.isclose(got["sum"].sum(), given["table"]["amount"].sum()),
    "join_tables": lambda given, got: len(got) > len(given["left"]),
    "read_csv_table": lambda given, got: list(got.columns) == ["customer", "region", "amount"],
    "embed_texts": lambda given, got: len(got) == len(given["texts"]) and np.isfinite(got).all(),
    "search_pattern": lambda given, got: got and all(found.endswith("@example.org") for found in got),
    "count_words": lambda given, got: len(got) > 20 and got[0][1] >= got[-1][1],
    "transform_json": lambda given, got: '"total"' in got and '"user"' not in got,
    "multiply_matrices": lambda given, got: np.allclose(got[0], given["a"][0] @ given["b"]),
    "solve_equations": lambda given, got: np.allclose(given["a"] @ got, given["b"]),
    "sort_numbers": lambda given, got: (np.diff(got) >= 0).all(),
    "resample_audio": lambda given, got: len(got) * 44_100 == len(given["samples"]) * 16_000,
    "audio_spectrogram": lambda given, got: got.shape[1] == 513 and np.isfinite(got).all(),
}


@pytest.mark.parametrize("name", TOOLS)
def test_tool_when_run_on_a_small_input_does_its_job(name):
    tool = TOOLS[name]
    given = tool.arguments("small")
    assert RIGHT[name](given, tool.run(given))


def test_tone_when_resampled_keeps_its_pitch_and_loudness():
    resample = runpy.run_path(str(EXAMPLE))["resample_audio"]
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * 44_100) / 44_100)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * 16_000) / 16_000)
    assert np.allclose(resample(tone), expected, atol=1e-3)


def test_inputs_when_larger_are_larger():
    for tool in TOOLS.values():
        assert set(tool.inputs) == {"small", "medium", "large"}


def test_profile_when_shipped_has_a_row_for_every_tool_and_size():
    registry = load_tool_registry(REGISTRY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_profiling_matrix(CSV, registry)
    assert [(tool.name, tool.desc) for tool in registry] == [(tool.name, tool.desc) for tool in TOOLS.values()]
    sizes = ("small", "medium", "large")
    assert {(r.tool, r.input_size) for r in table.all_rows} == {(name, size) for name in TOOLS for size in sizes}


def test_profile_when_shipped_offers_a_second_core_only_to_tools_that_use_it():
    table = load_profiling_matrix(CSV, load_tool_registry(REGISTRY))
    on_two = {row.tool for row in table.all_rows if row.cpu_core == 2 and row.input_size == "large"}
    assert {"archive_folder", "verify_checksums", "multiply_matrices"} <= on_two
    assert not {"resize_image", "gzip_compress", "html_to_text", "query_database", "sort_numbers"} & on_two


def test_profile_when_shipped_is_what_its_metadata_measured():
    profile = read_profile(CSV.with_suffix(".meta.json"))
    shipped = load_profiling_matrix(CSV, load_tool_registry(REGISTRY))
    assert profile.table().all_rows == shipped.all_rows
    assert all(len(m.runs) == profile.settings.repeats for m in profile.measurements)


def test_profile_when_shipped_shows_that_work_grows_with_the_input():
    table = load_profiling_matrix(CSV, load_tool_registry(REGISTRY))
    for name in TOOLS:
        small, large = (table.rows(name, size)[0] for size in ("small", "large"))
        assert large.latency_ms > 3 * small.latency_ms, name


def test_gpu_profile_when_shipped_is_of_every_gpu_tool_at_every_size():
    folder = ROOT / "data"
    registry = load_tool_registry(folder / "tool_registry" / "measured_gpu.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_profiling_matrix(folder / "profiling" / "measured_gpu.csv", registry)
    sizes = ("small", "medium", "large")
    assert len(registry) >= 6
    assert {(r.tool, r.input_size) for r in table.all_rows} == {(n, size) for n in registry.names for size in sizes}
    assert {r.config.gpu_sm for r in table.all_rows} == {10, 20, 30, 50, 75, 100}
