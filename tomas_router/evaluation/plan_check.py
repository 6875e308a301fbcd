"""An independent check of a plan against its curve; shares no code with the allocator that it judges.

Times are whole milliseconds on right-open intervals; demand is rounded up and capacity down to milli-cores, MiB, 0.1 %
SM and MiB, with a guard of 1e-6 units against binary fractions. Equality fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ProfileRow, ResourceConfig

GRAINS = (1000, 1024, 10, 1024)  # whole steps in one unit: milli-cores, MiB, 0.1 %, MiB
NAMES = ("cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")
GUARD = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Run:
    """One step on the clock."""

    name: str
    start_ms: int
    latency_ms: float
    demand: tuple[float, float, float, float]  # vCPU, GiB, percent, GiB

    @classmethod
    def of(cls, name: str, start_ms: int, config: ResourceConfig | ProfileRow, latency_ms: float) -> Run:
        """In a configuration."""
        demand = (config.cpu_core, config.cpu_mem_gb, config.gpu_sm, config.gpu_mem_gb)
        return cls(name, start_ms, latency_ms, demand)

    @property
    def end_ms(self) -> int:
        return self.start_ms + max(1, ceil(Fraction(self.latency_ms) - GUARD))


def plan_violations(plan: ToolPlan, timeline: SystemTimeline) -> list[str]:
    """Everything that a planned plan does wrong; empty for a plan that can run, and for one that places nothing."""
    if plan.status != "planned":
        return []
    runs = {step.id: _run(step) for step in plan.steps}
    found = [
        f"{step.id} starts at {runs[step.id].start_ms} ms, before {needed} ends at {runs[needed].end_ms} ms"
        for step in plan.steps
        for needed in step.depends_on
        if runs[step.id].start_ms < runs[needed].end_ms
    ]
    found += [
        f"{name} starts at {run.start_ms} ms, before the decision at {plan.t_inf_ms} ms"
        for name, run in runs.items()
        if run.start_ms < plan.t_inf_ms
    ]
    return found + over_commits(list(runs.values()), timeline)


def over_commits(runs: Sequence[Run], timeline: SystemTimeline) -> list[str]:
    """Each moment and resource at which the runs together take more than the curve has."""
    if not runs:
        return []
    moments = {run.start_ms for run in runs} | {int(t) for t in timeline.times_ms}
    if timeline.tail == "strict":
        moments.add(_strict_end(timeline))
    found: list[str] = []
    for moment in sorted(moments):
        active = [run for run in runs if run.start_ms <= moment < run.end_ms]
        if not active:
            continue
        free = free_at(timeline, moment)
        for r, name in enumerate(NAMES):
            taken = sum(_up(run.demand[r], r) for run in active)
            if taken > free[r]:
                steps = ", ".join(run.name for run in active)
                found.append(f"{name} at {moment} ms: {steps} take {taken / GRAINS[r]:g} of {free[r] / GRAINS[r]:g}")
    early = [run for run in runs if run.start_ms < int(timeline.times_ms[0])]
    return found + [f"{run.name} starts at {run.start_ms} ms, before the curve begins" for run in early]


def free_at(timeline: SystemTimeline, moment_ms: int) -> tuple[int, int, int, int]:
    """Whole grains that are free at a moment."""
    if timeline.tail == "strict" and moment_ms >= _strict_end(timeline):
        return 0, 0, 0, 0
    piece = max((i for i, t in enumerate(timeline.times_ms) if t <= moment_ms), default=None)
    if piece is None:
        return 0, 0, 0, 0
    cpu, memory, sm, gpu_memory = (
        floor(Fraction(float(value)) * grain + GUARD)
        for value, grain in zip(timeline.capacity[piece], GRAINS, strict=True)
    )
    return cpu, memory, sm, gpu_memory


def _up(value: float, resource: int) -> int:
    return max(0, ceil((Fraction(value) - GUARD) * GRAINS[resource]))


def _strict_end(timeline: SystemTimeline) -> int:
    return int(timeline.times_ms[-1]) if timeline.horizon_ms is None else int(timeline.horizon_ms)


def _run(step: PlanStep) -> Run:
    config = step.resource_config
    assert config is not None, "the schema checks it for planned plans"
    assert step.start_ms is not None, "the schema checks it"
    assert step.expected_latency_ms is not None, "the schema checks it"
    return Run.of(step.id, step.start_ms, config, step.expected_latency_ms)
