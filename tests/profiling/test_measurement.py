from __future__ import annotations

import numpy as np
import pytest

from tomas_router.profiling.measurement import GIB, Measurement, Run, quantile, whole_mib

pytestmark = pytest.mark.m0

MIB = 2**20


def measured(*latencies_ms: float, **fields) -> Measurement:
    runs = tuple(Run(latency_ms=ms, cpu_ms=2 * ms) for ms in latencies_ms)
    base = {"tool": "t", "input_size": "small", "configuration": "cpu_core=2", "cpu_core": 2, "gpu_sm": 0}
    return Measurement(**{**base, "status": "ok", "runs": runs, "peak_bytes": 100 * MIB, **fields})


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9, 1])
def test_quantile_when_compared_is_that_of_numpy(share):
    values = [1.0, 2.0, 5.0, 9.0, 30.0, 31.0]
    assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_measurement_when_summed_up_gives_median_spread_and_cores():
    m = measured(30, 10, 20, 40, 1000)
    assert m.p50_ms == 30
    assert m.spread == pytest.approx((40 - 20) / 30)
    assert m.cores_used == pytest.approx(2)


def test_row_when_measured_has_the_median_and_memory_with_headroom_in_whole_mib():
    row = measured(10, 30, 20, gpu_sm=50, gpu_peak_bytes=GIB, gpu_memory_of="device").row(headroom=0.105)
    assert row is not None
    assert row.latency_ms == 20
    assert row.cpu_mem_gb * 1024 == pytest.approx(111, abs=0.01)  # 110.5 rounded up
    assert row.gpu_mem_gb * 1024 == pytest.approx(1132, abs=0.01)  # 1131.52 rounded up
    assert (row.cpu_core, row.gpu_sm) == (2, 50)


def test_row_when_the_tool_failed_is_none():
    assert measured(1, status="crashed").row(0) is None


def test_whole_mib_when_rounded_never_promises_less():
    for amount in (1, MIB - 1, MIB, MIB + 1, 12345678, GIB):
        assert whole_mib(amount) * GIB >= amount
    assert whole_mib(GIB) == 1
