from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.profiling.tools_to_measure import LEAVES_A_CHILD
from tomas_router.errors import MissingExtraError
from tomas_router.profiling.configuration import Configuration, parse_configuration
from tomas_router.profiling.measure import Cell, measure
from tomas_router.profiling.measurement import Measurement

pytestmark = pytest.mark.m0

GIB = 2**30
TARGET = f"{Path(__file__).with_name('tools_to_measure.py')}:tools"


def measured(tool: str, size: str = "small", config: str = "1", **cell) -> Measurement:
    settings = {"warmup": 1, "repeats": 2, "timeout_s": 20.0, **cell}
    return measure(Cell(TARGET, tool, size, parse_configuration(config), **settings))


def test_tool_when_it_behaves_has_all_runs_without_the_warm_up():
    m = measured("wait", repeats=3)
    assert (m.status, len(m.runs)) == ("ok", 3)
    assert 50 <= m.p50_ms < 1000
    assert m.cores_used < 0.5


@pytest.mark.parametrize(("size", "config"), [("small", "1"), ("medium", "2")])
def test_process_when_started_is_held_to_its_cores_and_sees_no_gpu(size, config):
    assert measured("expect_limits", size, config).detail == ""


def test_memory_when_touched_in_the_process_is_its_peak():
    few, many = measured("take_memory", "small"), measured("take_memory", "large")
    assert 0.9 * 190 * 2**20 < many.peak_bytes - few.peak_bytes < 1.1 * 190 * 2**20


def test_memory_when_touched_in_a_child_counts():
    assert measured("take_memory_in_a_child", "large").peak_bytes > 200 * 2**20


def test_memory_when_taken_to_make_the_input_does_not_count():
    assert measured("count_of_much").peak_bytes < 150 * 2**20


def test_input_when_the_tool_uses_it_up_is_made_anew():
    assert measured("consume", repeats=3).status == "ok"


@pytest.mark.parametrize(
    ("tool", "status", "detail"),
    [
        ("crash", "crashed", "ended by SIGSEGV"),
        ("leave", "crashed", "exit code 0 after 0 of 2 runs"),
        ("refuse", "failed", "ValueError: no such thing"),
        ("take_too_much_at_once", "out_of_memory", "MemoryError"),
        ("count_without_names", "failed", "must be a mapping of argument names, got int"),
    ],
)
def test_tool_when_it_fails_says_how(tool, status, detail):
    m = measured(tool)
    assert m.status == status
    assert detail in m.detail
    assert m.row(0.1) is None


def test_tool_when_it_eats_memory_is_ended_at_its_limit():
    m = measured("take_memory_for_ever", config="cpu_mem_gb=0.3")
    assert m.status == "out_of_memory"
    assert "the limit is 0.30 GiB" in m.detail
    assert m.peak_bytes < 0.6 * GIB


def test_tool_when_it_hangs_is_ended_with_its_children():
    m = measured("hang_in_a_child", timeout_s=0.5)
    assert (m.status, m.detail) == ("timed_out", "a call took over 0.5 s")
    left = [p for p in psutil.process_iter(["cmdline"]) if LEAVES_A_CHILD in (p.info["cmdline"] or [])]
    assert not left


def test_coroutine_when_measured_runs():
    assert measured("count_later").status == "ok"


def test_configuration_when_the_machine_lacks_it_is_unavailable(monkeypatch):
    assert "needs 100000 cores" in measured("count", config="100000").detail
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "needs GPU 0, NVML shows 0" in measured("count", config="gpu_sm=100").detail


def test_psutil_when_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingExtraError, match=r'measuring tools needs psutil: pip install "tomas-router\[host\]"'):
        measure(Cell(TARGET, "count", "small", Configuration(), 0, 1, 1.0))


def test_files_when_a_measurement_is_over_are_gone(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    measured("count")
    assert not list(Path(tmp_path).iterdir())


def test_cores_when_a_control_group_has_a_quota_are_whole_and_within_it(monkeypatch):
    from tomas_router.runtime import cgroup

    monkeypatch.setattr(cgroup, "cpu_levels", lambda: (cgroup.CpuLevel(1.9, 0.0),))
    assert "needs 2 cores, this process may use 1" in measured("count", config="2").detail


def test_memory_limit_when_none_is_asked_for_stays_within_the_control_group(monkeypatch):
    from tomas_router.runtime import cgroup

    monkeypatch.setattr(cgroup, "memory_levels", lambda: (cgroup.MemoryLevel(GIB, GIB // 2),))
    m = measured("take_memory_for_ever")
    assert "the limit is 0.40 GiB" in m.detail
