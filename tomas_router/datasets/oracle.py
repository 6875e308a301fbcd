"""The label of a row under a curve: which twin, which configuration, when.

Uses the planner's own exact allocator (earliest completion with reservations), so a label is what the plan should be.
"""

from __future__ import annotations

from dataclasses import dataclass

from tomas_router.datasets.rows import Row, Step
from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import GREEDY, Allocation, StepDemand, allocate_plan
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import SIZES, InputSize, ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

UNPROFILED_LATENCY_MS = 1000.0
"""A step without profile keeps its place in the plan with this duration and no demand."""


@dataclass(frozen=True)
class OracleLabel:
    """Tools in step order and their placements; ``allocations`` is None when nothing fits the curve."""

    tools: tuple[str, ...]
    allocations: tuple[Allocation, ...] | None


def label(
    row: Row,
    registry: ToolRegistry,
    profiling: ProfilingTable,
    timeline: SystemTimeline,
    release_ms: int = 500,
) -> OracleLabel:
    """Places a row's steps; a step that names a twin group may take any configuration of any member."""
    options = [step_options(step, registry, profiling) for step in row.steps]
    demands = [StepDemand(o, s.depends_on) for o, s in zip(options, row.steps, strict=True)]
    try:
        placed = tuple(allocate_plan(demands, timeline, release_ms, limits=GREEDY))
    except InfeasibleError:
        return OracleLabel(tuple(step.tool for step in row.steps), None)
    chosen = tuple(o[a.option_index].tool for o, a in zip(options, placed, strict=True))
    return OracleLabel(chosen, placed)


def step_options(step: Step, registry: ToolRegistry, profiling: ProfilingTable) -> list[ProfileRow]:
    """All configurations that may serve a step."""
    members = twins(step, registry)
    size = step.input_size or "medium"
    rows = [row for tool in members for row in rows_of_size(profiling, tool, size)]  # type: ignore[arg-type]
    return rows or [_placeholder(step.tool, size)]


def twins(step: Step, registry: ToolRegistry) -> list[str]:
    """The tools that may serve a step, in registry order."""
    if step.group is None:
        return [step.tool]
    return list(registry.in_group(step.group))


def rows_of_size(profiling: ProfilingTable, tool: str, size: InputSize) -> tuple[ProfileRow, ...]:
    """Rows of a size, else of the next larger one that was profiled, else of the largest."""
    order = SIZES[SIZES.index(size) :] + tuple(reversed(SIZES[: SIZES.index(size)]))
    return next((rows for s in order if (rows := profiling.rows(tool, s))), ())


def _placeholder(tool: str, size: str) -> ProfileRow:
    return ProfileRow(
        tool=tool, input_size=size, cpu_core=0, cpu_mem_gb=0, gpu_sm=0, gpu_mem_gb=0, latency_ms=UNPROFILED_LATENCY_MS
    )
