"""How a whole plan is placed without an allocator: static and greedy, for the very steps that our heads proposed.

* static: every step with its tool's largest profile, started as soon as the steps it needs have ended;
* greedy: at that moment, the fastest profile of the tool or a twin that fits what is free just then, beside the plan's
  own running steps; where none fits, the fastest. It looks at now and not ahead, as launch scripts do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tomas_router.datasets.oracle import rows_of_size
from tomas_router.evaluation.plan_check import Run, over_commits
from tomas_router.evaluation.resource_baselines import footprint
from tomas_router.evaluation.resource_scores import RawStep
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

Choose = Callable[[str, RawStep, int, Sequence[Run]], ProfileRow | None]
"""(step's name, step, start in ms, runs so far) -> profile; None for a tool without any."""


def place_static(steps: Sequence[RawStep], profiling: ProfilingTable, release_ms: int) -> list[Run] | None:
    """Runs of the plan; None where a tool has no profile."""

    def largest(name: str, step: RawStep, start_ms: int, before: Sequence[Run]) -> ProfileRow | None:  # noqa: ARG001
        return max(rows_of_size(profiling, step.tool, step.size), key=footprint, default=None)

    return _place(steps, release_ms, largest)


def place_greedily(
    steps: Sequence[RawStep],
    registry: ToolRegistry,
    profiling: ProfilingTable,
    timeline: SystemTimeline,
    release_ms: int,
) -> list[Run] | None:
    """Runs of the plan; None where a tool has no profile."""

    def fastest_now(name: str, step: RawStep, start_ms: int, before: Sequence[Run]) -> ProfileRow | None:
        group = registry[step.tool].group
        tools = (step.tool,) if group is None else registry.in_group(group)
        rows = [row for tool in tools for row in rows_of_size(profiling, tool, step.size)]
        instant = [run for run in before if run.start_ms <= start_ms < run.end_ms]
        fits = [row for row in rows if not _too_much(Run.of(name, start_ms, row, row.latency_ms), instant, timeline)]
        return min(fits or rows, key=lambda row: row.latency_ms, default=None)

    return _place(steps, release_ms, fastest_now)


def _place(steps: Sequence[RawStep], release_ms: int, choose: Choose) -> list[Run] | None:
    runs: list[Run] = []
    for k, step in enumerate(steps):
        start_ms = max([release_ms, *(runs[d].end_ms for d in step.depends_on)])
        row = choose(f"s{k + 1}", step, start_ms, runs)
        if row is None:
            return None
        runs.append(Run.of(f"s{k + 1}", start_ms, row, row.latency_ms))
    return runs


def _too_much(run: Run, beside: Sequence[Run], timeline: SystemTimeline) -> bool:
    """Whether the runs take more than is free at the moment that ``run`` starts."""
    now = [Run(r.name, run.start_ms, 1.0, r.demand) for r in (run, *beside)]
    return bool(over_commits(now, timeline))
