from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tomas_router.executors.execution import NotExecutableError
from tomas_router.executors.stub import StubExecutor
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m3

GPU = {"cpu_core": 1, "cpu_mem_gb": 4, "gpu_sm": 50, "gpu_mem_gb": 8}
CPU = {"cpu_core": 2, "cpu_mem_gb": 4, "gpu_sm": 0, "gpu_mem_gb": 0}
REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "ocr", "desc": "reads", "parameters": {"type": "object", "required": ["file", "page"]}},
        {"name": "translate", "desc": "translates"},
    ]
)


def step(number: int, name: str, start_ms: int, latency_ms: float, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}", "tool_id": number - 1, "tool_name": name, "input_size": "medium", "resource_config": CPU,
        "expected_latency_ms": latency_ms, "start_ms": start_ms, "timeout_ms": 5000, "confidence": 0.9,
        "source": "profiled", **fields,
    }  # fmt: skip


def plan(*steps: dict[str, Any], **fields: Any) -> ToolPlan:
    head = {
        "status": "planned", "timeline_id": "t", "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T01:00:00Z", "t_inf_ms": 500, "gate_confidence": 1.0, "model": "m",
    }  # fmt: skip
    return ToolPlan.model_validate({**head, "steps": steps, **fields})


TWO = plan(step(1, "ocr", 500, 1000, resource_config=GPU), step(2, "translate", 1500, 700.2, depends_on=["s1"]))


def executor(lines: list[str] | None = None, **options: Any) -> StubExecutor:
    write = (lines if lines is not None else []).append
    return StubExecutor(write, now=lambda: datetime(2026, 1, 1, 0, 30, tzinfo=UTC), **options)


def test_plan_is_simulated_in_order_of_time() -> None:
    lines: list[str] = []
    report = executor(lines).execute(TWO)
    assert [(s.id, s.status, s.start_ms, s.end_ms) for s in report.steps] == [
        ("s1", "simulated", 500, 1500), ("s2", "simulated", 1500, 2201),
    ]  # fmt: skip
    assert report.makespan_ms == 2201
    assert lines == [
        "simulating 2 step(s); no tool is called and no time passes",
        "       500 ms  s1 ocr starts: cpu 1 vCPU, 4 GiB; gpu 50 %, 8 GiB (profiled), medium input, time limit 5000 ms",
        "      1500 ms  s1 ocr done",
        "      1500 ms  s2 translate starts after s1: cpu 2 vCPU, 4 GiB; no gpu (profiled), medium input, "
        "time limit 5000 ms",
        "      2201 ms  s2 translate done",
        "      2201 ms  plan done (simulated)",
    ]


def test_default_output_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    StubExecutor(check_expiry=False).execute(TWO)
    assert "s2 translate starts after s1" in capsys.readouterr().out


def test_results_are_plain_json_by_step_id() -> None:
    results = executor().run(TWO)
    assert list(results) == ["s1", "s2"]
    assert json.loads(json.dumps(results)) == results


def test_unbound_required_arguments_are_pointed_out_but_simulated() -> None:
    lines: list[str] = []
    bound = plan(step(1, "ocr", 500, 1000, args={"file": "a.png"}), step(2, "translate", 1500, 700))
    report = executor(lines, registry=REGISTRY).execute(bound)
    assert report.steps[0].status == "simulated"
    note = "arguments not bound: page; simulated, a real executor would not run this step"
    assert [s.note for s in report.steps] == [note, None]
    assert any(note in line for line in lines)


def test_expired_plan_is_refused_unless_told_otherwise() -> None:
    late = StubExecutor([].append, now=lambda: datetime(2026, 1, 1, 2, tzinfo=UTC))
    with pytest.raises(NotExecutableError, match=r"expired at 2026-01-01T01:00:00Z.*plan again"):
        late.execute(TWO)
    assert executor(check_expiry=False).execute(TWO).makespan_ms == 2201


@pytest.mark.parametrize(
    "fields",
    [{"status": "no_tool", "reason": "not_needed"}, {"status": "infeasible", "reason": "too big"}],
)
def test_plan_without_placed_steps_is_refused(fields: dict[str, str]) -> None:
    chosen = {"id": "s1", "tool_id": 0, "tool_name": "ocr", "input_size": "small", "confidence": 1.0}
    steps = [chosen] if fields["status"] == "infeasible" else []
    with pytest.raises(NotExecutableError, match=rf"status is {fields['status']} \({fields['reason']}\)"):
        executor().execute(plan(*steps, **fields))


def test_step_before_the_one_it_waits_for_is_refused() -> None:
    second = TWO.steps[1].model_copy(update={"start_ms": 1499})  # a copy is not validated again
    broken = TWO.model_copy(update={"steps": (TWO.steps[0], second)})
    assert isinstance(second, PlanStep)
    with pytest.raises(NotExecutableError, match="s2 starts at 1499 ms, before s1 ends at 1500 ms"):
        executor().execute(broken)
