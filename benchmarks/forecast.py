"""Plans single steps on forecasts of replayed curves, and checks them against what really came.

    python -m benchmarks.forecast --traces windows.parquet

Of each window the first half is history, the rest is the truth. A step is placed on the forecast by the allocator. It
*over-commits* if it takes more than is really free at any time of its run. *Refused* are steps that the forecast has no
place for although the truth has one. *Regret* is the completion of what holds over the best completion on the truth,
minus 1; a geometric mean. With own bookings, the machine is seen with them in use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.curves import trace_curves
from benchmarks.policies import Instance, make_instance, optimum
from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import Allocation, allocate
from tomas_router.runtime.forecast import ChangeQuantile, Forecaster, LedgerAware, LowestSeen, Persistence
from tomas_router.runtime.ledger import InMemoryLedger, Reservation
from tomas_router.runtime.residual import ResidualCapacity
from tomas_router.runtime.timeline import INTEGER_STEPS, SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import load_tool_registry
from tomas_router.shipped import profiling_path, registry_path

HISTORY_SHARE = 0.5
Rows = Sequence[ProfileRow]

FORECASTERS: dict[str, Forecaster] = {
    "persistence": Persistence(),
    "lowest of 10 minutes": LowestSeen(600_000),
    "change quantile 0.5": ChangeQuantile(0.5),
    "change quantile 0.2": ChangeQuantile(0.2),
    "change quantile 0.1": ChangeQuantile(0.1),
    "change quantile 0.05": ChangeQuantile(0.05),
}


@dataclass(frozen=True)
class Scene:
    """One window, cut at now."""

    history: SystemTimeline  # what others left, up to now
    truth: SystemTimeline  # from now on
    bookings: tuple[Reservation, ...] = ()  # ours, on the clock of the truth


@dataclass
class Score:
    """What came of all steps planned on one forecaster."""

    placed: int = 0
    over_commits: int = 0
    refused: int = 0
    feasible: int = 0
    ratios: list[float] = field(default_factory=list)

    def cells(self) -> list[str]:
        regret = float(np.exp(np.mean(np.log(self.ratios)))) - 1 if self.ratios else float("nan")
        return [
            f"{100 * self.over_commits / max(self.placed, 1):.2f} %",
            f"{100 * self.refused / max(self.feasible, 1):.2f} %",
            f"{100 * regret:.2f} %",
            str(self.placed),
        ]


def cut(window: SystemTimeline) -> Scene:
    """History and truth; time 0 of the truth is now."""
    rows = len(window.times_ms)
    split = max(int(rows * HISTORY_SHARE), 2)
    now = int(window.times_ms[split - 1])
    epoch_ms = 1_000_000_000_000
    history = SystemTimeline(window.times_ms[:split], window.capacity[:split], epoch_ms=epoch_ms - now)
    truth = SystemTimeline(
        window.times_ms[split - 1 :] - now,
        window.capacity[split - 1 :],
        horizon_ms=window.end_ms - now,
        epoch_ms=epoch_ms,
    )
    return Scene(history, truth)


def with_bookings(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same scene with up to three own steps that run now and end within the next twenty minutes.

    Each takes a fifth of the least that is free while it runs, so that all of them fit the truth together.
    """
    epoch_ms = scene.truth.epoch_ms or 0
    found: list[Reservation] = []
    for _ in range(3):
        start = -int(rng.integers(60_000, 900_000))
        end = min(int(rng.integers(60_000, 1_200_000)), scene.truth.end_ms)
        past = scene.history.capacity_int[scene.history.times_ms - scene.history.times_ms[-1] >= start]
        coming = scene.truth.capacity_int[scene.truth.times_ms < end]
        least = np.concatenate([past, coming]).min(axis=0) // 5
        if least.any():
            found.append(Reservation(epoch_ms + start, epoch_ms + end, tuple(least.tolist())))  # type: ignore[arg-type]
    return Scene(scene.history, scene.truth, tuple(found))


def as_seen(scene: Scene) -> SystemTimeline:
    """The history as the machine shows it: our own steps are in use."""
    times = scene.history.times_ms + (scene.history.epoch_ms or 0)
    capacity = scene.history.capacity.copy()
    for booked in scene.bookings:
        active = (booked.start_ms <= times) & (times < booked.end_ms)
        capacity[active] -= np.array(booked.demand) / INTEGER_STEPS
    return SystemTimeline(scene.history.times_ms, capacity.clip(0), epoch_ms=scene.history.epoch_ms)


def free_of_bookings(scene: Scene) -> SystemTimeline:
    """The truth that is left to a new step."""
    residual = ResidualCapacity.of(scene.truth, scene.bookings)
    capacity = residual.free_RN.T / INTEGER_STEPS
    return SystemTimeline(residual.starts_N, capacity, horizon_ms=scene.truth.horizon_ms, epoch_ms=scene.truth.epoch_ms)


def ledger_of(scene: Scene) -> InMemoryLedger:
    ledger = InMemoryLedger()
    if scene.bookings:
        ledger.book(scene.bookings, expected_version=0)
    return ledger


Plan = Callable[[Scene, Rows], Allocation | None]


def planner(forecaster: Forecaster, *, aware: bool, subtract: bool) -> Plan:
    """How a step is placed.

    Args:
        forecaster: continues the history.
        aware: give own bookings back before forecasting.
        subtract: let the allocator take own bookings off.
    """

    known: dict[int, SystemTimeline] = {}  # of each scene, many steps are planned on the same forecast

    def plan(scene: Scene, rows: Rows) -> Allocation | None:
        ledger = ledger_of(scene)
        used = LedgerAware(forecaster, ledger) if aware else forecaster
        if id(scene) not in known:
            known[id(scene)] = used.forecast(as_seen(scene), scene.truth.horizon_ms or 0)
        try:
            return allocate(rows, known[id(scene)], ledger=ledger if subtract else None)
        except InfeasibleError:
            return None

    return plan


def score(plan: Plan, cases: Sequence[tuple[Scene, Rows, Instance, int | None]]) -> Score:
    """Plans every case and checks it against the truth."""
    found = Score()
    for scene, rows, instance, best in cases:
        placed = plan(scene, rows)
        found.feasible += best is not None
        if placed is None:
            found.refused += best is not None
            continue
        found.placed += 1
        if not holds(instance, placed):
            found.over_commits += 1
        else:
            assert best is not None, "what holds is feasible"
            found.ratios.append(placed.end_ms / instance.completion(best))
    return found


def holds(instance: Instance, placed: Allocation) -> bool:
    """Whether the truth has room for the whole run."""
    demand = instance.demand_KR[placed.option_index]
    ends = np.append(instance.starts_N[1:], instance.horizon_ms)
    during = (instance.starts_N < placed.end_ms) & (ends > placed.start_ms)
    return placed.end_ms <= instance.horizon_ms and bool((demand <= instance.free_NR[during]).all())


def draw_cases(
    scenes: Sequence[Scene], table: ProfilingTable, count: int, seed: int
) -> list[tuple[Scene, Rows, Instance, int | None]]:
    """(window, tool and size) pairs with their optimum on the truth; seeded choice."""
    sizes = ("small", "medium", "large")
    demands = [rows for tool in table.tools for size in sizes if (rows := table.rows(tool, size))]
    rng = np.random.default_rng(seed)
    cases = []
    for _ in track(range(count), description="cases"):
        scene = scenes[rng.integers(len(scenes))]
        rows = demands[rng.integers(len(demands))]
        instance = make_instance(rows, free_of_bookings(scene))
        cases.append((scene, rows, instance, optimum(instance)))
    return cases


def show(title: str, scores: dict[str, Score], console: Console) -> None:
    table = Table(title=title, header_style="bold")
    table.add_column("forecast")
    for name in ("over-commits", "refused", "regret", "placed"):
        table.add_column(name, justify="right")
    for name, found in scores.items():
        table.add_row(name, *found.cells())
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, nargs="+", required=True, metavar="FILE.parquet")
    parser.add_argument("--windows", type=int, default=500, help="of each file (default: 500)")
    parser.add_argument("--cases", type=int, default=5000, help="of each file and table (default: 5000)")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)

    table = load_profiling_matrix(profiling_path(), load_tool_registry(registry_path()))
    console = Console()
    for path in args.traces:
        scenes = [cut(curve) for curve in trace_curves(path, args.windows, args.seed)]
        cases = draw_cases(scenes, table, args.cases, args.seed)
        plain = {name: score(planner(f, aware=False, subtract=False), cases) for name, f in FORECASTERS.items()}
        show(f"{path.name}: no bookings of our own, {len(cases)} steps", plain, console)

        rng = np.random.default_rng(args.seed)
        booked = draw_cases([with_bookings(scene, rng) for scene in scenes], table, args.cases, args.seed)
        ways = {
            "persistence, bookings unknown": planner(Persistence(), aware=False, subtract=False),
            "persistence, bookings taken off twice": planner(Persistence(), aware=False, subtract=True),
            "persistence, ledger-aware": planner(Persistence(), aware=True, subtract=True),
            "change quantile 0.1, ledger-aware": planner(ChangeQuantile(0.1), aware=True, subtract=True),
        }
        show(
            f"{path.name}: with bookings of our own, {len(booked)} steps",
            {name: score(way, booked) for name, way in ways.items()},
            console,
        )


if __name__ == "__main__":
    main()
