"""What a placed plan is, and how two placed plans compare."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tomas_router.planner.plan_problem import Mode


@dataclass(frozen=True)
class Placement:
    """One step on the machine."""

    mode: Mode
    start_ms: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.mode.latency_ms


@dataclass(frozen=True)
class Schedule:
    """All steps of a plan, in the order of the steps."""

    placements: tuple[Placement, ...]

    @cached_property
    def makespan_ms(self) -> int:
        """When the last step ends."""
        return max(p.end_ms for p in self.placements)

    @cached_property
    def key(self) -> tuple[int, int, int]:
        """What schedules are compared by: makespan, then cost, then starts."""
        cost = sum(p.mode.cost for p in self.placements)
        return self.makespan_ms, cost, sum(p.start_ms for p in self.placements)


@dataclass(frozen=True)
class Stuck:
    """A schedule that could not be finished: what was placed, and the step that found no place from its release."""

    placements: tuple[Placement, ...]
    step: int
    release_ms: int
