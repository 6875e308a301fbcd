from __future__ import annotations

import pytest

from tomas_router.profiling.gain import worth_a_row
from tomas_router.schema.profiling import ProfileRow

pytestmark = pytest.mark.m0


def row(latency_ms: float, cpu_core: float = 1, memory: float = 1, sm: float = 0, size="small", tool="t") -> ProfileRow:
    demand = {"cpu_core": cpu_core, "cpu_mem_gb": memory, "gpu_sm": sm, "gpu_mem_gb": 1 if sm else 0}
    return ProfileRow(tool=tool, input_size=size, latency_ms=latency_ms, **demand)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([row(100), row(99, 2)], [0]),  # two cores for one per cent
        ([row(100), row(60, 2)], [0, 1]),
        ([row(100), row(120, 2)], [0]),  # slower with more
        ([row(100), row(60, 2), row(59, 4)], [0, 1]),
        ([row(100), row(96, 2), row(92, 4)], [0, 2]),  # each step is small, both together are not
        ([row(100, memory=4), row(99, 2, memory=1)], [0, 1]),  # the second core saves memory
        ([row(100, 4), row(98, 4, sm=50)], [0]),  # the GPU does not help
        ([row(100, 4), row(100, 1, sm=50)], [0, 1]),  # the GPU saves cores
        ([row(100), row(100, 2, size="large"), row(100, 2, tool="other")], [0, 1, 2]),
        ([row(100), row(101)], [0, 1]),  # the same cost: the reader of the table decides
    ],
)
def test_rows_when_they_take_more_and_give_nothing_are_left_out(rows, kept):
    assert worth_a_row(rows, 0.05) == [rows[i] for i in kept]


def test_rows_when_no_gain_is_asked_for_keep_every_gain():
    rows = [row(100), row(99, 2), row(99, 4)]
    assert worth_a_row(rows, 0) == rows[:2]
