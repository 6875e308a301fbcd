from __future__ import annotations

import json
import warnings

import pytest

from tomas_router import SystemTimeline
from tomas_router.runtime.gpus import GpuState
from tomas_router.runtime.recorder import record
from tomas_router.runtime.timeline_source import CsvSource, HostSource, present

pytestmark = pytest.mark.m0

EPOCH_MS = 1_700_000_000_000


class Script:
    """A source that says what it was told to say, one reading a call."""

    def __init__(self, *times_ms: int, gpus: int = 1) -> None:
        self._times_ms = iter(times_ms)
        self._gpus = gpus

    def timelines(self):
        at_ms = next(self._times_ms)
        return tuple(present(EPOCH_MS + at_ms, 1.23456, 8.0, GpuState(10.0 * n, 4.0)) for n in range(self._gpus))


def test_recording_when_read_back_is_a_timeline(tmp_path):
    out = tmp_path / "new.csv"
    rows = list(record(Script(0, 101, 205), out, every_ms=100, rows=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timeline = SystemTimeline.from_csv(out)
    assert timeline.times_ms.tolist() == [row.time_ms for row in rows] == [0, 101, 205]
    assert timeline.capacity[0].tolist() == [1.2346, 8, 0, 4]
    assert json.loads((tmp_path / "new.meta.json").read_text()) == {"epoch_ms": EPOCH_MS, "every_ms": 100}


def test_row_when_written_is_on_disk_before_the_next(tmp_path):
    out = tmp_path / "r.csv"
    running = record(Script(0, 100), out, every_ms=100)
    next(running)
    assert len(out.read_text().splitlines()) == 2
    next(running)
    assert len(out.read_text().splitlines()) == 3
    running.close()


def test_machine_when_it_has_several_gpus_gets_a_file_each(tmp_path):
    list(record(Script(0, 100, gpus=2), tmp_path / "r.csv", every_ms=100, rows=2))
    curves = CsvSource([tmp_path / "r.gpu0.csv", tmp_path / "r.gpu1.csv"], epoch_ms=EPOCH_MS).timelines()
    assert [curve.capacity[0, 2] for curve in curves] == [0, 10]
    assert [curve.epoch_ms for curve in curves] == [EPOCH_MS] * 2


def test_clock_when_set_back_leaves_times_ascending(tmp_path):
    rows = list(record(Script(0, 100, 50, 400), tmp_path / "r.csv", every_ms=100, rows=4))
    assert [row.time_ms for row in rows] == [0, 100, 101, 400]


def test_file_when_there_already_is_not_touched(tmp_path):
    out = tmp_path / "r.csv"
    out.write_text("precious")
    with pytest.raises(FileExistsError):
        next(record(Script(0), out, every_ms=100))
    assert out.read_text() == "precious"


def test_interval_when_too_short_for_a_mean_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"every_ms must be >= 100, .* got 99"):
        next(record(Script(0), tmp_path / "r.csv", every_ms=99))


def test_host_when_recorded_keeps_to_the_beat(tmp_path):
    rows = list(record(HostSource(sample_s=0.1), tmp_path / "r.csv", every_ms=300, rows=4))
    assert rows[0].time_ms == 0
    assert all(abs(row.time_ms - 300 * n) < 280 for n, row in enumerate(rows))


def test_csv_source_without_files_is_refused():
    with pytest.raises(ValueError, match="paths must hold at least one file"):
        CsvSource([])
