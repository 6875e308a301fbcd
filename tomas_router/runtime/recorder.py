"""Writes down what a source says, over and over, as timelines that planning and forecasting can read."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.timeline_source import TimelineSource
from tomas_router.schema.timeline_csv import COLUMNS

DECIMALS = 4


@dataclass(frozen=True)
class Recorded:
    """One row of each curve, just written."""

    time_ms: int
    """Since the first row."""
    capacities: tuple[tuple[float, ...], ...]
    """By GPU: cpu_cores, cpu_mem_gb, gpu_sm, gpu_mem_gb."""


def record(source: TimelineSource, out: Path, every_ms: int, rows: int | None = None) -> Iterator[Recorded]:
    """Records until ``rows`` are written or the caller stops; every row is on disk at once.

    A row is asked for at each multiple of ``every_ms`` and carries the time at which the source looked; a source that
    is late costs rows, and shifts none. Beside the table goes ``FILE.meta.json`` with the Unix time of its time 0,
    which the format itself does not hold.

    Args:
        source: asked once a row.
        out: the file; a machine with several GPUs gets ``NAME.gpu0.csv``, ``NAME.gpu1.csv`` and so on.
        every_ms: from one row to the next, at least 100.
        rows: how many; None: until the caller stops.

    Raises:
        FileExistsError: A file is there already.
        ValueError: ``every_ms`` is under 100.
    """
    if every_ms < 100:
        raise ValueError(f"every_ms must be >= 100, for CPU use is a mean over that time, got {every_ms}")
    first = source.timelines()
    began_s, epoch_ms = time.monotonic(), first[0].epoch_ms
    with ExitStack() as stack:
        files = [
            stack.enter_context(path.open("x", encoding="utf-8", newline="")) for path in paths_of(out, len(first))
        ]
        _write_metadata(out, epoch_ms, every_ms)
        writers = [csv.writer(file, lineterminator="\n") for file in files]
        for writer in writers:
            writer.writerow(COLUMNS)
        now, number, time_ms = first, 0, 0
        while True:
            yield _write(writers, files, now, time_ms)
            number += 1
            if rows is not None and number >= rows:
                return
            previous_ms = time_ms
            _sleep_to_the_next(began_s, every_ms)
            now = source.timelines()
            time_ms = _time_ms(now[0], epoch_ms, began_s)
            time_ms = max(time_ms, previous_ms + 1)  # a clock that was set back shifts nothing


def paths_of(out: Path, curves: int) -> list[Path]:
    """One file for each curve."""
    if curves == 1:
        return [out]
    return [out.with_name(f"{out.stem}.gpu{index}{out.suffix}") for index in range(curves)]


def _write(writers: Sequence[Any], files: Sequence[IO[str]], now: Sequence[SystemTimeline], time_ms: int) -> Recorded:
    capacities = []
    for writer, file, timeline in zip(writers, files, now, strict=True):
        capacity = tuple(round(value, DECIMALS) for value in timeline.capacity[0].tolist())
        writer.writerow([time_ms, *(f"{value:g}" if value.is_integer() else repr(value) for value in capacity)])
        file.flush()
        capacities.append(capacity)
    return Recorded(time_ms, tuple(capacities))


def _write_metadata(out: Path, epoch_ms: int | None, every_ms: int) -> None:
    text = json.dumps({"epoch_ms": epoch_ms, "every_ms": every_ms})
    out.with_suffix(".meta.json").write_text(text + "\n", encoding="utf-8")


def _sleep_to_the_next(began_s: float, every_ms: int) -> None:
    passed_s, every_s = time.monotonic() - began_s, every_ms / 1000
    time.sleep(every_s - passed_s % every_s)


def _time_ms(timeline: SystemTimeline, epoch_ms: int | None, began_s: float) -> int:
    if timeline.epoch_ms is None or epoch_ms is None:
        return round((time.monotonic() - began_s) * 1000)
    return timeline.epoch_ms - epoch_ms
