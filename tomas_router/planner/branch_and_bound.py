"""The best schedule of a small plan, by exhaustive search with bounds.

Steps are placed one by one at their earliest feasible start, over all orders and options. Two facts keep it small:

* Only schedules whose placing order is the order of their starts are built. Nothing is lost: placing the steps of any
  schedule again in the order of its starts moves no step later (a step that runs at a time at or after the start of the
  next one did so before as well), and repeating this ends in a schedule that reproduces itself.
* After a start at time t every other step starts at t or later, so a partial schedule whose steps cannot end before the
  best makespan, or only as early and at no less cost, is given up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tomas_router.planner.plan_problem import Mode, PlanProblem
from tomas_router.planner.schedule import Placement, Schedule
from tomas_router.planner.skyline import Skyline

NODES_BETWEEN_CLOCK_READS = 16


class OutOfTimeError(Exception):
    """Internal: ends the recursion."""


@dataclass
class BranchAndBound:
    """One search; ``best`` is improved in place and survives when time runs out."""

    problem: PlanProblem
    best: Schedule | None
    give_up_at: float  # time.perf_counter()

    def __post_init__(self) -> None:
        self._nodes = 0
        self._best_key = self.best.key[:2] if self.best is not None else None
        self._cheapest = [min((m.cost for m in modes), default=0) for modes in self.problem.modes]

    def run(self, base: Skyline) -> bool:
        """Searches; True when the whole space was covered, so that ``best`` (or None) is proved."""
        ready = tuple(s for s, before in enumerate(self.problem.unique_predecessors) if not before)
        try:
            self._extend(base, {}, ready, (self.problem.release_ms, -1), 0)
        except OutOfTimeError:
            return False
        return True

    def _extend(
        self,
        skyline: Skyline,
        placed: dict[int, Placement],
        ready: tuple[int, ...],
        last: tuple[int, int],
        cost: int,
    ) -> None:
        self._nodes += 1
        if self._nodes % NODES_BETWEEN_CLOCK_READS == 0 and time.perf_counter() > self.give_up_at:
            raise OutOfTimeError
        if not ready:
            schedule = Schedule(tuple(placed[s] for s in range(len(placed))))
            if self._best_key is None or schedule.key[:2] < self._best_key:
                self.best, self._best_key = schedule, schedule.key[:2]
            return
        spare = sum(self._cheapest[s] for s in range(len(self._cheapest)) if s not in placed)
        for _, step, mode, start in sorted(self._moves(skyline, placed, ready, last), key=_by_bound):
            if not self._promising(placed, ready, step, mode, start, cost + mode.cost + spare - self._cheapest[step]):
                continue
            rest = skyline.copy()
            rest.book(mode.demand, start, start + mode.latency_ms)
            now = {**placed, step: Placement(mode, start)}
            opened = tuple(
                s for s in self.problem.successors[step] if all(p in now for p in self.problem.unique_predecessors[s])
            )
            left = tuple(s for s in ready if s != step)
            self._extend(rest, now, left + opened, (start, step), cost + mode.cost)

    def _moves(
        self, skyline: Skyline, placed: dict[int, Placement], ready: tuple[int, ...], last: tuple[int, int]
    ) -> list[tuple[tuple[int, int], int, Mode, int]]:
        """(bound and cost, step, mode, start) of every placement that keeps starts in order."""
        problem, ceiling = self.problem, self._ceiling()
        moves = []
        for step in ready:
            release = max((placed[p].end_ms for p in problem.unique_predecessors[step]), default=problem.release_ms)
            tail = problem.tails[step]
            runs_somewhere = False
            for mode in problem.modes[step]:
                latest = ceiling - tail - mode.latency_ms
                start = skyline.first_start(mode.demand, mode.latency_ms, release, latest)
                if start is None:
                    continue
                runs_somewhere = True
                if (start, step) > last:
                    moves.append(((start + mode.latency_ms + tail, mode.cost), step, mode, start))
            if not runs_somewhere:  # what does not fit now will not fit when more is booked
                return []
        return moves

    def _ceiling(self) -> int:
        """A makespan above this is of no use."""
        return self._best_key[0] if self._best_key is not None else self.problem.far_ms

    def _promising(
        self,
        placed: dict[int, Placement],
        ready: tuple[int, ...],
        step: int,
        mode: Mode,
        start: int,
        least_cost: int,
    ) -> bool:
        if self._best_key is None:
            return True
        problem = self.problem
        bound = max(start + mode.latency_ms + problem.tails[step], problem.bound_ms)
        bound = max([bound, *(p.end_ms for p in placed.values())])
        bound = max([bound, *(start + problem.ranks[s] for s in ready if s != step)])
        return (bound, least_cost) < self._best_key


def _by_bound(move: tuple[tuple[int, int], int, Mode, int]) -> tuple[tuple[int, int], int, int]:
    return move[0], move[3], move[1]
