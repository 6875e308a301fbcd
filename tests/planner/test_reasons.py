"""Reasons why nothing fits: which resource, when, how much is missing, and which change would make it fit."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from tests.planner.scripted_engine import Script, ScriptedEngine, Slot
from tests.planner.test_allocate_plan import Problem, problems
from tests.planner.test_allocator_laws import Case, cases
from tomas_router.errors import InfeasibleError
from tomas_router.planner import Planner, ResourceOption, SearchLimits, StepDemand, allocate, allocate_plan
from tomas_router.planner.engine import Calibration
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m3

COLUMNS = ("tool", "input_size", "cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb", "latency_ms")
REGISTRY = ToolRegistry.from_tools([{"name": "ocr", "desc": "reads text"}, {"name": "sum", "desc": "adds up"}])
PROFILING = ProfilingTable.from_rows(
    dict(zip(COLUMNS, row, strict=True))
    for row in [
        ("ocr", "small", 1, 2, 0, 0, 400.0),
        ("ocr", "medium", 2, 8, 0, 0, 900.0),
        ("ocr", "large", 4, 30, 0, 0, 4000.0),
        ("sum", "large", 1, 1, 0, 0, 100.0),
    ]
)


def test_reason_says_what_is_missing_where_and_what_would_fit_there() -> None:
    timeline = SystemTimeline.from_rows([(0, 1.5, 32, 40, 16), (500, 1, 32, 40, 16)], horizon_ms=5_000)
    with pytest.raises(InfeasibleError) as caught:
        allocate([ResourceOption(4, 2, 0, 0, 900), ResourceOption(2, 4, 50, 8, 900)], timeline)
    assert caught.value.reason == (
        "no configuration fits; nearest is option 1 (2 vCPU, 4 GiB, 50 % SM, 8 GiB GPU memory) on [0, 900) ms: "
        "cpu_cores at 500 ms needs 2 vCPU, has 1, lacks 1 vCPU, gpu_sm at 0 ms needs 50 %, has 40, lacks 10 %; "
        "a configuration of at most 1 vCPU, 32 GiB, 40 % SM, 16 GiB GPU memory that takes 900 ms would fit there; "
        "a longer horizon with the last piece held would not help"
    )


def test_what_would_fit_is_rounded_down() -> None:
    with pytest.raises(InfeasibleError, match=r"at most 255\.999 vCPU, 1234\.999 GiB that takes 5 ms would fit there"):
        allocate(
            [ResourceOption(300, 1, 0, 0, 5)], SystemTimeline.from_rows([(0, 255.9996, 1234.9999, 0, 0)], horizon_ms=9)
        )


AT_MOST = re.compile(
    r"at most ([\d.e+-]+) vCPU, ([\d.e+-]+) GiB(?:, ([\d.e+-]+) % SM, ([\d.e+-]+) GiB GPU memory)? that takes (\d+) ms"
)
LATER = re.compile(r"horizon or deadline >= (\d+)\)$")


@given(cases())
@settings(max_examples=300, deadline=None)
def test_what_a_reason_advises_makes_the_step_fit(case: Case) -> None:
    try:
        allocate(case.resource_options(), case.timeline(), case.release_ms)
    except InfeasibleError as error:
        smaller, later = AT_MOST.search(error.reason), LATER.search(error.reason)
        if smaller is not None:
            demand = [float(text or 0) for text in smaller.groups()]
            assert allocate([ResourceOption(*demand)], case.timeline(), case.release_ms)
        if later is not None:
            held = SystemTimeline.from_rows(case.rows, horizon_ms=case.horizon_ms, tail="hold")
            end_ms = int(later.group(1))
            placed = allocate(case.resource_options(), held, case.release_ms, deadline_ms=end_ms)
            assert placed.end_ms == end_ms


@given(problems())
@settings(max_examples=200, deadline=None)
def test_what_a_plans_reason_advises_makes_the_plan_fit(problem: Problem) -> None:
    rows, options, before, horizon = problem
    held = SystemTimeline.from_rows([(t, cpu + 4, 9, 0, 0) for t, cpu in rows], horizon_ms=horizon, tail="hold")
    steps = [
        StepDemand([ResourceOption(cpu, 0, 0, 0, ms) for cpu, ms in o], b) for o, b in zip(options, before, strict=True)
    ]
    least_ms = max(a.end_ms for a in allocate_plan(steps, held, limits=SearchLimits(budget_ms=60_000.0)))
    with pytest.raises(InfeasibleError) as caught:
        allocate_plan(steps, held, deadline_ms=least_ms - 1)
    advised = re.findall(r"horizon or deadline >= (\d+)\)", caught.value.reason)
    assert advised, caught.value.reason
    if "fits them together" in caught.value.reason or len(steps) == 1:
        assert allocate_plan(steps, held, deadline_ms=int(advised[-1]), limits=SearchLimits(budget_ms=60_000.0))


def test_reason_of_a_plan_says_when_the_whole_of_it_would_be_done() -> None:
    steps = [StepDemand([ResourceOption(3, 1, 0, 0, 600)])] * 3
    with pytest.raises(
        InfeasibleError, match=r"the whole plan would then be done at 1800 ms \(horizon or deadline >= 1800\)"
    ):
        allocate_plan(steps, SystemTimeline.from_rows([(0, 4, 8, 0, 0)], horizon_ms=1_000))


def infeasible(rows: list[tuple[float, ...]], ledger: InMemoryLedger | None = None, **options: object) -> str:
    script = Script((Slot({"ocr": 9.0}), Slot({"sum": 9.0}, depends=(3.0,))))
    planner = Planner(ScriptedEngine(script, Calibration(min_confidence=0.3)))
    timeline = SystemTimeline.from_rows(rows, horizon_ms=20_000)
    request = {"instruction": "read it", "input_size": "large", **options}
    plan = planner.plan(request, REGISTRY, PROFILING, timeline, ledger=ledger, release_ms=0)
    assert plan.status == "infeasible"
    assert plan.reason is not None
    return plan.reason


def test_plan_that_fits_on_smaller_input_says_which_step_and_how_small() -> None:
    assert infeasible([(0, 8, 16, 0, 0)]).endswith(
        "; smaller input would fit: s1 (ocr) medium instead of large, done at 1000 ms"
    )
    assert infeasible([(0, 8, 4, 0, 0)]).endswith(
        "; smaller input would fit: s1 (ocr) small instead of large, done at 500 ms"
    )
    assert "smaller input" not in infeasible([(0, 0.5, 4, 0, 0)])
    assert infeasible([(0, 8, 64, 0, 0)], deadline_ms=1_000).endswith(
        "s1 (ocr) medium instead of large, done at 1000 ms"
    )


def test_advice_counts_what_others_hold_and_books_nothing() -> None:
    ledger = InMemoryLedger()
    allocate(
        [ResourceOption(1, 60, 0, 0, 20_000)],
        SystemTimeline.from_rows([(0, 8, 64, 0, 0)], horizon_ms=20_000),
        0,
        ledger,
    )
    assert infeasible([(0, 8, 64, 0, 0)], ledger).endswith("s1 (ocr) small instead of large, done at 500 ms")
    assert len(ledger.snapshot().reservations) == 1
