"""The GPU profile's script: its law, its table, and a very small run of it on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_law import fit
from benchmarks.gpu_profile_table import RawProfileError, laws, profile_of, write_and_print
from benchmarks.gpu_raw import append, load_tools, read_raw
from tomas_router import load_profiling_matrix, load_tool_registry

pytestmark = pytest.mark.m0

ROOT = Path(__file__).parents[2]
SMS = {100.0: 132, 10.0: 16, 20.0: 24, 30.0: 40, 50.0: 64, 75.0: 96}
MACHINE = {
    "kind": "machine", "held_by": "green", "tiny": False, "measured_at": "2026-01-01T00:00:00+00:00",
    "system": "Linux", "architecture": "x86_64", "cpu_model": "a CPU", "usable_cores": 16, "memory_gib": 128.0,
    "python": "3.12.0", "torch": "2.11.0", "cuda": "13.0", "gpu": "a GPU", "sm_count": 132, "gpu_memory_gib": 79.1,
}  # fmt: skip


def _raw(path: Path, **machine: object) -> Path:
    """What the script would write for one tool whose latency follows the law exactly."""
    append(path, MACHINE | machine)
    for share, sms in SMS.items():
        append(path, {"kind": "probe", "share": share, "sm_count": sms, "tflops": 700 * sms / 132})
        for size, units in zip(("small", "medium", "large"), (1, 16, 64), strict=True):
            latency = 3 + 0.05 * units + (0.2 + 0.12 * units) * 132 / sms
            append(path, {
                "kind": "cell", "tool": "classify_images_vit", "input_size": size, "share": share, "unit": "images",
                "units": units, "status": "ok", "detail": "", "runs": [{"latency_ms": latency, "cpu_ms": latency}] * 4,
                "gpu_peak_bytes": 2**30, "sm_count": sms, "peak_bytes": 2**31,
            })  # fmt: skip
    return path


def _script(raw: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_profile", "--raw", str(raw), "--only", "embed_passages"]
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*command, *arguments], cwd=ROOT, env=no_gpu, capture_output=True, text=True, timeout=120)


def test_law_when_latencies_follow_it_is_found_again():
    b, s = (grid.ravel() for grid in np.meshgrid([1, 8, 64], [0.1, 0.3, 0.5, 1.0]))
    found = fit(b, s, 2 + 0.5 * b + (1 + 0.25 * b) / s)
    assert np.allclose(found.law.k, (2, 0.5, 1, 0.25))
    assert found.mape < 1e-9
    assert found.left_out_mape < 1e-9
    assert found.law.serial_share(8) == pytest.approx(6 / 9)


def test_law_when_a_larger_share_slows_down_has_no_negative_part():
    b, s = (grid.ravel() for grid in np.meshgrid([1, 8, 64], [0.1, 0.3, 0.5, 1.0]))
    found = fit(b, s, 5 + b + s)
    assert min(found.law.k) >= 0
    assert 0 < found.mape < found.left_out_p95


def test_law_when_points_are_few_says_how_many_it_needs():
    with pytest.raises(ValueError, match="at least 6 points, got 3"):
        fit([1, 2, 3], [1, 1, 1], [1, 2, 3])


def test_profile_when_shares_are_green_contexts_reserves_the_sms_that_were_used(tmp_path):
    profile = profile_of(read_raw(_raw(tmp_path / "raw.jsonl")))
    assert {m.gpu_sm for m in profile.measurements} == {12.2, 18.2, 30.4, 48.5, 72.8, 100.0}
    assert profile.machine.gpu_sm_counts == (132,)
    assert laws(read_raw(tmp_path / "raw.jsonl"))["classify_images_vit"].mape < 1e-6


def test_profile_when_shares_are_held_by_mps_reserves_what_was_asked_for(tmp_path):
    profile = profile_of(read_raw(_raw(tmp_path / "raw.jsonl", held_by="mps")))
    assert {m.gpu_sm for m in profile.measurements} == set(SMS)


def test_table_when_written_can_be_read_with_its_registry(tmp_path, capsys):
    raw, csv, registry = _raw(tmp_path / "raw.jsonl"), tmp_path / "gpu.csv", tmp_path / "gpu.json"
    crashed = {"tool": "encode_speech", "input_size": "large", "share": 10.0, "status": "crashed", "detail": "?"}
    append(raw, {"kind": "cell", "runs": [], **crashed})
    assert write_and_print(raw, csv, registry) == 0
    table = load_profiling_matrix(csv, load_tool_registry(registry))
    assert table.tools == ("classify_images_vit",)
    assert "18 | 0.0% | 0.0%" in capsys.readouterr().out
    assert [m["status"] for m in json.loads(csv.with_suffix(".meta.json").read_text())["measurements"]][-1] == "crashed"


@pytest.mark.parametrize("machine", [{"held_by": "nothing"}, {"tiny": True}])
def test_profile_when_no_share_was_in_force_is_refused(tmp_path, machine):
    with pytest.raises(RawProfileError, match="must be held by mps or green contexts"):
        profile_of(read_raw(_raw(tmp_path / "raw.jsonl", **machine)))


def test_script_when_tried_on_the_cpu_measures_every_size_and_continues_where_it_ended(tmp_path):
    raw = tmp_path / "raw.jsonl"
    first = _script(raw, "--cpu", "--tiny", "--shares", "100")
    assert first.returncode == 0, first.stdout + first.stderr
    cells = [line for line in read_raw(raw) if line["kind"] == "cell"]
    assert [cell["input_size"] for cell in cells] == ["small", "medium", "large"]
    assert all(cell["status"] == "ok" and len(cell["runs"]) >= 4 and cell["peak_bytes"] > 0 for cell in cells)
    again = _script(raw, "--cpu", "--tiny", "--shares", "100")
    assert "3 of 3 cells" in again.stdout
    assert [line for line in read_raw(raw) if line["kind"] == "cell"] == cells


def test_script_when_there_is_no_gpu_says_so_and_leaves_nothing_behind(tmp_path):
    ended = _script(tmp_path / "raw.jsonl", "--mode", "green")
    assert ended.returncode == 1
    assert "torch sees no GPU" in ended.stdout
    assert not (tmp_path / "raw.jsonl").exists()


def test_tools_when_given_to_the_profiler_have_all_sizes():
    tools = load_tools().tools()
    assert len(tools) == 8
    assert all(set(tool.inputs) == {"small", "medium", "large"} for tool in tools)
