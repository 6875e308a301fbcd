"""Scores of what depends on the curve: which twin, which configuration, whether it fits.

The truth of a row is the oracle's plan under the row's own curve. Raw heads are judged before the allocator corrects
them; final plans by an independent check.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tomas_router.datasets.oracle import OracleLabel, twins
from tomas_router.datasets.rows import Row
from tomas_router.evaluation import metrics
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.plan_check import Run, over_commits
from tomas_router.evaluation.resource_baselines import ResourceBaseline
from tomas_router.evaluation.scores import Tallies
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import NUMBERS, SIZES, InputSize, ProfilingTable
from tomas_router.schema.registry import ToolRegistry

Five = Sequence[float]  # cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms


@dataclass(frozen=True)
class RawStep:
    """What the heads alone propose for a step."""

    tool: str
    resources: Five
    size: InputSize
    depends_on: tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One row under its curve."""

    row: Row
    timeline: SystemTimeline
    oracle: OracleLabel
    release_ms: int  # no step starts before the decision is made


def score_choice(case: Case, tools: Sequence[str], registry: ToolRegistry, found: Tallies, prefix: str = "") -> None:
    """Tools against the oracle's; twins count as wrong in ``tool_strict`` and ``twin_choice``, as right in ``tool``.

    ``twin_choice`` looks only at steps whose job was recognised and left to the curve.
    """
    row, wanted = case.row, case.oracle.tools
    members = [set(twins(step, registry)) for step in row.steps]
    longest = max(len(tools), len(wanted))
    alike = metrics.matched_steps(tools, wanted, lambda k, tool: tool in members[k])
    _tally(found, prefix + "tool").add(case.row.id, alike, longest)
    if case.oracle.allocations is None:
        return  # nothing fits, so no twin is the right one
    _tally(found, prefix + "tool_strict").add(case.row.id, metrics.matched_steps(tools, wanted), longest)
    _tally(found, prefix + "plan_strict").add(case.row.id, metrics.same_tools(tools, wanted))
    chosen = [
        (tool, wanted[k])
        for k, step in enumerate(row.steps)
        if step.group is not None and len(members[k]) > 1 and k < len(tools) and (tool := tools[k]) in members[k]
    ]
    _tally(found, prefix + "twin_choice").add(case.row.id, sum(said == right for said, right in chosen), len(chosen))


def score_errors(
    case: Case, steps: Sequence[RawStep], profiling: ProfilingTable, guess: Callable[[int], Five | None], found: Tallies
) -> None:
    """Errors of ``guess(raw step)`` against the oracle's configuration, where the raw step names the oracle's tool.

    Adds ``mae_<field>`` in the field's unit and ``mape_<field>``, which leaves out true values of 0.
    """
    if case.oracle.allocations is None:
        return
    errors: dict[str, list[float]] = defaultdict(list)
    for raw, gold in metrics.aligned_steps([step.tool for step in steps], case.oracle.tools):
        allocation = case.oracle.allocations[gold]
        if not profiling.has(case.oracle.tools[gold]):
            continue
        predicted = guess(raw)
        if predicted is None:
            continue
        config = allocation.config
        actual = (config.cpu_core, config.cpu_mem_gb, config.gpu_sm, config.gpu_mem_gb, float(allocation.latency_ms))
        for field, said, true in zip(NUMBERS, predicted, actual, strict=True):
            errors[f"mae_{field}"].append(abs(said - true))
            share = metrics.absolute_percentage_error(said, true)
            if share is not None:
                errors[f"mape_{field}"].append(share)
    for name, values in errors.items():
        _tally(found, name).add(case.row.id, sum(values), len(values))


def score_raw_fit(case: Case, steps: Sequence[RawStep], guess: Callable[[int], Five | None], found: Tallies) -> None:
    """Share of steps whose proposal, started when its dependencies end by the proposals' own latencies, fits the curve.

    Each step is held against the curve alone: reservations are the allocator's business. Rows that even the oracle
    cannot place are left out.
    """
    if case.oracle.allocations is None or not steps:
        return
    fits = counted = 0
    ends: list[int] = []
    for k, step in enumerate(steps):
        start = max([case.release_ms, *(ends[d] for d in step.depends_on)])
        predicted = guess(k)
        if predicted is None:
            ends.append(start)
            continue
        cpu, memory, sm, gpu_memory, latency = (float(v) for v in predicted)
        run = Run(f"s{k + 1}", start, latency, (cpu, memory, sm, gpu_memory))
        ends.append(run.end_ms)
        counted += 1
        fits += not over_commits([run], case.timeline)
    _tally(found, "raw_feasible").add(case.row.id, fits, counted)


def heads_guess(steps: Sequence[RawStep]) -> Callable[[int], Five | None]:
    """The regression head's own proposals."""
    return lambda k: steps[k].resources


def baseline_guess(steps: Sequence[RawStep], baseline: ResourceBaseline) -> Callable[[int], Five | None]:
    """A baseline's guess for the same tools and sizes."""

    def guess(k: int) -> Five | None:
        found = baseline(steps[k].tool, steps[k].size)
        return None if found is None else tuple(float(v) for v in found)

    return guess


def size_of(logits: Sequence[float]) -> InputSize:
    """The bucket with the largest logit."""
    return SIZES[max(range(len(SIZES)), key=lambda i: logits[i])]


def _tally(found: Tallies, name: str) -> Tally:
    return found.setdefault(name, Tally.empty())
