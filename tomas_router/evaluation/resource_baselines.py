"""Trivial guesses of what a step needs, beside which the regression head is printed.

Every guess is (5,): cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms in physical units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tomas_router.evaluation.text_vectors import TfidfVectors, cosine
from tomas_router.features.tool_text import tool_text
from tomas_router.schema.profiling import NUMBERS, InputSize, ProfileRow, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

Guess = NDArray[np.float64]
ResourceBaseline = Callable[[str, InputSize], Guess | None]

COST_WEIGHTS = (64.0, 384.0, 100.0, 20.0)  # cores, GiB, percent, GiB: what makes unlike resources comparable


def as_numbers(row: ProfileRow) -> Guess:
    """(5,) of a profile row."""
    return np.array([getattr(row, field) for field in NUMBERS], dtype=np.float64)


def mean_row(profiling: ProfilingTable) -> ResourceBaseline:
    """The mean of every row of the step's size, whatever the tool."""
    means: dict[str, Guess] = {}
    for size in sorted({row.input_size for row in profiling.all_rows}):
        means[size] = np.mean([as_numbers(r) for r in profiling.all_rows if r.input_size == size], axis=0)
    return lambda tool, size: means.get(size)  # noqa: ARG005


def nearest_tool(profiling: ProfilingTable, registry: ToolRegistry) -> ResourceBaseline:
    """The mean row, at the step's size, of the profiled tool whose text is most alike; never the tool itself."""
    texts = [tool_text(tool.name, tool.desc) for tool in registry.tools]
    rows = TfidfVectors().fit(texts).rows(texts)
    similarity_NN = cosine(rows, rows)
    names = registry.names

    def guess(tool: str, size: InputSize) -> Guess | None:
        here = registry.index(tool)
        for other in np.argsort(-similarity_NN[here], kind="stable").tolist():
            found = profiling.rows(names[other], size) if other != here else ()
            if found:
                mean: Guess = np.mean([as_numbers(r) for r in found], axis=0)
                return mean
        return None

    return guess


def largest_profile(profiling: ProfilingTable) -> ResourceBaseline:
    """The tool's own row with the largest footprint at the step's size: what cautious people configure by hand."""

    def guess(tool: str, size: InputSize) -> Guess | None:
        rows = profiling.rows(tool, size)
        return as_numbers(max(rows, key=footprint)) if rows else None

    return guess


def resource_baselines(profiling: ProfilingTable, registry: ToolRegistry) -> dict[str, ResourceBaseline]:
    """All of them by name."""
    return {
        "mean row": mean_row(profiling),
        "nearest tool (TF-IDF)": nearest_tool(profiling, registry),
        "largest profile": largest_profile(profiling),
    }


def footprint(row: ProfileRow) -> float:
    """Demand in one number: each resource as a share of a large machine."""
    demand: Sequence[float] = (row.cpu_core, row.cpu_mem_gb, row.gpu_sm, row.gpu_mem_gb)
    return sum(value / weight for value, weight in zip(demand, COST_WEIGHTS, strict=True))
