"""Reads ``system_profiling.csv``. Policies: docs/data_policies.md."""

from __future__ import annotations

import itertools
from pathlib import Path

from tomas_router.schema.csv_table import number, read_csv
from tomas_router.schema.findings import Finding, FindingLog

COLUMNS = ("time_ms", "cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")
RESOURCES = COLUMNS[1:]
Capacity = tuple[float, ...]


def read_timeline(path: str | Path) -> tuple[list[int], list[Capacity], list[Finding]]:
    """Clean ascending times, their capacities, and everything wrong or suspicious."""
    log = FindingLog.of(path)
    rows: list[tuple[int, int, Capacity]] = []  # line, time, capacity
    for line, cells in read_csv(path, COLUMNS, log):
        row = _row(cells, line, log)
        if row is not None:
            rows.append((line, *row))
    if any(later[1] < earlier[1] for earlier, later in itertools.pairwise(rows)):
        log.warn("is not ascending; rows are sorted", field="time_ms")
        rows.sort(key=lambda row: row[1])
    merged: list[tuple[int, Capacity]] = []
    for line, time, capacity in rows:
        if merged and merged[-1][0] == time:
            log.warn("repeats; the smaller of each resource is kept", line=line, field="time_ms", value=time)
            merged[-1] = (time, tuple(map(min, merged[-1][1], capacity)))
        else:
            merged.append((time, capacity))
    _warn_suspicious(merged, log)
    return [t for t, _ in merged], [c for _, c in merged], log.findings


def _row(cells: dict[str, str], line: int, log: FindingLog) -> tuple[int, Capacity] | None:
    before = len(log.errors)
    time = number(cells, "time_ms", line, log)
    if time is not None and time < 0:
        log.error("must be >= 0", line=line, field="time_ms", value=cells["time_ms"])
    if time is not None and time != int(time):
        log.error("must be whole milliseconds", line=line, field="time_ms", value=cells["time_ms"])
    values: list[float] = []
    for name in RESOURCES:
        value = number(cells, name, line, log)
        if value is None:
            continue
        if name == "gpu_sm" and value > 100:
            log.error(
                "must be a percentage of one GPU, 0 to 100; several GPUs are several timelines",
                line=line, field=name, value=cells[name],
            )  # fmt: skip
        if value < 0:
            log.warn("must be >= 0; 0 is used", line=line, field=name, value=cells[name])
            value = 0.0
        values.append(value)
    if len(log.errors) > before or time is None:
        return None
    return int(time), tuple(values)


def _warn_suspicious(rows: list[tuple[int, Capacity]], log: FindingLog) -> None:
    """Signs of another unit or an unknown beginning. Never converted: only the writer of the file knows."""
    if not rows:
        return
    if rows[0][0] > 0:
        log.warn("begins after 0; nothing can be placed before it", field="time_ms", value=rows[0][0])
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(rows)]
    if len(rows) >= 3 and max(gaps) <= 10:
        log.warn("looks like seconds; milliseconds are expected", field="time_ms", value=f"largest gap {max(gaps)}")
    peak = [max(capacity[i] for _, capacity in rows) for i in range(4)]
    limits = (
        (0, 1024.0, "looks like milli-cores; vCPU are expected"),
        (1, 16384.0, "looks like MiB or bytes; GiB are expected"),
        (3, 1024.0, "looks like MiB or bytes; GiB are expected"),
    )
    for index, limit, text in limits:
        if peak[index] > limit:
            log.warn(text, field=RESOURCES[index], value=f"maximum {peak[index]:g}")
    if 0 < peak[2] <= 1.0:
        log.warn("looks like a fraction; percent is expected", field="gpu_sm", value=f"maximum {peak[2]:g}")
