from __future__ import annotations

import numpy as np
import pytest

from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tomas_router.evaluation.traces import LARGEST_MARGIN, TraceRecorder
from tomas_router.planner import Planner
from tomas_router.planner.engine import Calibration
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools([{"name": n, "desc": n} for n in ("ocr", "translate", "search")])
SCRIPT = Script(
    (
        Slot({"ocr": 2.0, END: 1.0}),
        Slot({END: 5.0, "search": 4.0}),
        Slot({END: 5.0, "translate": 2.5}, depends=(0.5,)),
    ),
    gate_logit=0.5,
)
CALIBRATIONS = (
    Calibration(),
    Calibration(gate_threshold=1.0),
    Calibration(match_margin=1.5),
    Calibration(min_confidence=0.9),
    Calibration(end_margin=1.5),
    Calibration(end_margin=3.0, depends_threshold=1.0, temperature=2.0),
)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@pytest.mark.parametrize("candidates", [None, ("ocr", "translate")])
def test_trace_when_replayed_is_the_plan_of_an_engine_with_that_calibration(
    calibration: Calibration, candidates: tuple[str, ...] | None
) -> None:
    request = PlanRequest(instruction="do it", candidates=candidates)
    trace = TraceRecorder(ScriptedEngine(SCRIPT)).record(request, REGISTRY)
    assert trace.plan(calibration) == Planner(ScriptedEngine(SCRIPT, calibration)).propose(request, REGISTRY)


def test_trace_when_the_number_of_steps_is_given_goes_exactly_so_far() -> None:
    request = PlanRequest(instruction="do it", num_steps=2)
    trace = TraceRecorder(ScriptedEngine(SCRIPT)).record(request, REGISTRY)
    assert len(trace.outcomes) == len(trace.plan(Calibration(gate_threshold=9.0)).steps) == 2


def test_trace_when_a_margin_leads_beyond_the_walk_says_so() -> None:
    trace = TraceRecorder(ScriptedEngine(SCRIPT)).record(PlanRequest(instruction="do it"), REGISTRY)
    assert trace.plan(Calibration(end_margin=LARGEST_MARGIN)).no_tool is None
    with pytest.raises(ValueError, match="end_margin must be <= 6, got 60"):
        trace.plan(Calibration(end_margin=60.0))


def test_final_plan_when_made_of_a_trace_is_allocated_and_asks_nothing() -> None:
    request = PlanRequest(instruction="do it")
    engine = ScriptedEngine(SCRIPT)
    recorder = TraceRecorder(engine)
    trace = recorder.record(request, REGISTRY)
    asked = len(engine.windows)
    timeline = SystemTimeline(np.array([0]), np.array([[16, 64, 100, 24]]))
    plan = recorder.final_plan(trace, Calibration(end_margin=1.5), request, REGISTRY, None, timeline)
    assert [step.tool_name for step in plan.steps] == ["ocr", "search"]
    assert plan.status == "planned"
    assert len(engine.windows) == asked
    assert recorder.record(request, REGISTRY).opening.gate_logit == 0.5  # the engine is asked again
    assert len(engine.windows) == asked + 1
