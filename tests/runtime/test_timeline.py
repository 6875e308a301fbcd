from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomas_router.errors import DataValidationError
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.findings import DataWarning

pytestmark = pytest.mark.m0
HEADER = "time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n"


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "timeline.csv"
    path.write_text(HEADER + body)
    return path


def cpu(rows: list[tuple[int, float]], **options: object) -> SystemTimeline:
    return SystemTimeline.from_rows([(t, c, 8, 0, 0) for t, c in rows], **options)  # type: ignore[arg-type]


def test_timeline_when_rows_are_unsorted_and_repeated_sorts_takes_minima_and_warns(tmp_path: Path) -> None:
    path = write(tmp_path, "1000,4,8,0,0\n0,8,8,50,4\n1000,2,9,10,1\n")
    with pytest.warns(DataWarning) as caught:
        timeline = SystemTimeline.from_csv(path)
    assert len(caught) == 2
    assert timeline.times_ms.tolist() == [0, 1000]
    assert timeline.capacity[1].tolist() == [2, 8, 0, 0]


def test_timeline_when_a_capacity_is_negative_uses_zero_and_warns(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match=r"timeline.csv:2: cpu_cores must be >= 0; 0 is used, got '-3'"):
        assert SystemTimeline.from_csv(write(tmp_path, "0,-3,8,0,0\n")).capacity[0, 0] == 0


def test_timeline_when_cells_are_wrong_lists_all(tmp_path: Path) -> None:
    with pytest.raises(DataValidationError) as caught:
        SystemTimeline.from_csv(write(tmp_path, "-5,8 cores,8,0,0\n1.5,1,inf,108,0\n"))
    assert [(f.line, f.field) for f in caught.value.findings] == [
        (2, "time_ms"), (2, "cpu_cores"), (3, "time_ms"), (3, "cpu_mem_gb"), (3, "gpu_sm"),
    ]  # fmt: skip


def test_at_when_interpolated_three_ways_reads_between_rows() -> None:
    timeline = cpu([(0, 8), (1000, 4)])
    assert timeline.at(999, "previous")[0] == 8
    assert timeline.at(1000, "previous")[0] == 4
    assert timeline.at(500, "linear")[0] == 6
    assert timeline.at([400, 600], "nearest")[:, 0].tolist() == [8, 4]
    with pytest.raises(ValueError, match="cubic"):
        timeline.at(0, "cubic")  # type: ignore[arg-type]


def test_at_when_behind_the_horizon_is_zero_if_strict_and_held_otherwise() -> None:
    rows = [(0, 8.0), (1000, 4.0)]
    assert cpu(rows, horizon_ms=2000).at([1999, 2000])[:, 0].tolist() == [4, 0]
    assert cpu(rows, horizon_ms=2000, tail="hold").at(9000)[0] == 4
    assert cpu([(10, 8.0)]).at(5)[0] == 0


def test_lower_envelope_when_a_dip_is_shorter_than_a_bin_keeps_it() -> None:
    timeline = cpu([(0, 8), (501, 1), (502, 8)])
    assert timeline.lower_envelope(0, 1000, 2)[:, 0].tolist() == [8, 1]


pieces = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6)


def stepped(steps: list[tuple[int, int]]) -> SystemTimeline:
    times = np.cumsum([0] + [width for width, _ in steps[:-1]])
    return cpu([(int(t), float(c)) for t, (_, c) in zip(times, steps, strict=True)])


@settings(max_examples=60, deadline=None)
@given(pieces, st.integers(0, 20), st.integers(1, 30), st.integers(1, 7))
def test_lower_envelope_law_every_bin_is_the_minimum_over_its_milliseconds(
    steps: list[tuple[int, int]], start: int, length: int, points: int
) -> None:
    timeline = stepped(steps)
    fine = 1 / (4 * points)
    envelope = timeline.lower_envelope(start, start + length, points)[:, 0]
    for i, low in enumerate(envelope):
        left, right = start + length * i / points, start + length * (i + 1) / points
        samples = timeline.at(np.arange(left + fine / 2, right, fine))[:, 0]
        assert low == min(samples.min(), timeline.at(left + 1e-9)[0])


@settings(max_examples=40, deadline=None)
@given(pieces, st.integers(0, 5))
def test_splitting_a_piece_law_changes_no_reading(steps: list[tuple[int, int]], where: int) -> None:
    index = where % len(steps)
    width, value = steps[index]
    split = [*steps[:index], (1, value), (max(width - 1, 1), value), *steps[index + 1 :]]
    if width < 2:
        return
    times = np.arange(0, 40)
    np.testing.assert_array_equal(stepped(split).at(times), stepped(steps).at(times))


def test_integer_capacity_when_values_carry_float_noise_is_floored_with_a_guard() -> None:
    timeline = SystemTimeline.from_rows([(0, 0.1 + 0.2, 1 - 1e-12, 33.33, 0.99)])
    assert timeline.capacity_int[0].tolist() == [300, 1024, 333, 1013]


def test_timeline_when_times_are_huge_keeps_every_millisecond() -> None:
    assert cpu([(10**12 - 1, 8), (10**12, 4)]).at([10**12 - 1, 10**12])[:, 0].tolist() == [8, 4]


def test_timeline_id_when_anything_changes_changes() -> None:
    one = cpu([(0, 8)])
    assert one.timeline_id == cpu([(0, 8)]).timeline_id
    assert len({one.timeline_id, cpu([(0, 7)]).timeline_id, one.with_tail(horizon_ms=5).timeline_id}) == 3


def test_horizon_when_not_after_the_last_row_is_refused() -> None:
    with pytest.raises(ValueError, match="after the last row at 1000 ms, got 1000"):
        cpu([(0, 1), (1000, 1)], horizon_ms=1000)


def test_timeline_when_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    timeline = SystemTimeline.from_rows([(0, 1.5, 2.25, 30, 4), (7, 1, 2, 3, 4)])
    timeline.save_csv(tmp_path / "t.csv")
    assert SystemTimeline.from_csv(tmp_path / "t.csv").timeline_id == timeline.timeline_id
