"""The whole path on a scripted engine: request in, validated plan out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.planner.independent_checker import Run, violations
from tests.planner.scripted_engine import END, Script, ScriptedEngine, Slot
from tomas_router.errors import DataValidationError, UnknownToolError, UntrainedModelError
from tomas_router.planner import Planner
from tomas_router.planner.engine import Calibration
from tomas_router.planner.margins import PredictionMargins
from tomas_router.runtime.latency import LatencyPredictor
from tomas_router.runtime.ledger import InMemoryLedger
from tomas_router.runtime.online_profile import ObservedRun, OnlineProfile
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m3

REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "whisper_gpu", "desc": "speech to text on a GPU", "tags": ["group:stt"]},
        {"name": "whisper_cpu", "desc": "speech to text on a CPU", "tags": ["group:stt"]},
        {"name": "translate", "desc": "translates text"},
        {"name": "summarise", "desc": "summarises text"},
    ]
)
COLUMNS = ("tool", "input_size", "cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb", "latency_ms")
PROFILING = ProfilingTable.from_rows(
    dict(zip(COLUMNS, row, strict=True))
    for row in [
        ("whisper_gpu", "medium", 1, 4, 50, 8, 2000.0),
        ("whisper_gpu", "medium", 1, 4, 100, 8, 1200.0),
        ("whisper_cpu", "medium", 8, 8, 0, 0, 9000.0),
        ("translate", "medium", 2, 4, 0, 0, 1000.0),
        ("summarise", "medium", 2, 4, 0, 0, 700.4),
    ]
)
IDLE = ((0, 16, 64, 100, 24),)
NO_GPU = ((0, 16, 64, 0, 0),)
CHAIN = Script(
    (
        Slot({"whisper_gpu": 6.0, "whisper_cpu": 5.0}),
        Slot({"translate": 9.0}, depends=(3.0,)),
        Slot({"summarise": 9.0}, depends=(3.0, -3.0)),
    )
)


def planner(script: Script | Mapping[str, Script] = CHAIN, **options: Any) -> Planner:
    return Planner(ScriptedEngine(script, Calibration(min_confidence=0.3)), **options)


def curve(*rows: tuple[float, ...], horizon_ms: int | None = 60_000, **kwargs: Any) -> SystemTimeline:
    return SystemTimeline.from_rows(rows, horizon_ms=horizon_ms, **kwargs)


def tools_of(plan: ToolPlan) -> list[str]:
    return [step.tool_name for step in plan.steps]


def plan_on(*rows: tuple[float, ...], request: Any = "do it", **kwargs: Any) -> ToolPlan:
    return planner().plan(request, REGISTRY, PROFILING, curve(*rows), **kwargs)


def test_chain_is_placed_by_profile_after_t_inf_and_in_order() -> None:
    plan = plan_on(*IDLE)
    assert plan.status == "planned"
    assert [(s.id, s.tool_name, s.start_ms, s.expected_latency_ms) for s in plan.steps] == [
        ("s1", "whisper_gpu", 500, 1200.0),
        ("s2", "translate", 1700, 1000.0),
        ("s3", "summarise", 1700, 701.0),
    ]
    assert [s.depends_on for s in plan.steps] == [(), ("s1",), ("s1",)]
    assert {s.source for s in plan.steps} == {"profiled"}
    assert [s.tool_id for s in plan.steps] == [0, 2, 3]


def test_plan_passes_the_independent_checker() -> None:
    rows = ((0, 3, 64, 100, 24), (2500, 2, 64, 100, 24))
    plan = plan_on(*rows)
    runs, before = [], []
    for step in plan.steps:
        c = step.resource_config
        assert c is not None
        assert step.start_ms is not None
        assert step.end_ms is not None
        runs.append(Run(step.start_ms, step.end_ms, (c.cpu_core, c.cpu_mem_gb, c.gpu_sm, c.gpu_mem_gb)))
        before.append([int(d[1:]) - 1 for d in step.depends_on])
    assert violations(rows, runs, horizon_ms=60_000, depends_on=before, release_ms=500) == []


def test_curve_decides_between_twins_and_the_other_stays_an_alternative() -> None:
    assert tools_of(plan_on(*IDLE))[0] == "whisper_gpu"
    without_gpu = plan_on(*NO_GPU)
    assert tools_of(without_gpu)[0] == "whisper_cpu"
    assert without_gpu.steps[0].alternatives[0].tool_name == "whisper_gpu"


def test_twin_beyond_the_margin_is_not_swapped_in() -> None:
    script = Script((Slot({"whisper_gpu": 9.0, "whisper_cpu": 5.0}),))
    plan = planner(script).plan("do it", REGISTRY, PROFILING, curve(*NO_GPU))
    assert (plan.status, tools_of(plan)) == ("infeasible", ["whisper_gpu"])


def test_busy_curve_gives_another_configuration_than_an_idle_one() -> None:
    half_gpu = plan_on((0, 16, 64, 60, 24))
    configs = [p.steps[0].resource_config for p in (plan_on(*IDLE), half_gpu, plan_on(*NO_GPU))]
    assert [c.gpu_sm for c in configs if c is not None] == [100, 50, 0]


def test_infeasible_plan_lists_tools_dependencies_reason_and_what_is_missing() -> None:
    plan = plan_on((0, 1, 64, 100, 24))
    assert plan.status == "infeasible"
    assert tools_of(plan) == ["whisper_gpu", "translate", "summarise"]
    assert [s.depends_on for s in plan.steps] == [(), ("s1",), ("s1",)]
    assert {s.resource_config for s in plan.steps} == {None}
    assert plan.reason is not None
    assert plan.reason.startswith("s2 (translate): no configuration fits")
    assert [(m.resource, m.needed, m.available, m.unit) for m in plan.missing] == [("cpu_cores", 2.0, 1.0, "vCPU")]


def test_no_tool_answers_carry_their_reason() -> None:
    polite = planner(Script((), gate_logit=-4)).plan("thanks!", REGISTRY)
    unknown = planner(Script((Slot({END: 5.0}),))).plan("do it", REGISTRY)
    assert [(p.status, p.reason, p.steps) for p in (polite, unknown)] == [
        ("no_tool", "not_needed", ()), ("no_tool", "no_match", ()),
    ]  # fmt: skip
    assert polite.explanation == "No tool is needed; answer in text."


def test_registry_without_profile_plans_by_prediction() -> None:
    plan = planner().plan("do it", REGISTRY, None, curve(*IDLE))
    assert plan.status == "planned"
    assert {s.source for s in plan.steps} == {"predicted"}


def test_candidates_restrict_every_step() -> None:
    script = Script((Slot({"whisper_gpu": 9.0, "translate": 3.0}),))
    plan = planner(script).plan({"instruction": "do it", "candidates": ["translate"]}, REGISTRY, PROFILING)
    assert tools_of(plan) == ["translate"]
    assert plan.steps[0].alternatives == ()


def test_unknown_candidate_is_named() -> None:
    with pytest.raises(UnknownToolError, match="'magic' is not in the registry of 4 tools"):
        planner().plan({"instruction": "do it", "candidates": ["magic"]}, REGISTRY)


def test_malformed_request_is_refused_before_the_network_runs() -> None:
    with pytest.raises(DataValidationError, match="colour"):
        planner().plan({"instruction": "do it", "colour": "red"}, REGISTRY)


def test_num_steps_and_order_links_shape_the_plan() -> None:
    plan = planner().plan({"instruction": "do it", "num_steps": 2, "links": "order"}, REGISTRY, PROFILING)
    assert tools_of(plan) == ["whisper_gpu", "translate"]
    assert plan.steps[1].depends_on == ("s1",)
    long = planner().plan({"instruction": "do it", "num_steps": 14}, REGISTRY, PROFILING)
    assert len(long.steps) == 14


def test_input_size_of_the_request_reaches_every_step() -> None:
    plan = planner().plan({"instruction": "do it", "input_size": "small"}, REGISTRY, PROFILING)
    assert {s.input_size for s in plan.steps} == {"small"}


def test_deadline_is_kept_or_named() -> None:
    on_time = plan_on(*IDLE, request={"instruction": "do it", "deadline_ms": 2700})
    assert (on_time.status, on_time.makespan_ms) == ("planned", 2700)
    late = plan_on(*IDLE, request={"instruction": "do it", "deadline_ms": 2699})
    assert late.status == "infeasible"
    assert [m.resource for m in late.missing] == ["time"]


def test_t_inf_moves_window_and_release() -> None:
    timeline = curve((0, 16, 64, 100, 24), (5000, 4, 64, 100, 24))
    engine = ScriptedEngine(CHAIN)
    for fixed_ms in (500.0, 6000.0):
        plan = Planner(engine, latency=LatencyPredictor(fixed_ms=fixed_ms)).plan("x", REGISTRY, PROFILING, timeline)
        assert (plan.t_inf_ms, plan.steps[0].start_ms) == (fixed_ms, fixed_ms)
    early, late = engine.windows
    assert early.series_GT4[0, 0, 0] == 16
    assert late.series_GT4[0, 0, 0] == 4
    assert early.log_horizon > late.log_horizon


def test_release_given_by_the_caller_replaces_t_inf() -> None:
    assert plan_on(*IDLE, release_ms=4000).steps[0].start_ms == 4000


def test_tail_and_horizon_replace_those_of_the_timeline() -> None:
    assert plan_on(*IDLE, horizon_ms=2000).status == "infeasible"
    held = plan_on(*IDLE, horizon_ms=2000, tail="hold")
    assert (held.status, held.beyond_horizon) == ("planned", True)
    assert not plan_on(*IDLE).beyond_horizon


def test_plans_that_share_a_ledger_queue_up_and_infeasible_ones_book_nothing() -> None:
    ledger, one = InMemoryLedger(), planner(Script((Slot({"translate": 9.0}),)))
    timeline = curve((0, 2, 64, 0, 0), horizon_ms=3000)
    plans = [one.plan("x", REGISTRY, PROFILING, timeline, ledger=ledger) for _ in range(3)]
    assert [p.status for p in plans] == ["planned", "planned", "infeasible"]
    assert [p.steps[0].start_ms for p in plans] == [500, 1500, None]
    assert len(ledger.snapshot().reservations) == 2


def test_batch_encodes_the_tools_once() -> None:
    engine = ScriptedEngine({"a": CHAIN, "b": Script((), gate_logit=-1)})
    plans = list(Planner(engine).plan_batch(["a", {"instruction": "b"}, "a"], REGISTRY, PROFILING, curve(*IDLE)))
    assert [p.status for p in plans] == ["planned", "no_tool", "planned"]
    assert sorted(engine.encoded) == sorted(REGISTRY.names)


def test_proposals_are_available_before_allocation() -> None:
    raw = planner().propose("do it", REGISTRY, PROFILING, curve(*IDLE))
    assert [REGISTRY.names[s.tool] for s in raw.steps] == ["whisper_gpu", "translate", "summarise"]


def test_cache_directory_spares_the_next_process_the_encoding(tmp_path: Path) -> None:
    planner(cache_dir=tmp_path).encode(REGISTRY, PROFILING)
    engine = ScriptedEngine(CHAIN)
    Planner(engine, cache_dir=tmp_path).plan("do it", REGISTRY, PROFILING)
    assert engine.encoded == []


def test_explanation_is_one_line_by_default_and_the_models_on_request() -> None:
    assert plan_on((0, 16, 64, 60, 24)).explanation == (
        "3 steps, done at 3.5 s: "
        "s1 whisper_gpu (medium input; 1 vCPU, 4 GiB, 50 % of a GPU with 8 GiB; 0.5 s to 2.5 s); "
        "s2 translate after s1 (medium input; 2 vCPU, 4 GiB; 2.5 s to 3.5 s); "
        "s3 summarise after s1 (medium input; 2 vCPU, 4 GiB; 2.5 s to 3.201 s)."
    )
    assert plan_on(*IDLE, explain=True).explanation == "Because the test says so."


def test_plan_is_plain_json_and_survives_a_round_trip() -> None:
    plan = plan_on(*IDLE)
    dumped = plan.model_dump()
    assert ToolPlan.model_validate_json(json.dumps(dumped)) == plan
    assert _numpy_values(dumped) == []


def _numpy_values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _numpy_values(item)]
    if isinstance(value, (list, tuple)):
        return [found for item in value for found in _numpy_values(item)]
    return [value] if isinstance(value, np.generic) else []


def test_times_of_day_are_utc_and_the_plan_expires_with_its_curve() -> None:
    plan = plan_on(*IDLE)
    created, expires = datetime.fromisoformat(plan.created_at), datetime.fromisoformat(plan.expires_at)
    assert created.utcoffset() == timedelta(0)
    assert expires - created == timedelta(seconds=60)


def test_curve_with_an_epoch_expires_at_its_own_end() -> None:
    plan = planner().plan("x", REGISTRY, PROFILING, curve(*IDLE, epoch_ms=4_000_000_000_000))
    assert plan.expires_at == "2096-10-02T07:07:40.000Z"


def test_large_registry_shortlists_by_retrieval_but_may_choose_any_tool() -> None:
    tools = ToolRegistry.from_tools({"name": f"tool_{i}", "desc": "x"} for i in range(300))
    engine = ScriptedEngine(Script((Slot({"tool_299": 9.0}),)))
    plan = Planner(engine).plan("tool 7", tools)
    assert len(engine.shortlists[0]) == 64
    assert "tool_7" in engine.shortlists[0]
    assert tools_of(plan) == ["tool_299"]


def test_candidates_are_all_in_the_prefix() -> None:
    tools = ToolRegistry.from_tools({"name": f"tool_{i}", "desc": "x"} for i in range(300))
    wanted = [f"tool_{i}" for i in range(100, 160)]
    engine = ScriptedEngine(Script((Slot({"tool_120": 9.0}),)))
    Planner(engine).plan({"instruction": "tool 7", "candidates": wanted}, tools)
    assert engine.shortlists[0] == wanted


def test_engine_without_trained_heads_is_refused() -> None:
    engine = ScriptedEngine(CHAIN)
    engine.trained = False  # type: ignore[attr-defined]
    with pytest.raises(UntrainedModelError, match="no trained heads"):
        Planner(engine)


def test_plan_with_proposals_runs_the_network_once_and_says_what_plan_and_propose_say() -> None:
    asked = planner()
    plan, raw = asked.plan_with_proposals("do it", REGISTRY, PROFILING, curve(*IDLE))
    assert len(asked.engine.windows) == 1
    assert raw == asked.propose("do it", REGISTRY, PROFILING, curve(*IDLE))
    assert plan.steps == asked.plan("do it", REGISTRY, PROFILING, curve(*IDLE)).steps


def test_tool_without_profile_when_margins_are_given_gets_room_above_the_prediction() -> None:
    plain = planner().plan("do it", REGISTRY, None, curve(*IDLE))
    roomy = planner(margins=PredictionMargins(cpu_mem_gb=2, latency_ms=3)).plan("do it", REGISTRY, None, curve(*IDLE))
    for before, after in zip(plain.steps, roomy.steps, strict=True):
        assert before.resource_config is not None
        assert after.resource_config is not None
        assert after.resource_config.cpu_core == before.resource_config.cpu_core
        assert after.resource_config.cpu_mem_gb >= 2 * before.resource_config.cpu_mem_gb - 0.25
        assert (after.expected_latency_ms or 0) > 2 * (before.expected_latency_ms or 0)


def test_tool_without_profile_when_it_has_run_is_planned_with_what_it_took() -> None:
    online = OnlineProfile()
    first = planner().plan("do it", REGISTRY, online, curve(*IDLE))
    assert {step.source for step in first.steps} == {"predicted"}
    for step in first.steps:
        online.observe(ObservedRun.of(step, 300, cpu_mem_gb=0.5, gpu_mem_gb=0.0))
    second = planner().plan("do it", REGISTRY, online, curve(*IDLE))
    assert {step.source for step in second.steps} == {"profiled"}
    assert [step.expected_latency_ms for step in second.steps] == [330.0] * 3
    assert all(step.resource_config and step.resource_config.cpu_mem_gb == 0.55 for step in second.steps)
