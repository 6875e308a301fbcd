"""Learning from what happened: recorded runs as training rows, and as profile rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from tomas_router.datasets.rows import Row, Step, in_call_order
from tomas_router.schema.profiling import ProfileRow, ProfilingTable, ResourceConfig
from tomas_router.schema.recorded_run import RecordedRun, RunStep

ENOUGH_RUNS = 3
"""Observed runs of a configuration that outweigh what its profile row says of the latency."""
MEMORY_DIGITS = 3
"""GiB are rounded up to so many decimals."""

Key = tuple[str, str, ResourceConfig]


def rows_of_runs(runs: Sequence[RecordedRun]) -> list[Row]:
    """The plans that the requests should get; of several records of one request the last that says so counts.

    A run that failed somewhere and was not corrected says nothing about which tools were right.
    """
    rows: dict[str, Row] = {}
    for number, run in enumerate(runs, start=1):
        wanted = run.wanted
        if wanted is None:
            continue
        steps = in_call_order(tuple(Step(s.tool, tuple(s.depends_on), s.input_size) for s in wanted))
        assert steps is not None  # the schema allows no circle
        instruction = run.instruction.strip()
        rows.pop(instruction, None)
        rows[instruction] = Row(
            f"run-{number}", instruction, steps, needs_tool=bool(steps), kind="recorded", split=run.split or ""
        )
    return list(rows.values())


def observed_profile(runs: Iterable[RecordedRun], before: ProfilingTable | None = None) -> ProfilingTable:
    """A profile brought up to date by what was measured while steps ran.

    A configuration without a row gets one, its latency the median of its runs. A row keeps its latency until
    ``ENOUGH_RUNS`` runs were seen, and then takes their median. Memory that a run exceeded is raised to the peak, and
    never lowered: a few runs do not show the largest. Failed steps count for memory alone, which they may have died of.

    Medians, because the network learns from these rows beside those of ``tomas profile``, which are medians too. Plans
    that are made while tools run want room on top: ``runtime.online_profile``, which also tells from a step that died
    how much was too little, and lowers what is not needed.
    """
    seen: dict[Key, list[RunStep]] = defaultdict(list)
    for run in runs:
        for step in run.steps:
            if step.resource_config is not None and step.input_size is not None:
                seen[step.tool, step.input_size, step.resource_config].append(step)
    rows: dict[Key, ProfileRow] = {}
    for row in () if before is None else before.all_rows:
        _keep(rows, _updated(row, seen.pop((row.tool, row.input_size, row.config), [])))
    for (tool, size, config), steps in seen.items():
        latencies = _latencies(steps)
        if latencies:
            fresh = {"tool": tool, "input_size": size, "latency_ms": median(latencies)} | config.model_dump()
            _keep(rows, _updated(ProfileRow.model_validate(fresh), steps))
    return ProfilingTable(rows.values())


def _updated(row: ProfileRow, steps: Sequence[RunStep]) -> ProfileRow:
    latencies = _latencies(steps)
    return row.model_copy(
        update={
            "latency_ms": median(latencies) if len(latencies) >= ENOUGH_RUNS else row.latency_ms,
            "cpu_mem_gb": _largest(row.cpu_mem_gb, [step.peak_mem_gb for step in steps]),
            "gpu_mem_gb": _largest(row.gpu_mem_gb, [step.peak_gpu_mem_gb for step in steps]),
        }
    )


def _latencies(steps: Iterable[RunStep]) -> list[float]:
    return [step.latency_ms for step in steps if step.latency_ms is not None and step.status == "done"]


def _largest(declared: float, peaks: Iterable[float | None]) -> float:
    digits = 10**MEMORY_DIGITS
    highest = max((peak for peak in peaks if peak is not None), default=0.0)
    return declared if highest <= declared else math.ceil(highest * digits) / digits


def _keep(rows: dict[Key, ProfileRow], row: ProfileRow) -> None:
    """One row a configuration; of two that became the same one the slower."""
    key = (row.tool, row.input_size, row.config)
    if key not in rows or rows[key].latency_ms < row.latency_ms:
        rows[key] = row
