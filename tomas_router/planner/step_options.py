"""From a proposal to the options that the allocator chooses from.

Rules, in this order:

* A tool with profile rows for the step's size offers exactly these rows.
* A tool profiled only at other sizes offers the rows of the next larger profiled size, which cannot be too small.
* A tool profiled only at smaller sizes, or not at all, offers one option predicted by the network, with the margins of
  ``margins`` on top, rounded up.
* Twins: tools that the network finds nearly as good (within the calibrated margin) and that do the same job offer their
  profile rows beside those of the best tool, so that the curve decides which of them runs. Same job means the same
  ``group:`` tag; for tools without such a tag the same declared output types and a quarter of the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tomas_router.planner.decoding import StepProposal, ToolChoice
from tomas_router.planner.demand import Option, ResourceOption
from tomas_router.planner.margins import NO_MARGINS, PredictionMargins
from tomas_router.schema.profiling import SIZES, InputSize, ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

UNTAGGED_MARGIN_SHARE = 0.25

# Predictions are rounded up to steps that people configure.
CPU_STEP = 0.5  # vCPU, also the least
MEMORY_STEP_GIB = 0.25  # also the least for host memory
SM_STEP = 5.0  # percent
LATENCY_STEP_MS = 10
NO_GPU_BELOW_SM = 5.0
"""A predicted share below this is the noise of a regression, not a need for a GPU."""

Source = Literal["profiled", "predicted"]


@dataclass(frozen=True)
class ToolOption:
    """One configuration of one tool."""

    choice: ToolChoice
    option: Option
    source: Source


def step_options(
    proposal: StepProposal,
    size: InputSize,
    registry: ToolRegistry,
    profiling: ProfilingTable | None,
    twin_margin: float,
    margins: PredictionMargins = NO_MARGINS,
) -> tuple[ToolOption, ...]:
    """All options of a step, those of the best tool first; ``margins`` is the room above a predicted demand."""
    best, *others = proposal.choices
    offered = _of_best(best, proposal, size, registry, profiling, margins)
    for other in others:
        if are_twins(registry.tools[best.tool], registry.tools[other.tool], other.margin, twin_margin):
            rows = profiled_rows(profiling, registry.names[other.tool], size)
            offered += [ToolOption(other, row, "profiled") for row in rows]
    return tuple(offered)


def are_twins(best: ToolSpec, other: ToolSpec, margin: float, twin_margin: float) -> bool:
    """Whether the allocator may take ``other``, ``margin`` logits behind ``best``, in its place."""
    if best.group is not None or other.group is not None:
        return best.group == other.group and margin <= twin_margin
    same_output = bool(best.output_types) and set(best.output_types) == set(other.output_types)
    return same_output and margin <= twin_margin * UNTAGGED_MARGIN_SHARE


def profiled_rows(profiling: ProfilingTable | None, tool: str, size: InputSize) -> Sequence[ProfileRow]:
    """Rows of the size, else of the next larger profiled size; empty when there are none."""
    if profiling is None:
        return ()
    for candidate in SIZES[SIZES.index(size) :]:
        rows = profiling.rows(tool, candidate)
        if rows:
            return rows
    return ()


def predicted_option(resources: Sequence[float]) -> ResourceOption:
    """The network's cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb and latency_ms, rounded up."""
    cpu, memory, sm, gpu_memory, latency = resources
    uses_gpu = sm >= NO_GPU_BELOW_SM
    return ResourceOption(
        cpu_core=max(_up(cpu, CPU_STEP), CPU_STEP),
        cpu_mem_gb=max(_up(memory, MEMORY_STEP_GIB), MEMORY_STEP_GIB),
        gpu_sm=min(_up(sm, SM_STEP), 100.0) if uses_gpu else 0.0,
        gpu_mem_gb=_up(gpu_memory, MEMORY_STEP_GIB) if uses_gpu else 0.0,
        latency_ms=max(_up(latency, LATENCY_STEP_MS), LATENCY_STEP_MS),
    )


def _of_best(
    best: ToolChoice,
    proposal: StepProposal,
    size: InputSize,
    registry: ToolRegistry,
    profiling: ProfilingTable | None,
    margins: PredictionMargins,
) -> list[ToolOption]:
    rows = profiled_rows(profiling, registry.names[best.tool], size)
    if rows:
        return [ToolOption(best, row, "profiled") for row in rows]
    return [ToolOption(best, predicted_option(margins.over(proposal.resources)), "predicted")]


def _up(value: float, step: float) -> float:
    return math.ceil(value / step - 1e-9) * step
