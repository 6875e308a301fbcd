import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomas_router.errors import DataValidationError
from tomas_router.runtime.timeline import ASSUMED_WINDOW_MS, SystemTimeline
from tomas_router.schema.findings import DataWarning
from tomas_router.schema.timeline_csv import read_timeline

pytestmark = pytest.mark.m0
HEADER = "time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n"


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "timeline.csv"
    path.write_text(HEADER + body)
    return path


def cpu(rows: list[tuple[int, float]], **options: Any) -> SystemTimeline:
    return SystemTimeline.from_rows([(t, c, 8, 0, 0) for t, c in rows], **options)


# ---- dirty files ----------------------------------------------------------------------------------------------


def test_timeline_when_rows_are_unsorted_and_repeated_sorts_takes_minima_and_warns(tmp_path: Path) -> None:
    path = write(tmp_path, "1000,4,8,0,0\n0,8,8,50,4\n1000,2,9,10,1\n")
    with pytest.warns(DataWarning) as caught:
        timeline = SystemTimeline.from_csv(path)
    assert [str(w.message) for w in caught] == [
        "timeline.csv:3: time_ms is before the row above it; all rows are sorted, got 0",
        "timeline.csv:4: time_ms repeats line 2; the smaller of each resource is kept, got 1000",
    ]
    assert timeline.times_ms.tolist() == [0, 1000]
    assert timeline.capacity[1].tolist() == [2, 8, 0, 0]


def test_timeline_when_a_capacity_is_negative_uses_zero_and_warns(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match=r"timeline.csv:2: cpu_cores must be >= 0; 0 is used, got -3"):
        assert SystemTimeline.from_csv(write(tmp_path, "0,-3,8,0,0\n")).capacity[0, 0] == 0


def test_timeline_when_cells_are_wrong_lists_all(tmp_path: Path) -> None:
    with pytest.raises(DataValidationError) as caught:
        SystemTimeline.from_csv(write(tmp_path, "-5,8 cores,8,0,0\n1.5,1,inf,108,0\nnan,1,1,1,1e13\n1e14,1,,1,1\n"))
    assert [(f.line, f.field) for f in caught.value.findings] == [
        (2, "time_ms"), (2, "cpu_cores"), (3, "time_ms"), (3, "cpu_mem_gb"), (3, "gpu_sm"),
        (4, "time_ms"), (4, "gpu_mem_gb"), (5, "time_ms"), (5, "cpu_mem_gb"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("0,8000,32,100,16\n", "cpu_cores looks like milli-cores; vCPU are expected, got 8000"),
        ("0,8,32768,100,16\n", "cpu_mem_gb looks like MiB; GiB are expected, got 32768"),
        ("0,8,32,100,17e9\n", "gpu_mem_gb looks like bytes; GiB are expected, got 17000000000"),
        ("0,8,32,0.8,16\n", "gpu_sm looks like a fraction"),
        ("0,8,32,100,16\n1,8,32,100,16\n2,8,32,100,16\n", "time_ms looks like seconds, with rows at most 1 apart"),
        ("700,8,32,100,16\n", "time_ms begins after 0; nothing is known before it or placed there, got 700"),
        ("1700000000,8,32,100,16\n", "time_ms looks like Unix time"),
    ],
)
def test_timeline_when_a_unit_looks_wrong_warns_and_converts_nothing(tmp_path: Path, body: str, message: str) -> None:
    times, capacities, findings = read_timeline(write(tmp_path, body))
    assert [f.severity for f in findings] == ["warning"]
    assert message in findings[0].message
    written = [[float(cell) for cell in row.split(",")] for row in body.splitlines()]
    assert [[t, *c] for t, c in zip(times, capacities, strict=True)] == written


def test_horizon_when_before_the_last_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not be before the last row at 1000 ms, got 999"):
        cpu([(0, 1), (1000, 1)], horizon_ms=999)
    message = "timeline.csv: horizon_ms must not be before the last row at 9 ms, got 5"
    with pytest.raises(DataValidationError, match=message):
        SystemTimeline.from_csv(write(tmp_path, "0,1,1,1,1\n9,1,1,1,1\n"), horizon_ms=5)


def test_tail_when_strict_without_a_horizon_offers_nothing_from_the_last_row_on_and_warns(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="tail is strict without a horizon_ms"):
        timeline = SystemTimeline.from_csv(write(tmp_path, "0,4,8,0,0\n1000,4,8,0,0\n"), tail="strict")
    assert timeline.at([999, 1000])[:, 0].tolist() == [4, 0]
    with pytest.warns(DataWarning, match="the only row is held"):
        assert SystemTimeline.from_csv(write(tmp_path, "0,4,8,0,0\n"), tail="strict").tail == "hold"
    with pytest.raises(ValueError, match="tail must be 'strict' or 'hold', got 'loose'"):
        cpu([(0, 1)], tail="loose")


def test_rows_when_wrong_lists_all_and_mends_nothing() -> None:
    rows = [(0, 1, 1, 1, 1), (1.5, -1, 1, 1, 1), (1, float("nan"), 1, 101, 1), (5, 1, 1), (1, 1, 1, 1, 1)]
    with pytest.raises(DataValidationError) as caught:
        SystemTimeline.from_rows(rows)
    assert [f.field for f in caught.value.findings] == [
        "rows[1].time_ms", "rows[1].cpu_cores", "rows[2].time_ms", "rows[2].cpu_cores", "rows[2].gpu_sm", "rows[3]",
        "rows[4].time_ms",
    ]  # fmt: skip
    with pytest.raises(DataValidationError, match="at least one row"):
        SystemTimeline.from_rows([])


# ---- reading --------------------------------------------------------------------------------------------------


def test_timeline_when_built_never_changes() -> None:
    timeline = cpu([(0, 8)])
    with pytest.raises(ValueError, match="read-only"):
        timeline.capacity[0, 0] = 9
    with pytest.raises(AttributeError, match="never changes"):
        timeline.tail = "strict"


def test_at_when_interpolated_three_ways_reads_between_rows() -> None:
    timeline = cpu([(0, 8), (1000, 4)])
    assert timeline.at(999, "previous")[0] == 8
    assert timeline.at(1000, "previous")[0] == 4
    assert timeline.at(500, "linear")[0] == 6
    assert timeline.at([400, 600], "nearest")[:, 0].tolist() == [8, 4]
    assert timeline.at(np.zeros((2, 3)), "linear").shape == (2, 3, 4)
    with pytest.raises(ValueError, match="cubic"):
        timeline.at(0, "cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["previous", "linear", "nearest"])
def test_at_when_outside_what_is_known_is_zero_if_strict_and_held_otherwise(interpolation: Any) -> None:
    rows = [(10, 8.0), (1000, 4.0)]
    assert cpu(rows, horizon_ms=2000).at([9, 1999, 2000], interpolation)[:, 0].tolist() == [0, 4, 0]
    assert cpu(rows, horizon_ms=2000, tail="hold").at(9000, interpolation)[0] == 4


def test_end_when_there_is_no_horizon_is_the_last_row_and_its_gap() -> None:
    assert cpu([(0, 1), (700, 1), (1000, 1)]).end_ms == 1300
    assert cpu([(5, 1)]).end_ms == 5 + ASSUMED_WINDOW_MS
    assert cpu([(0, 1)], horizon_ms=77).end_ms == 77


def test_integer_capacity_when_values_carry_float_noise_is_floored_with_a_guard() -> None:
    timeline = SystemTimeline.from_rows([(0, 0.1 + 0.2, 1 - 1e-12, 33.33, 0.99)])
    assert timeline.capacity_int[0].tolist() == [300, 1024, 333, 1013]
    assert SystemTimeline.from_rows([(0, 1.999999999, 8, 0, 0)]).capacity_int[0, 0] == 2000
    assert SystemTimeline.from_rows([(0, 1.9989, 8, 0, 0)]).capacity_int[0, 0] == 1998


def test_timeline_when_times_are_huge_keeps_every_millisecond(tmp_path: Path) -> None:
    rows = "1000000000000,8,1,9,1\n1000000000001,4,1,9,1\n1000000005000,8,1,9,1\n"
    with pytest.warns(DataWarning, match="Unix time"):
        timeline = SystemTimeline.from_csv(write(tmp_path, rows), horizon_ms=10**12 + 9000)
    assert timeline.at([10**12, 10**12 + 1])[:, 0].tolist() == [8, 4]
    assert timeline.lower_envelope(10**12, 10**12 + 2, 2)[:, 0].tolist() == [8, 4]


def test_timeline_id_when_anything_changes_changes() -> None:
    one = cpu([(0, 8), (2, 8)])
    others = [
        cpu([(0, 7), (2, 8)]),
        cpu([(0, 8), (1, 8)]),
        one.with_tail(horizon_ms=5),
        one.with_tail("strict"),
        cpu([(0, 8)], epoch_ms=1),
    ]
    assert len({t.timeline_id for t in [one, *others]}) == 6
    assert one.timeline_id == cpu([(0, 8), (2, 8)]).timeline_id
    assert cpu([(0, 0.0)]).timeline_id == cpu([(0, -0.0)]).timeline_id


def test_default_when_asked_is_an_idle_machine_that_is_held() -> None:
    default = SystemTimeline.default()
    assert default.tail == "hold"
    assert default.at(10**9).tolist() == [16, 64, 100, 24]


# ---- the lower envelope ---------------------------------------------------------------------------------------


def test_lower_envelope_when_a_dip_is_shorter_than_a_bin_keeps_it() -> None:
    timeline = cpu([(0, 8), (501, 1), (502, 8)])
    assert timeline.lower_envelope(0, 1000, 2)[:, 0].tolist() == [8, 1]
    assert timeline.lower_envelope(500.25, 501.0, 3)[:, 0].tolist() == [8, 8, 8]


@pytest.mark.parametrize(("start", "end", "points"), [(0, 0, 3), (5, 4, 3), (0, 10, 0), (0, 10**19, 96)])
def test_lower_envelope_when_the_window_is_empty_or_endless_is_refused(start: int, end: int, points: int) -> None:
    with pytest.raises(ValueError, match="window must be"):
        cpu([(0, 8)]).lower_envelope(start, end, points)


pieces = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6)
windows = st.tuples(st.integers(-3, 30), st.integers(1, 40), st.integers(1, 7))
tails = st.sampled_from(["hold", "strict", None])


def stepped(steps: list[tuple[int, int]], begin: int = 0, tail: Any = "hold") -> SystemTimeline:
    """A curve of (width, cores) pieces; with tail None, a horizon ends the last piece."""
    times = np.cumsum([begin] + [width for width, _ in steps]).tolist()
    rows = [(int(t), float(c)) for t, (_, c) in zip(times[:-1], steps, strict=True)]
    return cpu(rows, horizon_ms=times[-1]) if tail is None else cpu(rows, tail=tail)


def cores_at(timeline: SystemTimeline, ms: int) -> float:
    """Written without the timeline's code: what is offered during [ms, ms + 1)."""
    lone = len(timeline) == 1 and timeline.horizon_ms is None
    end = timeline.times_ms[-1] if timeline.horizon_ms is None else timeline.horizon_ms
    if ms < timeline.times_ms[0] or (timeline.tail == "strict" and not lone and ms >= end):
        return 0.0
    return float(max((t, c) for t, c in zip(timeline.times_ms, timeline.capacity[:, 0], strict=True) if t <= ms)[1])


@given(pieces, st.integers(0, 5), tails, windows)
def test_lower_envelope_law_every_bin_is_the_minimum_over_its_milliseconds(
    steps: list[tuple[int, int]], begin: int, tail: Any, window: tuple[int, int, int]
) -> None:
    timeline = stepped(steps, begin, tail)
    start, length, points = window
    envelope = timeline.lower_envelope(start, start + length, points)[:, 0]
    for i, low in enumerate(envelope):
        left, right = (start + Fraction(length * edge, points) for edge in (i, i + 1))
        touched = [ms for ms in range(start, start + length) if ms < right and ms + 1 > left]
        assert low == min(cores_at(timeline, ms) for ms in touched)


@given(pieces, st.integers(0, 5), tails, st.integers(-3, 60))
def test_at_law_previous_is_the_piece_in_force(steps: list[tuple[int, int]], begin: int, tail: Any, ms: int) -> None:
    timeline = stepped(steps, begin, tail)
    assert timeline.at(ms)[0] == cores_at(timeline, ms)


@given(pieces, st.integers(0, 5), st.integers(1, 8), tails, windows)
def test_splitting_a_piece_law_changes_no_reading(
    steps: list[tuple[int, int]], where: int, at: int, tail: Any, window: tuple[int, int, int]
) -> None:
    index = where % len(steps)
    width, value = steps[index]
    if at >= width or (tail == "strict" and index == len(steps) - 1):
        return  # there is no inside; or a further last row says that more is known
    parts = [(at, value), (width - at, value)]
    one, split = stepped(steps, 0, tail), stepped([*steps[:index], *parts, *steps[index + 1 :]], 0, tail)
    start, length, points = window
    times = np.arange(-2, 70)
    np.testing.assert_array_equal(split.at(times), one.at(times))
    np.testing.assert_array_equal(
        split.lower_envelope(start, start + length, points), one.lower_envelope(start, start + length, points)
    )


@given(st.lists(st.tuples(*[st.floats(0, 100)] * 4), min_size=1, max_size=5))
def test_timeline_law_what_is_saved_is_loaded_to_the_last_digit(rows: list[tuple[float, ...]]) -> None:
    timeline = SystemTimeline.from_rows([(1000 * i, *row) for i, row in enumerate(rows)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        timeline.save_csv(path)
        times, capacities, _ = read_timeline(path)
    assert times == timeline.times_ms.tolist()
    assert [list(c) for c in capacities] == timeline.capacity.tolist()
