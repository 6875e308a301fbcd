from __future__ import annotations

import numpy as np
import pytest

from benchmarks.allocation import main
from benchmarks.policies import NEVER, POLICIES, make_instance, optimum
from tomas_router.datasets.timeline_generator import draw_timeline
from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import allocate
from tomas_router.schema.profiling import ProfileRow

pytestmark = pytest.mark.m5


def test_optimum_when_compared_with_the_allocator_agrees_on_drawn_curves() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        curve = draw_timeline(rng)
        rows = [_row(rng) for _ in range(4)]
        instance = make_instance(rows, curve)
        best = optimum(instance)
        if best is None:
            with pytest.raises(InfeasibleError):
                allocate(rows, curve)
            continue
        ours = allocate(rows, curve)
        assert (ours.end_ms, ours.start_ms) == (instance.completion(best), instance.earliest_K[best])
        for policy in POLICIES.values():
            row = policy(instance)
            end = NEVER if row is None else instance.completion(row)
            assert end == NEVER or end >= ours.end_ms


def test_main_when_run_small_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--instances", "20", "--plans", "2"])
    printed = capsys.readouterr().out
    assert "0 over-commits, 0 falsely infeasible, 0 falsely feasible" in " ".join(printed.split())
    assert "proved optimum" in printed
    assert "plans of 3 to 8 steps: 2" in printed


def _row(rng: np.random.Generator) -> ProfileRow:
    gpu = bool(rng.random() < 0.5)
    return ProfileRow(
        tool="t",
        input_size="small",
        cpu_core=float(rng.choice([1, 2, 4, 8])),
        cpu_mem_gb=float(rng.uniform(0.1, 16)),
        gpu_sm=float(rng.choice([10, 50, 100])) if gpu else 0.0,
        gpu_mem_gb=float(rng.uniform(0.5, 12)) if gpu else 0.0,
        latency_ms=float(rng.uniform(100, 200_000)),
    )
