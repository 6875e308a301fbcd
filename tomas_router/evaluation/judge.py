"""Scores one source: ours and every baseline on the same rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from tomas_router.datasets.rows import Row
from tomas_router.evaluation.asking import Asked, Settings, ask
from tomas_router.evaluation.baselines import Baseline, ToolRanking, TrainingPlans, tool_baselines
from tomas_router.evaluation.breakdowns import by_steps, confused_pairs, gate_cases, sure_steps
from tomas_router.evaluation.calibration import calibration
from tomas_router.evaluation.confusions import confusions
from tomas_router.evaluation.curves import curve_of
from tomas_router.evaluation.gate_baselines import gate_baselines
from tomas_router.evaluation.gate_curve import gate_curve
from tomas_router.evaluation.intervals import Tally
from tomas_router.evaluation.list_scores import score_lists
from tomas_router.evaluation.plan_check import plan_violations
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.report import OURS, SourceReport, cells, grouped_cells
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.row_records import RowRecord, add_scores, row_record
from tomas_router.evaluation.scores import FAILED, Answer, Tallies, baseline_answer, score
from tomas_router.evaluation.sources import EvalSource, gold_shape, is_gate_only
from tomas_router.evaluation.under_curve import judge_under_curves
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan

logger = logging.getLogger(__name__)

Spoken = dict[str, tuple[Baseline, list[PlanShape]]]
"""Baselines by name with what they said to every row."""


def judge(source: EvalSource, router: Router, settings: Settings) -> SourceReport:
    """Every measure that the source allows."""
    started = time.perf_counter()
    report = SourceReport(source.name, len(source.rows), len(source.registry), source.notes)
    report.trained_as = source.trained_as
    curves = [curve_of(row, settings.seed) for row in source.rows]
    given = [curve.timeline if source.profiling is not None else SystemTimeline.default() for curve in curves]
    pairs = settings.bar(list(zip(source.rows, given, strict=True)), source.name)
    asked = [ask(source, router, row, timeline) for row, timeline in pairs]
    answers = [_answer(source, one) for one in asked]
    methods = {OURS: score(source, source.rows, answers)}
    methods[OURS]["parse"] = _parse_rate(source, asked)
    report.counts = _counts(asked, given)
    spoken = _baselines(source, settings) if settings.baselines and not is_gate_only(source.rows) else {}
    shapes = {name: said for name, (_, said) in spoken.items()}
    if settings.baselines and is_gate_only(source.rows):
        methods |= _gate_methods(source, settings)
    for name, said in shapes.items():
        methods[name] = score(source, source.rows, [baseline_answer(shape) for shape in said])
    resources: Tallies = {}
    if source.profiling is not None:
        resources = judge_under_curves(
            source, source.profiling, router, asked, curves, shapes, methods, settings, report
        )
    listed = _lists(source, router, answers, given, spoken, settings, report) if _has_lists(source, settings) else {}
    _details(source, asked, answers, shapes, settings, report)
    report.tallies = methods
    report.methods = {name: cells(found, settings.seed) for name, found in methods.items()}
    report.records = _records(source, asked, answers, methods[OURS] | listed | resources)
    report.seconds = time.perf_counter() - started
    return report


def _has_lists(source: EvalSource, settings: Settings) -> bool:
    return settings.lists and any(row.steps for row in source.rows)


def _lists(
    source: EvalSource,
    router: Router,
    answers: Sequence[Answer],
    given: Sequence[SystemTimeline],
    spoken: Spoken,
    settings: Settings,
    report: SourceReport,
) -> Tallies:
    """Writes the measures over candidate lists into the report and returns ours."""
    ranking = {name: said for name, said in spoken.items() if isinstance(said[0], ToolRanking)}  # others copy plans
    found = score_lists(source, router, answers, given, ranking, OURS, settings)
    report.likeness = found.likeness
    report.lists = {name: cells(tallies, settings.seed) for name, tallies in found.lists.items()}
    report.by_candidates = grouped_cells(found.by_candidates, settings.seed)
    return found.lists[OURS]


def _details(
    source: EvalSource,
    asked: Sequence[Asked],
    answers: Sequence[Answer],
    shapes: Mapping[str, Sequence[PlanShape]],
    settings: Settings,
    report: SourceReport,
) -> None:
    """Calibration, confusions, the gate's curve, and everything by number of steps."""
    said = {OURS: answers} | {name: [baseline_answer(shape) for shape in found] for name, found in shapes.items()}
    steps = {name: by_steps(source, found) for name, found in said.items()}
    report.by_steps = grouped_cells(steps, settings.seed)
    report.calibration = calibration(sure_steps(source, asked, answers), settings.seed)
    report.confusions = confusions(confused_pairs(source, answers))
    report.gate = gate_curve(gate_cases(source, asked, answers), settings.seed)


def _records(
    source: EvalSource, asked: Sequence[Asked], answers: Sequence[Answer], tallies: Tallies
) -> list[RowRecord]:
    made = [
        row_record(row, gold_shape(row), answer.shape, one)
        for row, one, answer in zip(source.rows, asked, answers, strict=True)
    ]
    add_scores({record.id: record for record in made}, tallies)
    return made


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


def _parse_rate(source: EvalSource, asked: Sequence[Asked]) -> Tally:
    """Plans that survive a round trip through JSON and the schema."""
    tally = Tally.empty()
    for row, one in zip(source.rows, asked, strict=True):
        tally.add(row.id, one.plan is not None and _survives(one.plan))
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


def _baselines(source: EvalSource, settings: Settings) -> Spoken:
    """Every baseline, ready to be asked more, with its plans for the rows."""
    builders = tool_baselines(source.registry, training_plans(source.training), settings.encoders)
    requests = [source.request(row) for row in source.rows]
    found: Spoken = {}
    for build in settings.bar(builders, f"{source.name} baselines"):
        baseline = build()
        found[baseline.name] = baseline, baseline.predict(requests)
    return found


def _gate_methods(source: EvalSource, settings: Settings) -> dict[str, Tallies]:
    texts = [row.instruction for row in source.training]
    gates = gate_baselines(texts, [row.needs_tool for row in source.training], settings.encoders)
    asked = [row.instruction for row in source.rows]
    return {
        name: score(source, source.rows, [Answer(NO_PLAN, needs_tool) for needs_tool in gate(asked)])
        for name, gate in gates.items()
    }
