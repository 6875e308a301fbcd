from __future__ import annotations

import sys

import pytest

from tests.fake_nvml import FakeNvml
from tomas_router.profiling.gpu_watch import GpuWatch
from tomas_router.runtime import gpus

pytestmark = pytest.mark.m0

GIB = 2**30


@pytest.fixture
def nvml(monkeypatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_gpus_when_cuda_hides_and_reorders_them_are_seen_as_cuda_sees_them(nvml, monkeypatch):
    assert gpus.gpu_names() == ("Model A", "Model B")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert gpus.gpu_names() == ("Model B", "Model A")
    assert gpus.cuda_device(0) == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert gpus.gpu_names() == ("Model B",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,7,1")
    assert gpus.gpu_names() == ("Model A",)


def test_gpu_states_when_asked_are_one_a_device(nvml):
    assert gpus.gpu_states() == (gpus.GpuState(70.0, 75.0), gpus.GpuState(100.0, 80.0))
    assert gpus.gpu_state(2) == gpus.GpuState(0.0, 0.0)


def test_watch_when_nvml_lists_the_process_takes_its_own_peak(nvml):
    watch = GpuWatch(0)
    nvml.held[41], nvml.used[0] = 3 * GIB, 9 * GIB
    watch.look({41, 42})
    nvml.held[41] = GIB
    watch.look({41})
    assert watch.peak == (3 * GIB, "process")


def test_watch_when_nvml_lists_nobody_takes_what_the_device_rose_by(nvml):
    nvml.lists_processes = False
    watch = GpuWatch(0)
    nvml.used[0] = 7 * GIB
    watch.look({41})
    nvml.used[0] = 6 * GIB
    watch.look({41})
    assert watch.peak == (2 * GIB, "device")
