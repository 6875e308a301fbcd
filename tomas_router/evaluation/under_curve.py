"""Scores our own rows under their curves: twins, resource errors, fit, and whether the curve matters at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from tomas_router.datasets.oracle import label
from tomas_router.evaluation.asking import Asked, Settings, propose
from tomas_router.evaluation.curves import SeededCurve, shuffled, zeroed
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.placement_baselines import place_greedily, place_static
from tomas_router.evaluation.plan_check import Run, over_commits, plan_violations
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.report import OURS, Methods, SourceReport, cells
from tomas_router.evaluation.resource_baselines import resource_baselines
from tomas_router.evaluation.resource_scores import (
    Case,
    RawStep,
    baseline_guess,
    heads_guess,
    score_choice,
    score_errors,
    score_raw_fit,
)
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.scores import Tallies
from tomas_router.evaluation.sources import EvalSource
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable

Judged = Sequence[tuple[Case, Asked]]


def judge_under_curves(
    source: EvalSource,
    profiling: ProfilingTable,
    router: Router,
    asked: Sequence[Asked],
    curves: Sequence[SeededCurve],
    shapes: Mapping[str, Sequence[PlanShape]],
    methods: dict[str, Tallies],
    settings: Settings,
    report: SourceReport,
) -> Tallies:
    """Adds all that depends on curves, and returns the rows' resource errors of ours.

    Args:
        source: The rows.
        profiling: The profiles of their tools.
        router: Asked again under false curves.
        asked: Its answers under the true ones.
        curves: One a row.
        shapes: Plans of the tool baselines by name.
        methods: Tallies by method; measures of tool choice are added.
        settings: Seed, baselines and progress.
        report: Resource errors, conditions, machines, placements and counts are written into it.
    """
    cases = _cases(source, profiling, asked, curves)
    judged = [(case, one) for case, one in zip(cases, asked, strict=True) if case is not None]
    for name, said in shapes.items():
        for case, shape in zip(cases, said, strict=True):
            if case is not None:
                score_choice(case, shape.tools, source.registry, methods[name])
    for case, one in judged:
        score_choice(case, one.tools, source.registry, methods[OURS])
        _score_final(case, one.plan, methods[OURS])
        score_choice(case, [s.tool for s in one.steps], source.registry, methods[OURS], prefix="raw_")
    report.counts["refused"] = sum(_wrongly_refused(source, case, one) for case, one in judged)
    resources = _resources(source, profiling, judged, settings)
    report.resources = {name: cells(tallies, settings.seed) for name, tallies in resources.items()}
    kinds = [curve.kind for curve, case in zip(curves, cases, strict=True) if case is not None]
    report.machines = _by_machine(source, judged, kinds, settings)
    report.placements = _placements(source, profiling, judged, settings)
    report.tool_errors = _errors_by_tool(profiling, judged, settings)
    report.conditions = _conditions(source, router, judged, settings)
    return resources[OURS]


def _cases(
    source: EvalSource, profiling: ProfilingTable, asked: Sequence[Asked], curves: Sequence[SeededCurve]
) -> list[Case | None]:
    """The oracle's plan of every row that has steps; the decision takes as long for it as it did for ours."""
    known = next((one.plan for one in asked if one.plan is not None), None)
    found: list[Case | None] = []
    for row, one, curve in zip(source.rows, asked, curves, strict=True):
        plan = one.plan or known
        release_ms = 0 if plan is None else ceil(plan.t_inf_ms)
        oracle = label(row, source.registry, profiling, curve.timeline, release_ms) if row.steps else None
        found.append(None if oracle is None else Case(row, curve.timeline, oracle, release_ms))
    return found


def _resources(source: EvalSource, profiling: ProfilingTable, judged: Judged, settings: Settings) -> dict[str, Tallies]:
    """Errors and fit of the heads' numbers, and of the baselines' for the same steps."""
    baselines = resource_baselines(profiling, source.registry) if settings.baselines else {}
    found: dict[str, Tallies] = {name: {} for name in (OURS, *baselines)}
    for case, one in judged:
        guesses = {OURS: heads_guess(one.steps)} | {n: baseline_guess(one.steps, b) for n, b in baselines.items()}
        for name, guess in guesses.items():
            score_errors(case, one.steps, profiling, guess, found[name])
            score_raw_fit(case, one.steps, guess, found[name])
    return found


def _score_final(case: Case, plan: ToolPlan | None, found: Tallies) -> None:
    """Adds whether the final plan can run, for rows that the oracle can place."""
    if case.oracle.allocations is not None:
        fits = plan is not None and plan.status == "planned" and not plan_violations(plan, case.timeline)
        found.setdefault("final_feasible", Tally.empty()).add(case.row.id, fits)


def _wrongly_refused(source: EvalSource, case: Case, one: Asked) -> bool:
    """Whether a row that has a solution was called infeasible though its tools were right, up to twins."""
    refused = one.plan is not None and one.plan.status == "infeasible"
    return refused and case.oracle.allocations is not None and _right_tools(source, case, one)


def _right_tools(source: EvalSource, case: Case, one: Asked) -> bool:
    """Whether every tool is right, up to twins."""
    right: Tallies = {}
    score_choice(case, one.tools, source.registry, right)
    return right["tool"].totals == right["tool"].weights


def _by_machine(source: EvalSource, judged: Judged, kinds: Sequence[str], settings: Settings) -> Methods:
    found: dict[str, Tallies] = {kind: {} for kind in sorted(set(kinds))}
    for (case, one), kind in zip(judged, kinds, strict=True):
        score_choice(case, one.tools, source.registry, found[kind])
        score_raw_fit(case, one.steps, heads_guess(one.steps), found[kind])
        _score_final(case, one.plan, found[kind])
    return {kind: cells(tallies, settings.seed) for kind, tallies in found.items()}


def _placements(source: EvalSource, profiling: ProfilingTable, judged: Judged, settings: Settings) -> Methods:
    """Final plans beside static and greedy placement of the same steps at the same sizes.

    Only rows that the oracle can place, whose tools are right up to twins and all profiled: a guessed demand is no
    matter of placement. Ends are compared where both run; else whoever fails on hard rows would look quick.
    """
    if not settings.baselines:
        return {}
    found: dict[str, Tallies] = {OURS: {}, "static": {}, "greedy": {}}
    for case, one in judged:
        if case.oracle.allocations is None or not _right_tools(source, case, one):
            continue
        static = place_static(one.steps, profiling, case.release_ms)
        greedy = place_greedily(one.steps, source.registry, profiling, case.timeline, case.release_ms)
        if not static or not greedy:
            continue
        ours_ms = _makespan(case, one.plan)
        ends = (ours_ms, _end_of(static, case.timeline), _end_of(greedy, case.timeline))
        for tallies, end_ms in zip(found.values(), ends, strict=True):
            tallies.setdefault("final_feasible", Tally.empty()).add(case.row.id, end_ms is not None)
            if ours_ms is not None and end_ms is not None:
                tallies.setdefault("makespan_ratio", Tally.empty()).add(case.row.id, end_ms / ours_ms)
    return {name: cells(tallies, settings.seed) for name, tallies in found.items()}


def _makespan(case: Case, plan: ToolPlan | None) -> int | None:
    """End of a final plan that can run."""
    return None if plan is None or plan_violations(plan, case.timeline) else plan.makespan_ms


def _end_of(runs: Sequence[Run], timeline: SystemTimeline) -> int | None:
    """End of the last run; None where together they take more than is free."""
    return None if over_commits(runs, timeline) else max(run.end_ms for run in runs)


def _errors_by_tool(profiling: ProfilingTable, judged: Judged, settings: Settings) -> Methods:
    """Errors of the heads' numbers, tool by tool."""
    found: dict[str, Tallies] = {}
    for case, one in judged:
        for tool in dict.fromkeys(step.tool for step in one.steps):
            steps = [step for step in one.steps if step.tool == tool]
            score_errors(case, steps, profiling, heads_guess(steps), found.setdefault(tool, {}))
    made = {tool: cells(tallies, settings.seed) for tool, tallies in sorted(found.items())}
    return {tool: row for tool, row in made.items() if row}


def _conditions(source: EvalSource, router: Router, judged: Judged, settings: Settings) -> Methods:
    """Raw heads fed with the true, another row's, and an empty curve; always judged under the true one."""
    if not judged:
        return {}
    cases = [case for case, _ in judged]
    real = [case.timeline for case in cases]
    false = {"another row's": shuffled(real, settings.seed), "empty": [zeroed(c) for c in real]}
    said: dict[str, list[tuple[RawStep, ...]]] = {"true": [one.steps for _, one in judged]} | {n: [] for n in false}
    for i, case in enumerate(settings.bar(cases, f"{source.name}, false curves")):  # row by row: the text is read once
        for name, fed in false.items():
            said[name].append(propose(source, router, case.row, fed[i]))
    found: dict[str, Tallies] = {name: {} for name in said}
    for name, proposals in said.items():
        for case, steps in zip(cases, proposals, strict=True):
            score_choice(case, [s.tool for s in steps], source.registry, found[name], prefix="raw_")
            score_raw_fit(case, steps, heads_guess(steps), found[name])
    return {name: cells(tallies, settings.seed) for name, tallies in found.items()}
