from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from tests.fake_nvml import GIB, FakeNvml
from tomas_router.runtime import cgroup, gpus, host
from tomas_router.runtime.cgroup import CpuLevel, MemoryLevel
from tomas_router.runtime.host import Host

pytestmark = pytest.mark.m0

BUSY = "x = bytearray(300_000_000)\nprint(flush=True)\nwhile True: pass"
BUSY_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"


@pytest.fixture(params=[BUSY, BUSY_CHILD], ids=["process", "child"])
def busy(request):
    process = subprocess.Popen([sys.executable, "-c", request.param], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    for member in [*psutil.Process(process.pid).children(), process]:
        member.kill()
    process.wait()


def test_reading_when_taken_lies_within_the_machine():
    reading = Host().read()
    assert 0 <= reading.cpu_cores <= len(psutil.Process().cpu_affinity())
    assert 0 < reading.cpu_mem_gib <= psutil.virtual_memory().total / GIB
    assert abs(reading.at_ms - time.time() * 1000) < 5000


def test_booked_processes_when_busy_are_given_back(busy):
    plain, booked = Host(), Host([busy.pid])
    time.sleep(0.5)
    counted, given_back = plain.read(), booked.read()
    members = [psutil.Process(busy.pid), *psutil.Process(busy.pid).children()]
    assert given_back.cpu_cores - counted.cpu_cores > 0.2
    held_gib = sum(member.memory_info().rss for member in members) / GIB
    assert held_gib > 0.25
    assert given_back.cpu_mem_gib - counted.cpu_mem_gib == pytest.approx(held_gib, abs=0.1)


def test_booked_process_when_it_has_ended_takes_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert Host([process.pid]).read().cpu_cores >= 0


def test_quota_when_smaller_than_the_machine_bounds_the_cores(monkeypatch):
    looks = iter([(CpuLevel(0.5, 1.0),), (CpuLevel(0.5, 1.0 + 0.01),)])
    monkeypatch.setattr(cgroup, "cpu_levels", lambda: next(looks))
    now = iter([100.0, 100.1, 100.1])
    monkeypatch.setattr(host.time, "monotonic", lambda: next(now))
    assert Host().read().cpu_cores == pytest.approx(0.4)  # 0.01 s in 0.1 s is a tenth of a core


def test_memory_limit_when_smaller_than_what_is_free_bounds_it(monkeypatch):
    monkeypatch.setattr(cgroup, "memory_levels", lambda: (MemoryLevel(2 * GIB, GIB // 2), MemoryLevel(10 * GIB, 0)))
    assert Host().read().cpu_mem_gib == 1.5


def test_sm_counts_when_the_architecture_is_known_are_told_and_else_0(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert gpus.sm_counts() == (132, 0)


def test_gpus_when_several_are_read_each_and_booked_memory_is_given_back(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    own = psutil.Process().pid
    nvml.held[own] = 2 * GIB
    plain, given_back = Host().read().gpus, Host([own]).read().gpus
    assert [(gpu.sm_percent, gpu.memory_gib) for gpu in plain] == [(70.0, 75.0), (100.0, 80.0)]
    assert [gpu.memory_gib for gpu in given_back] == [77.0, 82.0]
