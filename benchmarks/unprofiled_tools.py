"""Judges predicted demand: tools whose profile rows are taken away, curves that are forecast, and learning from runs.

    python -m benchmarks.unprofiled_tools
    python -m benchmarks.unprofiled_tools --traces windows.parquet --curves 60

Every tool is left out in turn; the guesses know the rows of all others. Three kinds of tools are told apart: those that
the packaged network was trained on, those of the same generated table that it never met, and real tools that were
measured on a machine, which it never met either. Only the last two say what happens with a new tool.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import shipped_curves, trace_curves
from benchmarks.demand_guesses import (
    QUANTILE_RULE,
    Guesser,
    largest_row,
    margins_from,
    mean_of_others,
    mean_row,
    nearest_by_text,
    nearest_row,
    quantile_of_others,
    quantile_trees,
)
from benchmarks.demand_replay import Replayed, really_takes, replay, with_more
from benchmarks.forecast import Scene, cut
from benchmarks.network_guess import Guesses, network_guesses, requests_of
from tomas_router.datasets.rows import load_rows
from tomas_router.datasets.timeline_generator import KINDS, draw_timeline
from tomas_router.errors import InfeasibleError
from tomas_router.evaluation.resource_baselines import as_numbers
from tomas_router.planner import Planner, allocate
from tomas_router.planner.demand import Option
from tomas_router.planner.margins import NO_MARGINS
from tomas_router.planner.step_options import predicted_option
from tomas_router.runtime.forecast import ChangeQuantile, Forecaster, Persistence
from tomas_router.runtime.online_profile import ObservedRun, OnlineProfile
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import AMOUNTS, SIZES, InputSize, ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
MEMORY_QUANTILE = 0.9
ONLINE_RUNS, REPORTED_RUNS = 20, (1, 2, 3, 5, 10, 20)
MEMORY_SIGMA, LATENCY_SIGMA = 0.15, 0.2
"""Of the logarithm, from run to run: inputs of one size differ. Assumed, not measured."""

Key = tuple[str, InputSize]
Optioner = Callable[[str, InputSize], Sequence[Option]]


@dataclass(frozen=True)
class Tools:
    """All tools of both tables, and what is known of them."""

    registry: ToolRegistry
    profiling: ProfilingTable
    groups: dict[str, list[str]]
    """Tools by what the network knows of them."""

    def keys(self, tools: Sequence[str]) -> list[Key]:
        return [(tool, size) for tool in tools for size in SIZES if self.profiling.rows(tool, size)]


def load_tools() -> Tools:
    """The shipped tools and the measured ones in one table."""
    shipped = ToolRegistry.from_json(DATA / "tool_registry" / "tools.json")
    measured = ToolRegistry.from_json(DATA / "tool_registry" / "measured_cpu.json")
    rows = ProfilingTable.from_csv(DATA / "profiling" / "profiling.csv", shipped).all_rows
    real = [
        row.model_copy(update={"tool": _apart(row.tool, shipped)})
        for row in ProfilingTable.from_csv(DATA / "profiling" / "measured_cpu.csv", measured).all_rows
    ]
    apart = [tool.model_copy(update={"name": _apart(tool.name, shipped)}) for tool in measured.tools]
    trained = {s.tool for row in load_rows(DATA / "instructions" / "train.jsonl") for s in row.steps}
    groups = {tool.group for tool in shipped.tools if tool.name in trained and tool.group is not None}
    known = {tool.name for tool in shipped.tools if tool.name in trained or tool.group in groups}
    profiling = ProfilingTable([*rows, *real])
    here = [tool for tool in profiling.tools if tool not in measured.names]
    return Tools(
        ToolRegistry([*shipped.tools, *apart]),
        profiling,
        {
            "met in training": [tool for tool in here if tool in known],
            "never met, generated profile": [tool for tool in here if tool not in known],
            "never met, measured profile": [tool.name for tool in apart],
        },
    )


def _apart(name: str, taken: ToolRegistry) -> str:
    """Two tools of the tables have the same name."""
    return f"{name}_on_cpu" if name in taken else name


# --- guesses -------------------------------------------------------------------------------------------------------


def optioners(tools: Tools, guesses: Guesses) -> dict[str, Optioner]:
    """Every method by name: from a tool and size to what the planner is told."""
    profiling, registry = tools.profiling, tools.registry
    new = [tool for group, members in tools.groups.items() if group != "met in training" for tool in members]
    near = nearest_by_text(profiling, registry, mean_row)
    guessers: dict[str, Guesser] = {
        "mean of all tools": mean_of_others(profiling),
        "nearest tool by text, mean row": near,
        "nearest tool by text, largest row": nearest_by_text(profiling, registry, largest_row),
        f"quantile {QUANTILE_RULE:g} of all tools": quantile_of_others(profiling),
        f"boosted trees, quantile {QUANTILE_RULE:g}": quantile_trees(profiling, registry),
        "network": lambda tool, size: guesses[tool, size],
        "network and nearest tool, mean of logarithms": lambda tool, size: between(
            guesses[tool, size], near(tool, size)
        ),
    }
    found: dict[str, Optioner] = {"its own rows (the truth)": lambda tool, size: profiling.rows(tool, size)}
    found |= {name: _as_options(guesser) for name, guesser in guessers.items()}

    def upper(memory_q: float, latency_q: float | None) -> Optioner:
        def options(tool: str, size: InputSize) -> Sequence[Option]:
            others = [other for other in new if other != tool]
            margins = margins_from(guesses, profiling, others, memory_q, latency_q or 0.5)
            return [predicted_option(margins.over(guesses[tool, size]))]

        return options

    found[f"network, memory at {MEMORY_QUANTILE:g}"] = upper(MEMORY_QUANTILE, None)
    found[f"network, memory and latency at {MEMORY_QUANTILE:g}"] = upper(MEMORY_QUANTILE, MEMORY_QUANTILE)
    return found


def between(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The geometric mean; a GPU only where the first says so."""
    mean = np.expm1((np.log1p(one) + np.log1p(other)) / 2)
    return np.where([True, True, one[2] > 0, one[2] > 0, True], mean, one)


def _as_options(guesser: Guesser) -> Optioner:
    return lambda tool, size: [predicted_option(NO_MARGINS.over(guesser(tool, size)))]


def print_errors(tools: Tools, methods: dict[str, Optioner]) -> None:
    """Mean absolute percentage errors beside the median factor, against the row nearest to the guess."""
    for group, members in tools.groups.items():
        print(f"\n**{group}** ({len(members)} tools): errors\n")
        print("| guess | host memory MAPE | GPU memory MAPE | latency MAPE | latency off by | GPU or not, right |")
        print("|---|---|---|---|---|---|")
        for name, options in methods.items():
            if name.startswith("its own"):
                continue
            found = []
            for tool, size in tools.keys(members):
                option = options(tool, size)[0]
                guess = np.array([getattr(option, f) for f in AMOUNTS])
                rows = tools.profiling.rows(tool, size)
                row = as_numbers(nearest_row(rows, guess))
                kind = (option.gpu_sm > 0) == any(r.gpu_sm > 0 for r in rows)
                gpu = abs(option.gpu_mem_gb - row[3]) / row[3] if row[3] > 0 else np.nan
                ratio = option.latency_ms / row[4]
                found.append([abs(option.cpu_mem_gb / row[1] - 1), gpu, abs(ratio - 1), abs(np.log(ratio)), kind])
            values = np.array(found, dtype=float)
            gpu = f"{np.nanmean(values[:, 1]):.0%}" if np.isfinite(values[:, 1]).any() else "-"
            print(
                f"| {name} | {values[:, 0].mean():.0%} | {gpu} | {values[:, 2].mean():.0%} | "
                f"{np.exp(np.median(values[:, 3])):.1f} x | {values[:, 4].mean():.0%} |"
            )


# --- whole runs ----------------------------------------------------------------------------------------------------


def feasible_jobs(tools: Tools, members: Sequence[str], scenes: Sequence[Scene]) -> list[tuple[Key, int, int]]:
    """(tool and size, scene, best possible end) wherever the true profile fits the true curve."""
    jobs = []
    for key in tools.keys(members):
        for number, scene in enumerate(scenes):
            try:
                jobs.append((key, number, allocate(tools.profiling.rows(*key), scene.truth).end_ms))
            except InfeasibleError:
                continue
    return jobs


def print_runs(
    title: str,
    tools: Tools,
    jobs: Sequence[tuple[Key, int, int]],
    scenes: Sequence[Scene],
    methods: dict[str, Optioner],
    forecasters: dict[str, Forecaster | None],
) -> None:
    print(f"\n**{title}**: {len(jobs)} jobs\n")
    print(
        "| demand | curve | never done | died | ran longer than reserved | over-commit | completion / best | "
        "wasted GiB-hours, 1,000 jobs | reserved / real time |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for curve, forecaster in forecasters.items():
        seen = [s.truth if forecaster is None else forecaster.forecast(s.history, s.truth.end_ms) for s in scenes]
        for name, options in methods.items():
            told = {key: options(*key) for key in dict.fromkeys(key for key, _, _ in jobs)}
            done = [
                (replay(tools.profiling.rows(*key), told[key], seen[number], scenes[number].truth), best, number)
                for key, number, best in jobs
            ]
            ends = [scene.truth.end_ms for scene in scenes]
            print(f"| {name} | {curve} | {_cells(done, ends)} |", flush=True)


def _cells(done: Sequence[tuple[Replayed, int, int]], horizons_ms: Sequence[int]) -> str:
    """What is never done counts as done at the end of the curve; else who fails on hard jobs would look quick."""
    ended = [r for r, _, _ in done if r.end_ms is not None]
    late = [max(horizons_ms[number], best) if r.end_ms is None else r.end_ms for r, best, number in done]
    ratio = np.exp(np.mean([np.log(end / best) for end, (_, best, _) in zip(late, done, strict=True)]))
    placed = max(sum(r.placed for r, _, _ in done), 1)
    booked = np.median([r.booked_ms / r.ran_ms for r in ended]) if ended else float("nan")
    return (
        f"{1 - len(ended) / len(done):.1%} | {sum(r.deaths > 0 for r, _, _ in done) / placed:.1%} | "
        f"{sum(r.overran for r, _, _ in done) / placed:.1%} | {sum(r.over_commits for r, _, _ in done) / placed:.1%} | "
        f"{ratio:.3f} | {1000 * sum(r.wasted_gib_hours for r in ended) / max(len(ended), 1):.1f} | {booked:.2f}"
    )


# --- learning from runs ----------------------------------------------------------------------------------------------


def print_online(tools: Tools, members: Sequence[str], methods: dict[str, Optioner], seed: int) -> None:
    """The same tool again and again on an idle machine, its need drawn anew every time."""
    names = [name for name in methods if name.startswith("network") and "nearest" not in name]
    print(f"\n**Learning from runs** ({len(members)} tools never met, every size, {ONLINE_RUNS} runs each)\n")
    print("| demand | of run | died | ran longer than reserved | wasted / used memory | reserved / real time |")
    print("|---|---|---|---|---|---|")
    for name in names:
        for online in (False, True):
            log = [_series(tools, key, methods[name](*key)[0], online, seed) for key in tools.keys(members)]
            label = f"{name}, learning" if online else f"{name}, not learning"
            for run in REPORTED_RUNS if online else (1, ONLINE_RUNS):
                died, overran, waste, booked = np.array([series[run - 1] for series in log]).T
                print(
                    f"| {label} | {run} | {died.mean():.1%} | {overran.mean():.1%} | {np.median(waste):.2f} | "
                    f"{np.median(booked):.2f} |"
                )


def _series(tools: Tools, key: Key, first: Option, online: bool, seed: int) -> list[tuple[float, float, float, float]]:
    """(died, overran, wasted / used, reserved / real) of every run of one tool."""
    tool, size = key
    rng = np.random.default_rng([seed, tools.registry.index(tool), SIZES.index(size)])
    profile, log = OnlineProfile(), []
    for _ in range(ONLINE_RUNS):
        rows = _drawn(tools.profiling.rows(tool, size), rng)
        learned = profile.table().rows(tool, size)
        option: Option = learned[-1] if online and learned else first
        died = False
        while (true := really_takes(rows, option)).lack is not None:
            died = True
            if true.lack != "gpu":
                profile.observe(_observed(tool, size, option, true.latency_ms / 2, None, None, true.lack))
            option = with_more(option, true.lack)
        used = true.cpu_mem_gb + true.gpu_mem_gb
        held = option.cpu_mem_gb + option.gpu_mem_gb
        overran = true.latency_ms > option.latency_ms
        log.append((float(died), float(overran), (held - used) / used, option.latency_ms / true.latency_ms))
        profile.observe(_observed(tool, size, option, true.latency_ms, true.cpu_mem_gb, true.gpu_mem_gb, None))
    return log


def _observed(
    tool: str,
    size: InputSize,
    option: Option,
    latency_ms: float,
    cpu_mem_gb: float | None,
    gpu_mem_gb: float | None,
    lack: str | None,
) -> ObservedRun:
    return ObservedRun(
        tool, size, option.cpu_core, option.gpu_sm, option.cpu_mem_gb, option.gpu_mem_gb, option.latency_ms,
        max(latency_ms, 1e-3), cpu_mem_gb, gpu_mem_gb, "done" if lack is None else "out_of_memory",
        "gpu_mem_gb" if lack == "gpu_mem_gb" else "cpu_mem_gb",
    )  # fmt: skip


def _drawn(rows: Sequence[ProfileRow], rng: np.random.Generator) -> list[ProfileRow]:
    """The rows of one run: its input is larger or smaller than the profile's."""
    memory, latency = np.exp(rng.normal(0, [MEMORY_SIGMA, LATENCY_SIGMA]))
    return [
        row.model_copy(
            update={
                "cpu_mem_gb": row.cpu_mem_gb * memory,
                "gpu_mem_gb": row.gpu_mem_gb * memory,
                "latency_ms": row.latency_ms * latency,
            }
        )
        for row in rows
    ]


# --- all of it -------------------------------------------------------------------------------------------------------


def curves(count: int, traces: Sequence[Path], seed: int) -> list[SystemTimeline]:
    if traces:
        return [curve for path in traces for curve in trace_curves(path, count // len(traces), seed)]
    rng = np.random.default_rng(seed)
    drawn = [draw_timeline(rng, KINDS[i % len(KINDS)]) for i in range(max(count - 5, 0))]
    return [*shipped_curves(), *drawn][:count]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=40, help="machines that every job is planned on")
    parser.add_argument("--traces", type=Path, nargs="*", default=[], metavar="FILE.parquet", help="replayed curves")
    parser.add_argument("--tools", type=int, help="at most so many of each kind, for a quick look")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)

    tools = load_tools()
    if args.tools:
        tools = _fewer(tools, args.tools)
    began = time.perf_counter()
    requests = requests_of(
        [row for split in ("val", "test") for row in load_rows(DATA / "instructions" / f"{split}.jsonl")],
        tools.registry,
    )
    guesses = network_guesses(Planner.load(), tools.registry, tools.profiling, requests)
    print(f"{len(guesses)} predictions of the network in {time.perf_counter() - began:.0f} s")
    methods = optioners(tools, guesses)
    print_errors(tools, methods)
    new = [tool for group, members in tools.groups.items() if group != "met in training" for tool in members]
    print(f"\nmargins over all tools never met: {margins_from(guesses, tools.profiling, new, MEMORY_QUANTILE, 0.5)}")

    scenes = [cut(curve) for curve in curves(args.curves, args.traces, args.seed)]
    exact: dict[str, Forecaster | None] = {"exact": None}
    for group in list(tools.groups)[1:]:
        jobs = feasible_jobs(tools, tools.groups[group], scenes)
        print_runs(f"{group}, exact curves", tools, jobs, scenes, methods, exact)
    kept = [n for n in methods if n.startswith(("its own", "network", "nearest tool by text, mean"))]
    some = {name: methods[name] for name in kept}
    forecasts: dict[str, Forecaster | None] = {
        "exact": None,
        "persistence": Persistence(),
        "change quantile 0.1": ChangeQuantile(0.1),
    }
    jobs = feasible_jobs(tools, new, scenes)
    print_runs("tools never met, forecast curves", tools, jobs, scenes, some, forecasts)
    print_online(tools, new, methods, args.seed)


def _fewer(tools: Tools, count: int) -> Tools:
    groups = {group: members[:count] for group, members in tools.groups.items()}
    kept = {tool for members in groups.values() for tool in members}
    rows = [row for row in tools.profiling.all_rows if row.tool in kept]
    registry = ToolRegistry([tool for tool in tools.registry.tools if tool.name in kept])
    return Tools(registry, ProfilingTable(rows), groups)


if __name__ == "__main__":
    main()
