"""Whole plans to proven optimality, by OR-Tools CP-SAT (extra ``exact``).

One start per step and one optional interval of fixed length per step and option, of which exactly one is present. A
resource is a cumulative constraint at its peak capacity; what the curve lacks below that peak is held by fixed
intervals, so right-open intervals and equality mean the same as everywhere. First the makespan is minimised, then the
cost at that makespan. The schedule that list scheduling and multi-start found is where the search begins.

Times are counted from the first moment at which anything may run. Each resource is divided by the greatest common
divisor of its demands, capacity rounded down, which changes no answer and keeps numbers small.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, gcd
from typing import Any

from tomas_router.extras import import_extra
from tomas_router.planner.plan_problem import Mode, PlanProblem
from tomas_router.planner.schedule import Placement, Schedule
from tomas_router.planner.skyline import Skyline

MAX_WORKERS = 8
MAX_ENERGY = 2**60
"""Capacity times time, and cost, stay below this: the solver counts in 64 bits."""


@dataclass(frozen=True)
class ExactResult:
    """``schedule`` None and ``proved``: there is none. Not ``proved``: time was over, or the numbers too large."""

    schedule: Schedule | None
    proved: bool
    """The makespan is the least possible, and so is the cost at that makespan."""
    bound_ms: int
    """No schedule has a smaller makespan."""


def cp_model() -> Any:
    """The solver's module.

    Raises:
        MissingExtraError: OR-Tools is not installed.
    """
    return import_extra(
        "ortools.sat.python.cp_model", "exact", "exact_ms > 0 asks OR-Tools for a proof", or_else="leave exact_ms at 0"
    )


def solve_exactly(problem: PlanProblem, known: Schedule | None, limit_ms: float, seed: int = 0) -> ExactResult:
    """The best schedule, proved within ``limit_ms`` or the best one found by then.

    Args:
        problem: each step fits alone (``earliest_completion_ms`` is finite).
        known: a schedule to begin from; the answer is never worse.
        limit_ms: wall-clock time for both objectives together.
        seed: of the solver; with several workers answers of equal quality may differ from run to run.

    Raises:
        MissingExtraError: OR-Tools is not installed.
    """
    until = time.perf_counter() + limit_ms / 1000
    model = _Model(cp_model(), problem, known)
    if model.too_large:
        return ExactResult(known, False, problem.bound_ms)
    best, bound_ms = known, problem.bound_ms
    if known is None or known.makespan_ms > bound_ms:
        if known is not None:
            model.begin_from(known)
        status, solver = model.minimise_makespan(until, seed)
        if status == "infeasible":
            assert known is None, "what is known satisfies the model"
            return ExactResult(None, True, bound_ms)
        if status == "unknown":
            return ExactResult(known, False, max(bound_ms, model.bound_ms(solver)))
        best = _better(best, model.schedule(solver))
        bound_ms = max(bound_ms, model.bound_ms(solver))
        if status != "optimal":
            return ExactResult(best, False, bound_ms)
    assert best is not None, "a known schedule, or the solver's"
    status, solver = model.minimise_cost(best, until, seed)
    if status in ("optimal", "feasible"):
        best = _better(best, model.schedule(solver))
    return ExactResult(best, status == "optimal", best.makespan_ms)


class _Model:
    """The problem in the solver's terms."""

    def __init__(self, module: Any, problem: PlanProblem, known: Schedule | None) -> None:
        residual = problem.residual
        self._module, self._problem = module, problem
        self._zero_ms = max(problem.release_ms, int(residual.starts_N[0]))
        last_ms = min(residual.end_ms, problem.far_ms) if known is None else known.makespan_ms
        self._span = last_ms - self._zero_ms
        divisors = [gcd(*(m.demand[r] for modes in problem.modes for m in modes)) for r in range(4)]
        self._divisors = {r: d for r, d in enumerate(divisors) if d > 0}
        self._free = {r: residual.free_RN[r] // d for r, d in self._divisors.items()}
        dearest = sum(max((m.cost for m in modes), default=0) for modes in problem.modes)
        peak = max((int(free.max()) for free in self._free.values()), default=1)
        self.too_large = max(peak * max(self._span, 1), dearest) >= MAX_ENERGY
        if not self.too_large:
            self._build()

    def _build(self) -> None:
        problem, model = self._problem, self._module.CpModel()
        self._model = model
        self._starts, self._ends, self._taken = [], [], []
        intervals: list[tuple[Mode, Any]] = []
        for step, modes in enumerate(problem.modes):
            latest = self._span - problem.tails[step]
            start = model.new_int_var(0, max(latest, 0), f"start{step}")
            taken = [model.new_bool_var(f"step{step}option{mode.index}") for mode in modes]
            model.add_exactly_one(taken)
            end = start + sum(mode.latency_ms * one for mode, one in zip(modes, taken, strict=True))
            model.add(end <= latest)
            model.add(end >= problem.earliest_completion_ms[step] - self._zero_ms)
            for number, (mode, one) in enumerate(zip(modes, taken, strict=True)):
                name = f"run{step}_{number}"
                intervals.append((mode, model.new_optional_fixed_size_interval_var(start, mode.latency_ms, one, name)))
            self._starts.append(start)
            self._ends.append(end)
            self._taken.append(taken)
        for step, before in enumerate(problem.unique_predecessors):
            for p in before:
                model.add(self._starts[step] >= self._ends[p])
        for resource in self._divisors:
            self._limit(resource, intervals)
        self._makespan = model.new_int_var(problem.bound_ms - self._zero_ms, self._span, "makespan")
        for step, after in enumerate(problem.successors):
            if not after:
                model.add(self._makespan >= self._ends[step])

    def _limit(self, resource: int, intervals: Sequence[tuple[Mode, Any]]) -> None:
        divisor, free = self._divisors[resource], self._free[resource].tolist()
        peak = max(free)
        used = [(mode.demand[resource] // divisor, run) for mode, run in intervals if mode.demand[resource]]
        for start, end, value in self._pieces(free):
            if value < peak:
                held = self._model.new_fixed_size_interval_var(start, end - start, f"held{resource}_{start}")
                used.append((peak - value, held))
        self._model.add_cumulative([run for _, run in used], [demand for demand, _ in used], peak)

    def _pieces(self, free: Sequence[int]) -> list[tuple[int, int, int]]:
        """(start, end, free) from time 0 to the last time of interest; neighbours that are equal are one."""
        starts = [max(int(t) - self._zero_ms, 0) for t in self._problem.residual.starts_N]
        pieces: list[tuple[int, int, int]] = []
        for start, end, value in zip(starts, [*starts[1:], self._span], free, strict=True):
            last = min(end, self._span)
            if last <= start:
                continue
            if pieces and pieces[-1][2] == value:
                pieces[-1] = (pieces[-1][0], last, value)
            else:
                pieces.append((start, last, value))
        return pieces

    def minimise_makespan(self, until: float, seed: int) -> tuple[str, Any]:
        self._model.minimize(self._makespan)
        return self._solve(until, seed)

    def minimise_cost(self, best: Schedule, until: float, seed: int) -> tuple[str, Any]:
        """At most the makespan of ``best``, which is also where the search begins."""
        model = self._model
        model.add(self._makespan <= best.makespan_ms - self._zero_ms)
        divisor = max(gcd(*(m.cost for modes in self._problem.modes for m in modes)), 1)
        model.minimize(
            sum(
                mode.cost // divisor * one
                for modes, taken in zip(self._problem.modes, self._taken, strict=True)
                for mode, one in zip(modes, taken, strict=True)
            )
        )
        self.begin_from(best)
        return self._solve(until, seed)

    def begin_from(self, schedule: Schedule) -> None:
        self._model.clear_hints()
        for step, placement in enumerate(schedule.placements):
            self._model.add_hint(self._starts[step], placement.start_ms - self._zero_ms)
            for mode, one in zip(self._problem.modes[step], self._taken[step], strict=True):
                self._model.add_hint(one, int(mode.index == placement.mode.index))

    def _solve(self, until: float, seed: int) -> tuple[str, Any]:
        solver = self._module.CpSolver()
        solver.parameters.max_time_in_seconds = max(until - time.perf_counter(), 0.001)
        solver.parameters.num_workers = min(MAX_WORKERS, os.cpu_count() or 1)
        solver.parameters.random_seed = seed
        module = self._module
        names = {module.OPTIMAL: "optimal", module.FEASIBLE: "feasible", module.INFEASIBLE: "infeasible"}
        return names.get(solver.solve(self._model), "unknown"), solver

    def bound_ms(self, solver: Any) -> int:
        return ceil(float(solver.best_objective_bound) - 1e-6) + self._zero_ms

    def schedule(self, solver: Any) -> Schedule:
        """The solver's choice, each step moved to its earliest start in the order of starts, and booked on the curve.

        No step moves later (``branch_and_bound`` says why), so a step without a place means a wrong model.
        """
        problem = self._problem
        chosen = [
            next(mode for mode, one in zip(modes, taken, strict=True) if solver.boolean_value(one))
            for modes, taken in zip(problem.modes, self._taken, strict=True)
        ]
        starts = [int(solver.value(start)) + self._zero_ms for start in self._starts]
        skyline, placed = Skyline.of(problem.residual), dict[int, Placement]()
        for step in sorted(range(len(chosen)), key=lambda s: starts[s]):
            mode = chosen[step]
            release = max((placed[p].end_ms for p in problem.unique_predecessors[step]), default=problem.release_ms)
            start = skyline.first_start(mode.demand, mode.latency_ms, release, starts[step])
            assert start is not None, f"step {step} does not fit where CP-SAT put it"
            skyline.book(mode.demand, start, start + mode.latency_ms)
            placed[step] = Placement(mode, start)
        return Schedule(tuple(placed[step] for step in range(len(chosen))))


def _better(one: Schedule | None, other: Schedule) -> Schedule:
    return other if one is None or other.key < one.key else one
