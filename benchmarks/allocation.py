"""Measures the allocator beside simple policies, single steps and whole plans, on the same curves in one run.

    python -m benchmarks.allocation                                # shipped profiles and timelines
    python -m benchmarks.allocation --traces windows.parquet       # replayed traces as well

Ratios are completion over the exact optimum for single steps (geometric means, so that a job of 0.1 s that waits an
hour does not drown the rest), and makespan over the optimum that CP-SAT proved for plans (arithmetic means; needs
the extra ``exact``). The optimum of single steps and the check for over-commits share no code with the allocator.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.curves import shipped_curves, trace_curves
from benchmarks.policies import (
    LOOKS_AHEAD,
    NEVER,
    POLICIES,
    cheapest,
    make_instance,
    max_profile,
    optimum,
    over_commits_at_once,
)
from tomas_router.errors import InfeasibleError
from tomas_router.evaluation.plan_check import Run, over_commits
from tomas_router.planner import Allocation, StepDemand, allocate, allocate_plan
from tomas_router.planner.allocator import DEFAULT_LIMITS, GREEDY
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import load_tool_registry
from tomas_router.shipped import profiling_path, registry_path

OURS = "ours"
OPTIMUM = "proved optimum (CP-SAT)"
PROOF_MS = 5_000.0
WIDTH = 150  # of a table that is written to a file
Rows = Sequence[ProfileRow]


@dataclass
class Outcome:
    """What one policy did over all instances that have a solution."""

    ratios: list[float] = field(default_factory=list)
    hard_ratios: list[float] = field(default_factory=list)  # the optimum waits, or the fastest row is not it
    never: int = 0
    over_commits: int = 0
    total: int = 0
    total_ms: float = 0.0

    def cells(self) -> list[str]:
        share = max(1, self.total)
        return [
            f"{100 * self.never / share:.1f} %",
            _geomean(self.ratios),
            f"{np.percentile(self.ratios, 95):.2f}" if self.ratios else "-",
            f"{100 * np.mean([r < 1 + 1e-9 for r in self.ratios]):.1f} %" if self.ratios else "-",
            _geomean(self.hard_ratios),
            f"{100 * self.over_commits / share:.1f} %",
            f"{self.total_ms / share:.2f}",
        ]


def single_steps(table: ProfilingTable, curves: Sequence[SystemTimeline], count: int, seed: int) -> dict[str, Outcome]:
    """Every policy on ``count`` drawn (tool, size, curve) triples; all of them when there are fewer."""
    demands = [
        rows for tool in table.tools for size in ("small", "medium", "large") if (rows := table.rows(tool, size))
    ]
    pairs = [(d, c) for d in range(len(demands)) for c in range(len(curves))]
    rng = np.random.default_rng(seed)
    found = {name: Outcome() for name in (OURS, *POLICIES)}
    infeasible = falsely_infeasible = falsely_feasible = broken = 0
    for pick in track(rng.permutation(len(pairs))[:count].tolist(), description="single steps"):
        rows, curve = demands[pairs[pick][0]], curves[pairs[pick][1]]
        instance = make_instance(rows, curve)
        best = optimum(instance)
        ours, elapsed_ms = _ours(rows, curve)
        over = False
        if ours is not None:
            row = rows[ours.option_index]
            over = bool(over_commits([Run.of("step", ours.start_ms, row, row.latency_ms)], curve))
        broken += over
        if best is None:
            infeasible += 1
            falsely_feasible += ours is not None
            continue
        falsely_infeasible += ours is None
        least = instance.completion(best)
        hard = instance.earliest_K[best] > 0 or best != max_profile(instance)
        end_ms = None if ours is None else ours.end_ms
        _note(found[OURS], end_ms, least, hard, over_commit=over, elapsed_ms=elapsed_ms)
        for name, policy in POLICIES.items():
            started = time.perf_counter()
            row = policy(instance)
            elapsed_ms = 1000 * (time.perf_counter() - started)
            end = NEVER if row is None else instance.completion(row)
            at_once = row is not None and name not in LOOKS_AHEAD and over_commits_at_once(instance, row)
            _note(found[name], None if end == NEVER else end, least, hard, over_commit=at_once, elapsed_ms=elapsed_ms)
    total = min(count, len(pairs))
    _console().print(
        f"{total} instances on {len(curves)} curves, {infeasible} without a solution; ours: {broken} over-commits, "
        f"{falsely_infeasible} falsely infeasible, {falsely_feasible} falsely feasible"
    )
    return found


def _ours(rows: Rows, curve: SystemTimeline) -> tuple[Allocation | None, float]:
    started = time.perf_counter()
    try:
        placed: Allocation | None = allocate(rows, curve)
    except InfeasibleError:
        placed = None
    return placed, 1000 * (time.perf_counter() - started)


def _note(
    outcome: Outcome, end_ms: int | None, least_ms: int, hard: bool, *, over_commit: bool, elapsed_ms: float
) -> None:
    outcome.total += 1
    outcome.total_ms += elapsed_ms
    outcome.over_commits += over_commit
    if end_ms is None:
        outcome.never += 1
        return
    outcome.ratios.append(end_ms / least_ms)
    if hard:
        outcome.hard_ratios.append(end_ms / least_ms)


# ---- plans ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """Where a method put the steps of a plan."""

    starts_ms: list[int]
    rows: list[ProfileRow]

    @property
    def makespan_ms(self) -> int:
        return max(run.end_ms for run in self.runs())

    def runs(self) -> list[Run]:
        pairs = zip(self.starts_ms, self.rows, strict=True)
        return [Run.of(f"s{k + 1}", start, row, row.latency_ms) for k, (start, row) in enumerate(pairs)]


PlanMethod = Callable[[Sequence[StepDemand], SystemTimeline], Placed]


def _searched(limits: SearchLimits) -> PlanMethod:
    def place(steps: Sequence[StepDemand], curve: SystemTimeline) -> Placed:
        placed = allocate_plan(steps, curve, limits=limits)
        rows = [step.options[a.option_index] for step, a in zip(steps, placed, strict=True)]
        return Placed([a.start_ms for a in placed], rows)  # type: ignore[arg-type]

    return place


def _unbooked(steps: Sequence[StepDemand], curve: SystemTimeline) -> Placed:
    """Each step at its own optimum on the full curve, as if the others took nothing."""
    ends: list[int] = []
    starts: list[int] = []
    rows: list[ProfileRow] = []
    for step in steps:
        release = max((ends[d] for d in step.depends_on), default=0)
        a = allocate(step.options, curve, release)
        starts.append(a.start_ms)
        ends.append(a.end_ms)
        rows.append(step.options[a.option_index])  # type: ignore[arg-type]
    return Placed(starts, rows)


def _greedy(steps: Sequence[StepDemand], curve: SystemTimeline) -> Placed:
    """Each step at once when its predecessors end, with its fastest row that fits what is free at that moment."""
    placed = Placed([], [])
    for step in steps:
        before = placed.runs()
        start = max([int(curve.times_ms[0]), *(before[d].end_ms for d in step.depends_on)])
        now = [Run(run.name, start, 1, run.demand) for run in before if run.start_ms <= start < run.end_ms]
        rows = sorted(step.options, key=lambda row: row.latency_ms)
        fits = (row for row in rows if not over_commits([*now, Run.of("this", start, row, 1)], curve))  # type: ignore[arg-type]
        placed.starts_ms.append(start)
        placed.rows.append(next(fits, rows[0]))  # type: ignore[arg-type]
    return placed


def _fixed(choose: Callable[..., int]) -> PlanMethod:
    """One row a step, chosen without looking at the curve, then list-scheduled with reservations."""

    def place(steps: Sequence[StepDemand], curve: SystemTimeline) -> Placed:
        chosen = [s.options[choose(make_instance(s.options, curve))] for s in steps]  # type: ignore[arg-type]
        return _searched(GREEDY)([StepDemand((r,), s.depends_on) for r, s in zip(chosen, steps, strict=True)], curve)

    return place


METHODS: dict[str, PlanMethod] = {
    OURS: _searched(DEFAULT_LIMITS),
    "list scheduling only": _searched(GREEDY),
    "each step alone, not booked": _unbooked,
    "greedy: fastest row that fits now": _greedy,
    "largest: fastest row of each step": _fixed(max_profile),
    "static: cheapest row of each step": _fixed(cheapest),
}


def draw_plan(table: ProfilingTable, rng: np.random.Generator) -> list[StepDemand]:
    """3 to 8 steps of drawn tools and sizes; each waits for each earlier one with probability 0.3."""
    count = int(rng.integers(3, 9))
    steps = []
    for k in range(count):
        rows: Rows = ()
        while not rows:
            tool = table.tools[int(rng.integers(len(table.tools)))]
            rows = table.rows(tool, ("small", "medium", "large")[int(rng.integers(3))])  # type: ignore[arg-type]
        steps.append(StepDemand(rows, tuple(d for d in range(k) if rng.random() < 0.3)))
    return steps


def plans(table: ProfilingTable, curves: Sequence[SystemTimeline], count: int, seed: int) -> Table:
    """Every method on ``count`` drawn plans."""
    rng = np.random.default_rng(seed)
    makespans: dict[str, list[float]] = {name: [] for name in (*METHODS, OPTIMUM)}
    broken = dict.fromkeys(makespans, 0)
    spent_ms: dict[str, list[float]] = {name: [] for name in makespans}
    proved: list[bool] = []
    for _ in track(range(count), description="plans"):
        steps, curve = draw_plan(table, rng), curves[int(rng.integers(len(curves)))]
        proof: list[bool] = []
        for name, method in (*METHODS.items(), (OPTIMUM, _proving(proof))):
            started = time.perf_counter()
            try:
                placed = method(steps, curve)
            except InfeasibleError:
                makespans[name].append(np.inf)
                continue
            finally:
                spent_ms[name].append(1000 * (time.perf_counter() - started))
            over = bool(over_commits(placed.runs(), curve))
            broken[name] += over
            makespans[name].append(np.inf if over else placed.makespan_ms)
        proved.append(any(proof))
    return _plan_table(makespans, broken, spent_ms, np.array(proved))


def _proving(proof: list[bool]) -> PlanMethod:
    """CP-SAT alone, from list scheduling on; ``proof`` gets whether what it found is proved."""

    def place(steps: Sequence[StepDemand], curve: SystemTimeline) -> Placed:
        placed = allocate_plan(steps, curve, limits=SearchLimits(budget_ms=0.0, exact_ms=PROOF_MS))
        proof.append(placed[0].proof is not None and placed[0].proof.bound_ms == max(a.end_ms for a in placed))
        rows = [step.options[a.option_index] for step, a in zip(steps, placed, strict=True)]
        return Placed([a.start_ms for a in placed], rows)  # type: ignore[arg-type]

    return place


def _plan_table(
    makespans: dict[str, list[float]],
    broken: dict[str, int],
    spent_ms: dict[str, list[float]],
    proved: NDArray[np.bool_],
) -> Table:
    values = np.array(list(makespans.values()))
    best = values[-1]
    feasible = np.isfinite(values.min(axis=0))
    solved = proved & np.isfinite(best)
    title = (
        f"plans of 3 to 8 steps: {len(best)}, {int(feasible.sum())} feasible, "
        f"{int(solved.sum())} with a proved optimum; ratios on those"
    )
    headings = ("no valid plan", "over-commits", "mean over optimum", "p95", "= optimum", "ms p50", "ms p95", "ms max")
    table = Table("method", *headings, title=title)
    for name, row in zip(makespans, values, strict=True):
        valid = solved & np.isfinite(row)
        ratio = row[valid] / best[valid]
        lost = 1 - valid.sum() / max(1, solved.sum())
        table.add_row(
            name,
            f"{100 * lost:.1f} %",
            f"{100 * broken[name] / len(best):.1f} %",
            f"{100 * (ratio.mean() - 1):+.2f} %" if len(ratio) else "-",
            f"{100 * (np.percentile(ratio, 95) - 1):+.1f} %" if len(ratio) else "-",
            f"{100 * np.mean(ratio < 1 + 1e-9):.1f} %" if len(ratio) else "-",
            f"{np.percentile(spent_ms[name], 50):.2f}",
            f"{np.percentile(spent_ms[name], 95):.2f}",
            f"{max(spent_ms[name]):.2f}",
        )
    return table


def _console() -> Console:
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=WIDTH)


def _geomean(ratios: Sequence[float]) -> str:
    return f"{np.exp(np.mean(np.log(ratios))):.4f}" if ratios else "-"


def _single_table(found: dict[str, Outcome]) -> Table:
    title = "single steps; every row started as early as it fits; hard = waits or not the fastest row"
    headings = ("never", "geomean C/C*", "p95", "= optimum", "hard: geomean", "over-commit if started at once", "ms")
    table = Table("policy", *headings, title=title)
    for name, outcome in found.items():
        table.add_row(name, *outcome.cells())
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiling", type=Path, help="profiling.csv; default: the shipped one")
    parser.add_argument("--traces", type=Path, nargs="*", default=[], help="parquet files of windows")
    parser.add_argument("--windows", type=int, default=100, help="windows drawn from each trace file")
    parser.add_argument("--instances", type=int, default=3000, help="single steps at most")
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.profiling is None:
        table = load_profiling_matrix(profiling_path(), load_tool_registry(registry_path()))
    else:
        table = ProfilingTable.from_csv(args.profiling)
    groups = {"shipped timelines": shipped_curves()}
    groups |= {path.stem: trace_curves(path, args.windows, args.seed) for path in args.traces}
    console = _console()
    for name, curves in groups.items():
        console.rule(f"{name}: {len(curves)} curves")
        console.print(_single_table(single_steps(table, curves, args.instances, args.seed)))
        console.print(plans(table, curves, args.plans, args.seed))


if __name__ == "__main__":
    main()
