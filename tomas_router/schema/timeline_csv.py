"""Reads ``system_profiling.csv``. Policies: docs/data_policies.md."""

from __future__ import annotations

import itertools
from pathlib import Path

from tomas_router.schema.csv_table import MAX_AMOUNT, number, read_csv
from tomas_router.schema.findings import Finding, FindingLog
from tomas_router.schema.suspicious_units import warn_cores, warn_memory, warn_share

COLUMNS = ("time_ms", "cpu_cores", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")
RESOURCES = COLUMNS[1:]
Capacity = tuple[float, ...]

MAX_TIME_MS = 10**13
"""317 years. Unix milliseconds fit, and so does every product that the planner forms, in 64-bit integers."""

SUSPICIOUS_CORES, SUSPICIOUS_MEMORY_GIB, SUSPICIOUS_GPU_GIB = 1000, 4096, 320
SUSPICIOUS_GAP_MS = 60
UNIX_TIME_FROM = 10**9

_Row = tuple[int, int, Capacity]  # line, time, capacity


def read_timeline(path: str | Path) -> tuple[list[int], list[Capacity], list[Finding]]:
    """Clean ascending times, their capacities, and everything wrong or suspicious."""
    log = FindingLog.of(path)
    rows: list[_Row] = []
    for line, cells in read_csv(path, COLUMNS, log):
        row = _row(cells, line, log)
        if row is not None:
            rows.append((line, *row))
    rows = _merged(_sorted(rows, log), log)
    if rows:
        _warn_times(rows, log)
        _warn_units(rows, log)
    return [time for _, time, _ in rows], [capacity for _, _, capacity in rows], log.findings


def _row(cells: dict[str, str], line: int, log: FindingLog) -> tuple[int, Capacity] | None:
    before = len(log.errors)
    time = number(cells, "time_ms", line, log)
    if time is not None:
        _check_time(time, cells["time_ms"], line, log)
    values: list[float] = []
    for name in RESOURCES:
        value = number(cells, name, line, log)
        if value is None:
            continue
        if name == "gpu_sm" and value > 100:
            expected = "must be a percentage of one GPU, 0 to 100; several GPUs are several timelines"
            log.error(expected, line=line, field=name, value=cells[name])
        elif value > MAX_AMOUNT:
            log.error(f"must be <= {MAX_AMOUNT:g}", line=line, field=name, value=cells[name])
        elif value < 0:
            log.warn("must be >= 0; 0 is used", line=line, field=name, value=cells[name])
        values.append(max(value, 0.0))
    if len(log.errors) > before or time is None:
        return None
    return int(time), tuple(values)


def _check_time(time: float, text: str, line: int, log: FindingLog) -> None:
    if time < 0:
        log.error("must be >= 0", line=line, field="time_ms", value=text)
    elif time > MAX_TIME_MS:
        log.error(f"must be <= {MAX_TIME_MS}", line=line, field="time_ms", value=text)
    elif not time.is_integer():
        log.error("must be whole milliseconds", line=line, field="time_ms", value=text)


def _sorted(rows: list[_Row], log: FindingLog) -> list[_Row]:
    for (_, earlier, _), (line, later, _) in itertools.pairwise(rows):
        if later < earlier:
            log.warn("is before the row above it; all rows are sorted", line=line, field="time_ms", value=later)
            return sorted(rows, key=lambda row: row[1])
    return rows


def _merged(rows: list[_Row], log: FindingLog) -> list[_Row]:
    merged: list[_Row] = []
    for line, time, capacity in rows:
        if merged and merged[-1][1] == time:
            first, _, before = merged[-1]
            expected = f"repeats line {first}; the smaller of each resource is kept"
            log.warn(expected, line=line, field="time_ms", value=time)
            merged[-1] = (first, time, tuple(map(min, before, capacity)))
        else:
            merged.append((line, time, capacity))
    return merged


def _warn_times(rows: list[_Row], log: FindingLog) -> None:
    line, first, _ = rows[0]
    if first >= UNIX_TIME_FROM:
        expected = "looks like Unix time; milliseconds since submission are expected, and the epoch beside the file"
        log.warn(expected, line=line, field="time_ms", value=first)
    elif first > 0:
        log.warn("begins after 0; nothing is known before it or placed there", line=line, field="time_ms", value=first)
    gaps = [later[1] - earlier[1] for earlier, later in itertools.pairwise(rows)]
    if len(rows) >= 3 and max(gaps) <= SUSPICIOUS_GAP_MS:
        expected = f"looks like seconds, with rows at most {max(gaps)} apart; milliseconds are expected"
        log.warn(expected, line=rows[-1][0], field="time_ms", value=rows[-1][1])


def _warn_units(rows: list[_Row], log: FindingLog) -> None:
    cores, memory, share, gpu_memory = ([(line, capacity[r]) for line, _, capacity in rows] for r in range(4))
    warn_cores(cores, SUSPICIOUS_CORES, "cpu_cores", log)
    warn_memory(memory, SUSPICIOUS_MEMORY_GIB, "cpu_mem_gb", log)
    warn_share(share, "gpu_sm", log)
    warn_memory(gpu_memory, SUSPICIOUS_GPU_GIB, "gpu_mem_gb", log)
