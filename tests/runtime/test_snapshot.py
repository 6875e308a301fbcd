from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tomas_router.errors import MissingExtraError
from tomas_router.runtime import snapshot

pytestmark = pytest.mark.m2


def test_snapshot_is_one_held_row_with_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = SimpleNamespace(
        cpu_percent=lambda interval: 50.0, virtual_memory=lambda: SimpleNamespace(available=8 * 2**30)
    )
    monkeypatch.setitem(sys.modules, "psutil", psutil)
    monkeypatch.setattr(snapshot, "usable_cores", lambda: 8.0)
    monkeypatch.setattr(snapshot.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(snapshot, "free_memory_bytes", lambda available: available)
    monkeypatch.setattr(snapshot, "gpu_state", lambda index: snapshot.GpuState(70.0, 12.0))
    timeline = snapshot.live_timeline(sample_s=0)
    assert timeline.capacity.tolist() == [[4.0, 8.0, 70.0, 12.0]]
    assert timeline.tail == "hold"
    assert timeline.epoch_ms is not None


def test_missing_psutil_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tomas-router\[host\]"'):
        snapshot.live_timeline()


def test_container_limits_bound_cores_and_memory(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(str(4 * 2**30))
    (tmp_path / "memory.current").write_text(str(3 * 2**30))
    assert snapshot.usable_cores(tmp_path) == 0.5
    assert snapshot.free_memory_bytes(64 * 2**30, tmp_path) == 2**30
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert snapshot.usable_cores(tmp_path) >= 1
    assert snapshot.free_memory_bytes(7, tmp_path) == 7


def test_host_without_nvml_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert snapshot.gpu_state(0) == snapshot.GpuState(0.0, 0.0)


def test_package_import_never_loads_the_snapshot() -> None:
    code = (
        "import sys, tomas_router, tomas_router.planner.planner; print('tomas_router.runtime.snapshot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
