"""Checks placed runs against a curve, in exact fractions and without any of the planner's code.

Used by tests only. It knows nothing of options, ledgers or searches: it adds up what runs at every moment and compares
that with what the curve declares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

NAMES = ("cpu", "cpu memory", "gpu sm", "gpu memory")
# Capacity is floored and demand ceiled with a guard of 1e-6 each, so rounding may forgive this much a run.
FORGIVEN = Fraction(3, 1_000_000)


@dataclass(frozen=True)
class Run:
    """Something that occupies ``demand`` (vCPU, GiB, percent, GiB) on [start_ms, end_ms)."""

    start_ms: int
    end_ms: int
    demand: tuple[float, float, float, float]


def violations(
    rows: Sequence[Sequence[float]],
    runs: Sequence[Run],
    *,
    horizon_ms: int | None,
    depends_on: Sequence[Sequence[int]] | None = None,
    release_ms: int = 0,
) -> list[str]:
    """Everything that is wrong with ``runs`` on the curve ``rows`` (time_ms, cpu, memory, sm, gpu memory).

    ``horizon_ms`` None: the last row holds for ever.
    """
    found = []
    first_ms = rows[0][0]
    for index, run in enumerate(runs):
        if run.end_ms <= run.start_ms:
            found.append(f"run {index} ends at {run.end_ms}, before it starts at {run.start_ms}")
        if run.start_ms < max(first_ms, release_ms):
            found.append(f"run {index} starts at {run.start_ms}, before {max(first_ms, release_ms)}")
        if horizon_ms is not None and run.end_ms > horizon_ms:
            found.append(f"run {index} ends at {run.end_ms}, after the horizon {horizon_ms}")
    for index, before in enumerate(depends_on or ()):
        found += [f"run {index} starts before run {p} ends" for p in before if runs[index].start_ms < runs[p].end_ms]
    moments = {run.start_ms for run in runs} | {int(row[0]) for row in rows}
    for moment in sorted(moments):
        found += _overload(rows, runs, moment)
    return found


def _overload(rows: Sequence[Sequence[float]], runs: Sequence[Run], moment: int) -> list[str]:
    valid = [row for row in rows if row[0] <= moment]
    if not valid:
        return []
    active = [run for run in runs if run.start_ms <= moment < run.end_ms]
    found = []
    for r, name in enumerate(NAMES):
        used = sum((Fraction(run.demand[r]) for run in active), Fraction(0))
        free = max(Fraction(valid[-1][r + 1]), Fraction(0))
        if used > free + FORGIVEN * max(len(active), 1):
            found.append(f"{name} at {moment} ms: {float(used)} used, {float(free)} free")
    return found


def earliest_completion_on_grid(
    rows: Sequence[Sequence[int]],
    options: Sequence[tuple[tuple[int, int, int, int], int]],
    *,
    horizon_ms: int,
    release_ms: int,
) -> int | None:
    """Tries every start on a 1 ms grid; ``options`` are (demand, latency_ms). For small integers only."""
    best: int | None = None
    for demand, latency in options:
        for start in range(max(release_ms, rows[0][0]), horizon_ms - latency + 1):
            run = Run(start, start + latency, demand)
            if (best is None or run.end_ms < best) and not violations(rows, [run], horizon_ms=horizon_ms):
                best = run.end_ms
    return best
