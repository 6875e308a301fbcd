"""Scores one source: ours and every baseline on the same rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from tomas_router.datasets.rows import Row
from tomas_router.evaluation.asking import Asked, Settings, ask
from tomas_router.evaluation.baselines import TrainingPlans, tool_baselines
from tomas_router.evaluation.curves import curve_of
from tomas_router.evaluation.gate_baselines import gate_baselines
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.plan_check import plan_violations
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.report import OURS, SourceReport, cells
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.scores import FAILED, Answer, Tallies, baseline_answer, score
from tomas_router.evaluation.sources import EvalSource, gold_shape, is_gate_only
from tomas_router.evaluation.under_curve import judge_under_curves
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan

logger = logging.getLogger(__name__)


def judge(source: EvalSource, router: Router, settings: Settings) -> SourceReport:
    """Every measure that the source allows."""
    started = time.perf_counter()
    report = SourceReport(source.name, len(source.rows), len(source.registry), source.notes)
    curves = [curve_of(row, settings.seed) for row in source.rows]
    given = [curve.timeline if source.profiling is not None else SystemTimeline.default() for curve in curves]
    pairs = settings.bar(list(zip(source.rows, given, strict=True)), source.name)
    asked = [ask(source, router, row, timeline) for row, timeline in pairs]
    methods = {OURS: score(source, source.rows, [_answer(source, one) for one in asked])}
    methods[OURS]["parse"] = _parse_rate(asked)
    report.counts = _counts(asked, given)
    shapes: dict[str, list[PlanShape]] = {}
    if settings.baselines and is_gate_only(source.rows):
        methods |= _gate_methods(source, settings)
    elif settings.baselines:
        shapes = _baseline_shapes(source, settings)
        for name, said in shapes.items():
            methods[name] = score(source, source.rows, [baseline_answer(shape) for shape in said])
    if source.profiling is not None:
        judge_under_curves(source, source.profiling, router, asked, curves, shapes, methods, settings, report)
    report.methods = {name: cells(found, settings.seed) for name, found in methods.items()}
    report.seconds = time.perf_counter() - started
    return report


# ---- ours -------------------------------------------------------------------------------------------------------


def _answer(source: EvalSource, asked: Asked) -> Answer:
    """Gate data asks whether a tool is needed at all; elsewhere a tool that is needed must also be found."""
    plan = asked.plan
    if plan is None:
        return FAILED
    position = {step.id: k for k, step in enumerate(plan.steps)}
    depends_on = tuple(tuple(position[d] for d in step.depends_on) for step in plan.steps)
    needs_tool = plan.status != "no_tool" or (is_gate_only(source.rows) and plan.reason != "not_needed")
    return Answer(PlanShape(tuple(asked.tools), depends_on), needs_tool, tuple(step.input_size for step in plan.steps))


def _parse_rate(asked: Sequence[Asked]) -> Tally:
    """Plans that survive a round trip through JSON and the schema."""
    tally = Tally.empty()
    for one in asked:
        tally.add(one.plan is not None and _survives(one.plan))
    return tally


def _survives(plan: ToolPlan) -> bool:
    try:
        return ToolPlan.model_validate_json(plan.model_dump_json()) == plan
    except ValidationError as error:
        logger.warning("a plan breaks its own schema: %s", error)
        return False


def _counts(asked: Sequence[Asked], given: Sequence[SystemTimeline]) -> dict[str, int]:
    plans = [(one.plan, curve) for one, curve in zip(asked, given, strict=True) if one.plan is not None]
    return {
        "answered": len(plans),
        "planned": sum(plan.status == "planned" for plan, _ in plans),
        "over_commits": sum(bool(plan_violations(plan, curve)) for plan, curve in plans),
    }


# ---- baselines --------------------------------------------------------------------------------------------------


def training_plans(rows: Iterable[Row]) -> TrainingPlans:
    """What baselines learn from; rows that say a tool is needed but not which teach nothing here."""
    known = [row for row in rows if row.steps or not row.needs_tool]
    return TrainingPlans(tuple(r.instruction for r in known), tuple(gold_shape(r) for r in known))


def _baseline_shapes(source: EvalSource, settings: Settings) -> dict[str, list[PlanShape]]:
    builders = tool_baselines(source.registry, training_plans(source.training), settings.encoders)
    requests = [source.request(row) for row in source.rows]
    found: dict[str, list[PlanShape]] = {}
    for build in settings.bar(builders, f"{source.name} baselines"):
        baseline = build()
        found[baseline.name] = baseline.predict(requests)
    return found


def _gate_methods(source: EvalSource, settings: Settings) -> dict[str, Tallies]:
    texts = [row.instruction for row in source.training]
    gates = gate_baselines(texts, [row.needs_tool for row in source.training], settings.encoders)
    asked = [row.instruction for row in source.rows]
    return {
        name: score(source, source.rows, [Answer(NO_PLAN, needs_tool) for needs_tool in gate(asked)])
        for name, gate in gates.items()
    }
