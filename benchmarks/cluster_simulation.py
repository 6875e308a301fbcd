"""Simulates a cluster that places plans as they come: many nodes, one ledger each, replayed curves.

    python -m benchmarks.cluster_simulation                                            # a tenth, on generated curves
    python -m benchmarks.cluster_simulation --scale 1 --traces alibaba.parquet genai.parquet

At scale 1: 1,000 nodes and 100,000 plans in an hour. A node's curve is a window of the traces, repeated. Plans arrive
at random moments, have one to four steps, and must be done a quarter of an hour later. Whoever places a plan asks some
nodes what their ledger leaves, plans on each exactly, and books the plan where it ends first. Beside that stands what
is done without reservations: the node with the most free at the moment, and the fastest profile of every step, at
once. All that ran is checked in the end by code that knows nothing of planner and ledger. Decision times are CPU time
of the one thread that decides, so that other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cluster_check import Ran, check_node
from benchmarks.curves import trace_curves
from tomas_router.datasets.timeline_generator import KINDS, draw_timeline
from tomas_router.errors import InfeasibleError
from tomas_router.planner import Allocation, StepDemand, allocate_plan
from tomas_router.planner.allocator import DEFAULT_LIMITS, GREEDY
from tomas_router.planner.demand import IntegerOptions
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.runtime.ledger import NO_TERMS, BookingTerms, InMemoryLedger, LedgerSnapshot, Reservation
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import load_tool_registry
from tomas_router.shipped import profiling_path, registry_path

NODES, PLANS = 1_000, 100_000
HOUR_MS = 3_600_000
PATIENCE_MS = 900_000
CURVE_MS = HOUR_MS + PATIENCE_MS + 60_000
MONITOR_EVERY_MS = 60_000
"""How old what a monitor says of a node may be."""
MAX_STEPS, LINK_SHARE = 4, 0.6
SIZE_SHARES = (0.5, 0.35, 0.15)
COST_UNIT = 49_152_000 * 1000
"""Of the allocator's cost: all of one resource of a machine (64 cores, 384 GiB, a GPU, its 20 GiB) for a second."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Arrival:
    """One plan as it comes."""

    number: int
    at_ms: int
    steps: tuple[StepDemand, ...]

    @property
    def deadline_ms(self) -> int:
        return self.at_ms + PATIENCE_MS


@dataclass
class Node:
    """One machine."""

    curve: SystemTimeline
    ledger: InMemoryLedger = field(default_factory=InMemoryLedger)
    ran: list[Ran] = field(default_factory=list)


class Look:
    """A ledger that shows what is booked, and remembers what a plan would book instead of booking it."""

    epoch_times = False

    def __init__(self, ledger: InMemoryLedger) -> None:
        self._snapshot = ledger.snapshot()
        self.wanted: tuple[Reservation, ...] = ()

    @property
    def version(self) -> int:
        return self._snapshot.version

    def snapshot(self) -> LedgerSnapshot:
        return self._snapshot

    def book(
        self,
        reservations: Sequence[Reservation],
        *,
        expected_version: int,  # noqa: ARG002
        terms: BookingTerms = NO_TERMS,  # noqa: ARG002
    ) -> str:
        self.wanted = tuple(reservations)
        return "look"


class Cluster:
    """The nodes, what a monitor shows of them, and what is booked at the moment."""

    def __init__(self, curves: Sequence[SystemTimeline]) -> None:
        self.nodes = [Node(curve) for curve in curves]
        ticks = np.arange(0, CURVE_MS, MONITOR_EVERY_MS)
        self._shown_TN4 = np.stack([_sampled(node.curve, ticks) for node in self.nodes], axis=1)
        self._booked_N4 = np.zeros((len(curves), 4))
        self._changes: list[tuple[int, int, tuple[float, ...]]] = []
        self._ends: list[tuple[int, int, str]] = []

    def until(self, now_ms: int) -> None:
        """Lets time pass: ended bookings leave their ledger, begun and ended steps change what is in use."""
        while self._ends and self._ends[0][0] <= now_ms:
            _, number, booking_id = heapq.heappop(self._ends)
            self.nodes[number].ledger.release(booking_id)
        while self._changes and self._changes[0][0] <= now_ms:
            _, number, change = heapq.heappop(self._changes)
            self._booked_N4[number] += change

    def free_now(self, now_ms: int) -> Float:
        """(N, 4) what the monitor last saw of others, less what runs of ours."""
        return np.asarray(self._shown_TN4[now_ms // MONITOR_EVERY_MS] - self._booked_N4)

    def run(self, number: int, arrival: Arrival, placed: Sequence[Allocation], booking_id: str | None) -> None:
        """Notes what runs where and when."""
        for a in placed:
            c = a.config
            demand = (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb)
            self.nodes[number].ran.append(Ran(arrival.number, a.start_ms, a.end_ms, demand))
            heapq.heappush(self._changes, (a.start_ms, number, demand))
            heapq.heappush(self._changes, (a.end_ms, number, tuple(-amount for amount in demand)))
        if booking_id is not None:
            heapq.heappush(self._ends, (max(a.end_ms for a in placed), number, booking_id))


def _sampled(curve: SystemTimeline, ticks: NDArray[np.int64]) -> Float:
    return np.asarray(curve.capacity[np.searchsorted(curve.times_ms, ticks, side="right") - 1], dtype=np.float64)


# --- policies --------------------------------------------------------------------------------------------------------

Choice = Callable[[Cluster, Arrival, np.random.Generator], Sequence[int]]
"""Which nodes to ask."""


def random_nodes(count: int) -> Choice:
    """So many nodes, whichever: with two, the power of two choices."""
    return lambda cluster, arrival, draw: draw.choice(len(cluster.nodes), count, replace=False).tolist()  # noqa: ARG005


def best_fit(count: int) -> Choice:
    """The nodes that the plan fills best at the moment, by what the monitor shows; where it fits none, the emptiest."""

    def choose(cluster: Cluster, arrival: Arrival, draw: np.random.Generator) -> Sequence[int]:
        free_N4 = cluster.free_now(arrival.at_ms)
        rows = [_fastest(step) for step in arrival.steps]
        need_4 = np.array([[r.cpu_core, r.cpu_mem_gb, r.gpu_sm, r.gpu_mem_gb] for r in rows]).max(axis=0)
        left_N = ((free_N4 - need_4) / np.array([64.0, 384.0, 100.0, 20.0])).sum(axis=1)
        fits_N = (free_N4 >= need_4).all(axis=1)
        noise_N = draw.random(len(left_N)) * 1e-6
        order = np.lexsort((noise_N, np.where(fits_N, left_N, -left_N), ~fits_N))
        return order[:count].tolist()

    return choose


@dataclass
class Outcome:
    """What came of one policy."""

    plans: int = 0
    placed: int = 0
    decision_ms: list[float] = field(default_factory=list)
    response_s: list[float] = field(default_factory=list)
    cost: float = 0.0


def place_exactly(
    cluster: Cluster, arrival: Arrival, choice: Choice, draw: np.random.Generator, limits: SearchLimits
) -> tuple[Allocation, ...] | None:
    """Plans on every node asked, books where the plan ends first (then costs least); None: it fits none of them."""
    best: tuple[tuple[int, float], int, Look, tuple[Allocation, ...]] | None = None
    for number in choice(cluster, arrival, draw):
        node = cluster.nodes[number]
        look = Look(node.ledger)
        try:
            placed = allocate_plan(
                arrival.steps,
                node.curve,
                arrival.at_ms,
                look,  # type: ignore[arg-type]
                deadline_ms=arrival.deadline_ms,
                limits=limits,
            )
        except InfeasibleError:
            continue
        key = (max(a.end_ms for a in placed), _cost(arrival, placed))
        if best is None or key < best[0]:
            best = key, number, look, placed
    if best is None:
        return None
    _, number, look, placed = best
    booking_id = cluster.nodes[number].ledger.book(look.wanted, expected_version=look.version)
    cluster.run(number, arrival, placed, booking_id)
    return placed


def place_naively(cluster: Cluster, arrival: Arrival) -> tuple[Allocation, ...]:
    """On the node with the most free at the moment, each step with its fastest row as soon as it may start."""
    share_N = (cluster.free_now(arrival.at_ms) / np.array([64.0, 384.0, 100.0, 20.0])).sum(axis=1)
    number = int(share_N.argmax())
    placed: list[Allocation] = []
    for step in arrival.steps:
        row = _fastest(step)
        start = max((placed[d].end_ms for d in step.depends_on), default=arrival.at_ms)
        latency = max(int(np.ceil(row.latency_ms - 1e-6)), 1)
        index = list(step.options).index(row)
        placed.append(Allocation(index, start, start + latency, row.config, latency, beyond_horizon=False))
    cluster.run(number, arrival, placed, None)
    return tuple(placed)


def _fastest(step: StepDemand) -> ProfileRow:
    return min(step.options, key=lambda row: row.latency_ms)  # type: ignore[return-value]


def _cost(arrival: Arrival, placed: Sequence[Allocation]) -> float:
    """Machine-seconds; the same weights as the allocator's."""
    costs = (IntegerOptions.of([s.options[a.option_index]]).cost(0) for s, a in zip(arrival.steps, placed, strict=True))
    return sum(costs) / COST_UNIT


# --- the hour --------------------------------------------------------------------------------------------------------


def arrivals(table: ProfilingTable, count: int, seed: int) -> Iterator[Arrival]:
    """Plans of one to four steps in the order of their arrival; chains and branches."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, HOUR_MS, count))
    sizes = ("small", "medium", "large")
    for number, at_ms in enumerate(times.tolist()):
        steps: list[StepDemand] = []
        for k in range(int(draw.integers(1, MAX_STEPS + 1))):
            rows: Sequence[ProfileRow] = ()
            while not rows:
                tool = table.tools[int(draw.integers(len(table.tools)))]
                rows = table.rows(tool, sizes[int(draw.choice(3, p=SIZE_SHARES))])  # type: ignore[arg-type]
            steps.append(StepDemand(rows, (k - 1,) if k and draw.random() < LINK_SHARE else ()))
        yield Arrival(number, at_ms, tuple(steps))


def simulate(
    curves: Sequence[SystemTimeline],
    plans: Sequence[Arrival],
    choice: Choice | None,
    limits: SearchLimits,
    seed: int,
) -> tuple[Outcome, Cluster]:
    """One hour under one policy; None is the naive one."""
    cluster, outcome = Cluster(curves), Outcome()
    draw = np.random.default_rng(seed)
    for arrival in plans:
        cluster.until(arrival.at_ms)
        began = time.thread_time()
        placed = (
            place_naively(cluster, arrival) if choice is None else place_exactly(cluster, arrival, choice, draw, limits)
        )
        outcome.decision_ms.append(1000 * (time.thread_time() - began))
        outcome.plans += 1
        if placed is not None:
            outcome.placed += 1
            outcome.response_s.append((max(a.end_ms for a in placed) - arrival.at_ms) / 1000)
            outcome.cost += _cost(arrival, placed)
    return outcome, cluster


def row_of(name: str, outcome: Outcome, cluster: Cluster) -> str:
    """One line of the table; over-commits are counted by the independent check."""
    checks = [check_node(node.curve, node.ran) for node in cluster.nodes]
    broken = len(frozenset[int]().union(*(check.broken_plans for check in checks)))
    over_hours = sum(check.over_committed_ms for check in checks) / HOUR_MS
    p50, p95, p99 = np.percentile(outcome.decision_ms, [50, 95, 99])
    wait50, wait95 = np.percentile(outcome.response_s, [50, 95]) if outcome.response_s else (float("nan"),) * 2
    return (
        f"| {name} | {1 - outcome.placed / outcome.plans:.1%} | {broken / outcome.plans:.2%} | {over_hours:.1f} | "
        f"{wait50:.1f} / {wait95:.1f} | {outcome.cost / max(outcome.placed, 1):.2f} | "
        f"{p50:.2f} / {p95:.2f} / {p99:.2f} | {1000 / np.mean(outcome.decision_ms):,.0f} |"
    )


HEAD = (
    "| placement | no place | plans in over-commit | node-hours over-committed | done after, s (p50 / p95) | "
    "cost a plan | decision, CPU ms (p50 / p95 / p99) | decisions a second |\n|---|---|---|---|---|---|---|---|"
)
POLICIES: dict[str, Choice | None] = {
    "naive: emptiest node, fastest rows, nothing booked": None,
    "one random node": random_nodes(1),
    "two random nodes": random_nodes(2),
    "four random nodes": random_nodes(4),
    "best fit by monitor, two nodes": best_fit(2),
}


def node_curves(count: int, traces: Sequence[Path], seed: int) -> list[SystemTimeline]:
    """A curve a node that lasts as long as the last plan may; windows are repeated, and used again when too few."""
    draw = np.random.default_rng(seed)
    if traces:
        windows = [curve for path in traces for curve in trace_curves(path, count, seed)]
    else:
        windows = [_an_hour(draw_timeline(draw, KINDS[i % len(KINDS)])) for i in range(count)]
    order = draw.permutation(len(windows))
    return [repeated(windows[order[i % len(windows)]]) for i in range(count)]


def _an_hour(window: SystemTimeline) -> SystemTimeline:
    """A generated window, slowed down to an hour."""
    times = window.times_ms * HOUR_MS // window.end_ms
    kept = np.concatenate([[True], np.diff(times) > 0])
    return SystemTimeline(times[kept], window.capacity[kept], horizon_ms=HOUR_MS)


def repeated(window: SystemTimeline) -> SystemTimeline:
    """The window again and again until ``CURVE_MS``."""
    length = window.end_ms - int(window.times_ms[0])
    times = window.times_ms - window.times_ms[0]
    copies = -(-CURVE_MS // max(length, 1))
    all_times = np.concatenate([times + k * length for k in range(copies)])
    capacity = np.concatenate([window.capacity] * copies)
    kept = all_times < CURVE_MS
    return SystemTimeline(all_times[kept], capacity[kept], horizon_ms=CURVE_MS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="of 1,000 nodes and 100,000 plans (default: 0.1)")
    parser.add_argument("--load", type=float, default=1.0, help="plans a node, relative to 100 in an hour")
    parser.add_argument("--traces", type=Path, nargs="*", default=[], metavar="FILE.parquet", help="replayed windows")
    parser.add_argument("--policies", type=int, nargs="+", default=list(range(len(POLICIES))), metavar="N")
    parser.add_argument("--search", action="store_true", help="look for better schedules, 18 ms a plan and node")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args(argv)

    nodes, count = max(int(NODES * args.scale), 4), max(int(PLANS * args.scale * args.load), 1)
    table = load_profiling_matrix(profiling_path(), load_tool_registry(registry_path()))
    curves = node_curves(nodes, args.traces, args.seed)
    plans = list(arrivals(table, count, args.seed))
    print(f"{nodes} nodes, {count} plans of {np.mean([len(p.steps) for p in plans]):.1f} steps in an hour\n")
    print(HEAD, flush=True)
    for name in [list(POLICIES)[number] for number in args.policies]:
        limits = DEFAULT_LIMITS if args.search else GREEDY
        outcome, cluster = simulate(curves, plans, POLICIES[name], limits, args.seed)
        print(row_of(name, outcome, cluster), flush=True)


if __name__ == "__main__":
    main()
