from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fake_nvml import FakeNvml
from tomas_router.errors import MissingExtraError
from tomas_router.runtime import gpus, snapshot

pytestmark = pytest.mark.m2


def test_snapshot_is_one_held_row_with_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    timeline = snapshot.live_timeline(sample_s=0)
    assert timeline.capacity.shape == (1, 4)
    assert timeline.capacity[0, 2:].tolist() == [70.0, 75.0]
    assert timeline.tail == "hold"
    assert timeline.epoch_ms is not None


def test_snapshot_of_a_gpu_that_is_not_there_has_the_cpu_columns_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    capacity = snapshot.live_timeline(gpu_index=2, sample_s=0).capacity[0].tolist()
    assert capacity[1] > 0
    assert capacity[2:] == [0, 0]


def test_missing_psutil_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tomas-router\[host\]"'):
        snapshot.live_timeline()


def test_host_without_nvml_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus.gpu_state(0) == gpus.GpuState(0.0, 0.0)


def test_package_import_never_loads_the_snapshot() -> None:
    code = (
        "import sys, tomas_router, tomas_router.planner.planner; print('tomas_router.runtime.snapshot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
