from __future__ import annotations

import numpy as np
import pytest

from benchmarks import forecast as benchmark
from tomas_router import SystemTimeline
from tomas_router.runtime.forecast import Persistence
from tomas_router.runtime.residual import ResidualCapacity
from tomas_router.schema.profiling import ProfileRow

pytestmark = pytest.mark.m5

MINUTE = 60_000


def window(*cores: float) -> SystemTimeline:
    rows = [(i * MINUTE, c, 8, 0, 0) for i, c in enumerate(cores)]
    return SystemTimeline.from_rows(rows, horizon_ms=len(cores) * MINUTE)


def step(cores: float, latency_ms: float) -> ProfileRow:
    return ProfileRow(
        tool="t", input_size="small", cpu_core=cores, cpu_mem_gb=1, gpu_sm=0, gpu_mem_gb=0, latency_ms=latency_ms
    )


def scored(scene: benchmark.Scene, *rows: ProfileRow, aware=False, subtract=False) -> benchmark.Score:
    instance = benchmark.make_instance(rows, benchmark.free_of_bookings(scene))
    cases = [(scene, rows, instance, benchmark.optimum(instance))]
    return benchmark.score(benchmark.planner(Persistence(), aware=aware, subtract=subtract), cases)


def test_window_when_cut_has_now_in_both_halves():
    scene = benchmark.cut(window(1, 2, 3, 4))
    assert scene.history.capacity[:, 0].tolist() == [1, 2]
    assert scene.truth.times_ms.tolist() == [0, MINUTE, 2 * MINUTE]
    assert scene.truth.capacity[:, 0].tolist() == [2, 3, 4]
    assert scene.history.epoch_ms + int(scene.history.times_ms[-1]) == scene.truth.epoch_ms


def test_step_when_the_machine_fills_up_over_commits():
    found = scored(benchmark.cut(window(4, 4, 1, 1)), step(4, 90_000))
    assert (found.placed, found.over_commits, found.feasible) == (1, 1, 0)


def test_step_when_the_machine_empties_is_refused_although_it_would_fit():
    found = scored(benchmark.cut(window(1, 1, 4, 4)), step(4, 90_000))
    assert (found.placed, found.refused, found.feasible) == (0, 1, 1)


def test_step_when_a_faster_row_would_have_fitted_later_has_regret():
    found = scored(benchmark.cut(window(1, 1, 4, 4)), step(1, 100_000), step(4, 10_000))
    assert found.ratios == [pytest.approx(100_000 / 70_000)]


def test_bookings_when_drawn_fit_the_truth_together():
    rng = np.random.default_rng(1)
    for _ in range(50):
        scene = benchmark.with_bookings(benchmark.cut(window(*rng.uniform(1, 16, 12))), rng)
        capacity = scene.truth.capacity_int.T.copy()
        left = ResidualCapacity(scene.truth.times_ms, capacity, scene.truth.end_ms, scene.truth.end_ms)
        epoch = scene.truth.epoch_ms or 0
        for booked in scene.bookings:
            left = left.minus(booked.start_ms - epoch, booked.end_ms - epoch, booked.demand)
        assert left.free_RN.min() >= 0
        assert (benchmark.as_seen(scene).capacity <= scene.history.capacity).all()


def test_benchmark_when_run_small_prints_both_tables(tmp_path, capsys):
    import pandas as pd

    rng = np.random.default_rng(2)
    rows = [
        {"window_id": w, "time_ms": i * MINUTE, "cpu_cores": c, "cpu_mem_gb": 64, "gpu_sm": 50, "gpu_mem_gb": 20}
        for w in range(4)
        for i, c in enumerate(rng.uniform(1, 32, 30))
    ]
    path = tmp_path / "windows.parquet"
    pd.DataFrame(rows).to_parquet(path)
    benchmark.main(["--traces", str(path), "--windows", "4", "--cases", "20"])
    printed = capsys.readouterr().out
    assert "no bookings of our own, 20 steps" in printed
    assert "with bookings of our own, 20 steps" in printed
    assert "persistence, ledger-aware" in printed
