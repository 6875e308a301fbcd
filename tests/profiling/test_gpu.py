"""On a real GPU: ``pytest -m gpu tests/profiling``. Needs torch with CUDA and the extra ``host``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomas_router.profiling.configuration import Configuration
from tomas_router.profiling.measure import Cell, measure
from tomas_router.runtime import gpus
from tomas_router.runtime.timeline_source import HostSource

pytestmark = [pytest.mark.m0, pytest.mark.gpu]

TARGET = f"{Path(__file__).with_name('tools_to_measure.py')}:gpu_tools"
GIB = 2**30


def test_tool_when_it_uses_the_gpu_has_its_memory_measured():
    m = measure(Cell(TARGET, "multiply_on_gpu", "large", Configuration(1, None, 100), 1, 3, 60.0))
    assert m.status == "ok", m.detail
    assert m.gpu_memory_of in ("process", "device")
    assert 2 * GIB < m.gpu_peak_bytes < 8 * GIB  # two GiB of data, and the CUDA context


def test_tool_when_no_gpu_is_configured_sees_none():
    m = measure(Cell(TARGET, "count_gpus", "small", Configuration(1), 0, 1, 60.0))
    assert m.status == "ok", m.detail


def test_host_when_it_has_a_gpu_shows_its_memory():
    timelines = HostSource().timelines()
    assert len(timelines) == len(gpus.gpu_names()) >= 1
    assert timelines[0].capacity[0, 3] > 0
