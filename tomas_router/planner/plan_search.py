"""Schedules for whole plans: list scheduling, exhaustive search for small plans, then multi-start.

Every schedule is built step by step: among the steps whose predecessors are placed, the one with the highest priority
takes the option with the least ``completion + patience * work`` at its earliest feasible start, and is booked before
the next step is looked at. With patience 0 and upward ranks as priorities that is list scheduling in the manner of HEFT
(Topcuoglu et al., 2002). A fast, wide option can block a sibling; patience above 0 prefers narrow ones. The search
draws priorities, patience and which options are offered, keeps the best schedule, and changes single steps of it.

Schedules compare by (makespan, cost, sum of starts). The search stops when the best schedule is proved, or when
the time budget or the number of schedules is spent. On request (``exact_ms``) CP-SAT then goes on to a proof.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tomas_router.planner.branch_and_bound import BranchAndBound
from tomas_router.planner.exact import cp_model, solve_exactly
from tomas_router.planner.plan_problem import Mode, PlanProblem
from tomas_router.planner.schedule import Placement, Schedule, Stuck
from tomas_router.planner.skyline import Skyline
from tomas_router.runtime.residual import FOREVER_MS


@dataclass(frozen=True)
class Guide:
    """The choices that turn a problem into one schedule."""

    priorities: tuple[float, ...]
    patience: tuple[float, ...]
    offered: tuple[tuple[Mode, ...], ...]
    """Modes of each step that may be chosen, fastest first."""


EXHAUSTIVE_SHARE = 0.3
"""Part of the time budget that the exhaustive search may use before random restarts take over."""


PART_OF_MODES_SHARE, PARTS_OF_MODES = 0.7, (0.3, 0.6)
"""How many of the fresh schedules see only a part of the modes, and how large a part."""


@dataclass(frozen=True)
class SearchResult:
    """``schedule`` is list scheduling's ``Stuck`` when nothing was found; ``proved`` = nothing better exists."""

    schedule: Schedule | Stuck
    proved: bool
    schedules: int
    bound_ms: int
    """No schedule has a smaller makespan; the makespan itself when ``proved``."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop; a schedule costs tens of microseconds."""

    budget_ms: float = 18.0
    """With what reading the curve takes, a decision stays below 20 ms."""
    max_schedules: int = 1000
    seed: int = 0
    exact_ms: float = 0.0
    """How long CP-SAT may work on what is not proved by then (extra ``exact``); 0 = not asked for."""


def list_schedule(problem: PlanProblem, base: Skyline, guide: Guide, ceiling_ms: int = FOREVER_MS) -> Schedule | Stuck:
    """Builds the schedule that ``guide`` describes; stuck as soon as it must end after ``ceiling_ms``."""
    skyline = base.copy()
    placed: dict[int, Placement] = {}
    open_before = [len(before) for before in problem.unique_predecessors]
    ready = [step for step, count in enumerate(open_before) if count == 0]
    while ready:
        step = max(ready, key=lambda s: (guide.priorities[s], -s))
        ready.remove(step)
        release = max((placed[p].end_ms for p in problem.unique_predecessors[step]), default=problem.release_ms)
        latest_end = ceiling_ms - problem.tails[step]
        placement = _place(skyline, guide.offered[step], release, guide.patience[step], latest_end)
        if placement is None:
            return Stuck(tuple(placed.values()), step, release)
        placed[step] = placement
        for successor in problem.successors[step]:
            open_before[successor] -= 1
            if open_before[successor] == 0:
                ready.append(successor)
    return Schedule(tuple(placed[step] for step in range(len(open_before))))


def first_guide(problem: PlanProblem) -> Guide:
    """Plain earliest-completion list scheduling."""
    count = len(problem.options)
    return Guide(tuple(map(float, problem.ranks)), (0.0,) * count, problem.modes)


def search(problem: PlanProblem, limits: SearchLimits) -> SearchResult:
    """The best schedule found within ``limits``; list scheduling alone when both budgets are 0.

    Raises:
        MissingExtraError: ``exact_ms`` asks for OR-Tools, which is not installed.
    """
    if limits.exact_ms <= 0:
        return _search(problem, limits)
    cp_model()  # says at once, for every plan, that it is missing
    quick = _search(problem, limits)
    if quick.proved:
        return quick
    known = quick.schedule if isinstance(quick.schedule, Schedule) else None
    exact = solve_exactly(problem, known, limits.exact_ms, limits.seed)
    return SearchResult(exact.schedule or quick.schedule, exact.proved, quick.schedules, exact.bound_ms)


def _search(problem: PlanProblem, limits: SearchLimits) -> SearchResult:
    if not problem.options:
        return SearchResult(Schedule(()), proved=True, schedules=1, bound_ms=problem.bound_ms)
    began = time.perf_counter()
    base = Skyline.of(problem.residual)
    guide = first_guide(problem)
    first = list_schedule(problem, base, guide)
    if limits.budget_ms <= 0:
        return SearchResult(first, proved=False, schedules=1, bound_ms=problem.bound_ms)
    exhaustive = BranchAndBound(
        problem,
        first if isinstance(first, Schedule) else None,
        began + EXHAUSTIVE_SHARE * limits.budget_ms / 1000,
    )
    if exhaustive.run(base):
        bound_ms = problem.bound_ms if exhaustive.best is None else exhaustive.best.makespan_ms
        return SearchResult(exhaustive.best or first, proved=True, schedules=1, bound_ms=bound_ms)
    best: Schedule | Stuck = exhaustive.best or first
    deadline = began + limits.budget_ms / 1000
    draw = random.Random(limits.seed)
    built = 1
    while built < limits.max_schedules and time.perf_counter() < deadline:
        found = isinstance(best, Schedule)
        trial = _mutated(problem, guide, draw) if found and draw.random() < 0.6 else _fresh(problem, draw)
        schedule = list_schedule(problem, base, trial, best.makespan_ms if isinstance(best, Schedule) else FOREVER_MS)
        built += 1
        if isinstance(schedule, Schedule) and (not isinstance(best, Schedule) or schedule.key <= best.key):
            best, guide = schedule, trial
    return SearchResult(best, proved=False, schedules=built, bound_ms=problem.bound_ms)


def _place(
    skyline: Skyline, modes: Sequence[Mode], release_ms: int, patience: float, latest_end_ms: int
) -> Placement | None:
    """Books the mode with the least (completion + patience * work, cost, start, index)."""
    best: tuple[float, int, int, int] | None = None
    chosen: Placement | None = None
    for mode in modes:
        if best is not None and release_ms + mode.latency_ms > best[0]:
            break  # modes come fastest first, so none behind this one ends earlier
        penalty = patience * mode.work
        latest = latest_end_ms - mode.latency_ms
        if best is not None:
            latest = min(latest, int(best[0] - penalty) - mode.latency_ms + 1)
        if latest < release_ms:
            continue
        start = skyline.first_start(mode.demand, mode.latency_ms, release_ms, latest)
        if start is None:
            continue
        key = (start + mode.latency_ms + penalty, mode.cost, start, mode.index)
        if best is None or key < best:
            best, chosen = key, Placement(mode, start)
    if chosen is not None:
        skyline.book(chosen.mode.demand, chosen.start_ms, chosen.end_ms)
    return chosen


def _fresh(problem: PlanProblem, draw: random.Random) -> Guide:
    spread = draw.choice((0.05, 0.3, 1.0))
    priorities = tuple(rank * (1 + draw.uniform(-spread, spread)) for rank in problem.ranks)
    level = draw.choice((0.0, 10 ** draw.uniform(-2, 1)))
    patience = tuple(level * draw.uniform(0, 2) for _ in priorities)
    return Guide(priorities, patience, _some_modes(problem, draw))


def _some_modes(problem: PlanProblem, draw: random.Random) -> tuple[tuple[Mode, ...], ...]:
    """A part of the modes: schedules differ more, and each is built faster."""
    if draw.random() >= PART_OF_MODES_SHARE:
        return problem.modes
    part = draw.choice(PARTS_OF_MODES)
    return tuple(tuple(m for m in modes if draw.random() < part) or (draw.choice(modes),) for modes in problem.modes)


def _mutated(problem: PlanProblem, guide: Guide, draw: random.Random) -> Guide:
    priorities, patience, offered = list(guide.priorities), list(guide.patience), list(guide.offered)
    for _ in range(draw.choice((1, 1, 2))):
        step = draw.randrange(len(priorities))
        change = draw.random()
        if change < 0.5:
            mode = draw.choice((None, *problem.modes[step]))
            offered[step] = problem.modes[step] if mode is None else (mode,)
        elif change < 0.8:
            priorities[step] = draw.choice(priorities) * (1 + draw.uniform(-0.1, 0.1))
        else:
            patience[step] = draw.choice((0.0, 10 ** draw.uniform(-2, 1)))
    return Guide(tuple(priorities), tuple(patience), tuple(offered))
