import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.validate import read_plan

pytestmark = pytest.mark.m0
CONFIG = {"cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}
UNPLACED: dict[str, Any] = {"resource_config": None}
SHORT = {"resource": "gpu_sm", "at_ms": 0, "needed": 2.0, "available": 1.0, "unit": "%"}


def step(number: int, start_ms: int | None, depends_on: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}", "tool_id": 0, "tool_name": "a", "input_size": "small", "resource_config": CONFIG,
        "expected_latency_ms": 100.0, "start_ms": start_ms, "depends_on": depends_on, "confidence": 0.9,
        "source": "profiled",
    } | changes  # fmt: skip


def plan(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "status": "planned", "timeline_id": "t", "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:01:00Z", "t_inf_ms": 500.0, "gate_confidence": 1.0, "steps": steps, "model": "m",
    } | changes  # fmt: skip


def test_plan_when_written_as_json_and_read_is_the_same() -> None:
    one = ToolPlan.model_validate(plan(step(1, 500), step(2, 600, ("s1",), args={"in": "$s1.output", "n": [1, None]})))
    again = ToolPlan.model_validate_json(one.model_dump_json(), strict=True)
    assert again == one
    assert json.loads(json.dumps(one.model_dump(mode="json"))) == one.model_dump(mode="json")
    assert one.makespan_ms == 700


def test_plan_when_built_from_numpy_scalars_holds_plain_numbers() -> None:
    config = {name: np.float32(1) for name in CONFIG}
    made = step(1, np.int64(500), resource_config=config, confidence=np.float64(0.5))
    one = ToolPlan.model_validate(plan(made, t_inf_ms=np.float32(20)))
    numbers = (one.t_inf_ms, one.steps[0].start_ms, one.steps[0].confidence)
    assert [type(n) for n in numbers] == [float, int, float]
    assert one.steps[0].resource_config is not None
    assert type(one.steps[0].resource_config.gpu_sm) is float


@pytest.mark.parametrize("value", [np.int64(1), (1, 2), {1, 2}, float("nan"), object()])
def test_plan_when_arguments_are_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        ToolPlan.model_validate(plan(step(1, 500, args={"x": value})))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (plan(), "at least one step"),
        (plan(step(1, 500), status="no_tool", reason="not_needed"), "has no steps"),
        (plan(status="no_tool"), "one of not_needed, no_match, got None"),
        (plan(step(1, None, **UNPLACED), status="infeasible"), "says its reason"),
        (plan(step(1, 500), status="infeasible", reason="r"), "nothing of an infeasible plan is placed"),
        (plan(step(1, 500), missing=[SHORT]), "misses nothing, but missing has 1 entries"),
        (plan(step(1, 500, ("s2",))), "s1 depends on s2, which is not an earlier step"),
        (plan(step(1, 500, ("s1",))), "s1 depends on s1, which is not an earlier step"),
        (plan(step(1, 500), step(2, 600, ("s1", "s1"))), "s2 repeats a dependency"),
        (plan(step(1, 500), step(1, 700)), "unique"),
        (plan(step(1, 500), step(2, 599, ("s1",))), "s2 starts at 599 ms, before s1 ends at 600 ms"),
        (plan(step(1, None)), "s1 is planned, so start_ms must be set"),
        (plan(step(1, 500, source=None)), "source must be set"),
        (plan(step(1, 500, confidence=float("nan"))), "finite number"),
        (plan(step(1, 500), units={"time": "s"}), "units must be"),
        (plan(step(1, 500), created_at="now"), "created_at must be an ISO 8601 time"),
        (plan(step(1, 500), expires_at="2026-01-01T00:01:00"), "with a time zone"),
        (plan(step(1, 500), expires_at="2025-12-31T23:59:59+00:00"), "must not be before created_at"),
        (plan(step(1, 500), colour=1), "Extra inputs"),
    ],
)
def test_plan_when_inconsistent_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ToolPlan.model_validate(data)
    assert message in str(caught.value)


def test_plan_when_a_latency_carries_binary_noise_lets_the_successor_start_on_time() -> None:
    first = step(1, 500, expected_latency_ms=100.0000000001)
    assert ToolPlan.model_validate(plan(first, step(2, 600, ("s1",)))).makespan_ms == 700


def test_plan_when_infeasible_still_lists_tools_and_dependencies() -> None:
    steps = (step(1, None, **UNPLACED), step(2, None, ("s1",), **UNPLACED))
    one = ToolPlan.model_validate(plan(*steps, status="infeasible", reason="no GPU", missing=[SHORT]))
    assert [s.depends_on for s in one.steps] == [(), ("s1",)]
    assert one.makespan_ms is None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_plan_file_when_good_is_read(tmp_path: Path) -> None:
    read, findings = read_plan(write(tmp_path, json.dumps(plan(step(1, 500)))))
    assert findings == []
    assert read is not None
    assert read.steps[0].end_ms == 600


def test_plan_file_when_several_rules_are_broken_lists_each(tmp_path: Path) -> None:
    broken = plan(step(1, 500, source=None), step(2, 550, ("s1", "s7")), expires_at="later")
    read, findings = read_plan(write(tmp_path, json.dumps(broken)))
    assert read is None
    assert [f.message for f in findings] == [
        "plan.json: expires_at must be an ISO 8601 time with a time zone, got 'later'",
        "plan.json: s1 is planned, so source must be set",
        "plan.json: s2 depends on s7, which is not an earlier step",
        "plan.json: s2 starts at 550 ms, before s1 ends at 600 ms",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_ms": "500"}, "plan.json: steps[0].start_ms must be a valid integer, got '500'"),
        ({"tool_id": True}, "steps[0].tool_id must be a valid integer, got True"),
        ({"id": "first"}, "steps[0].id must match pattern"),
    ],
)
def test_plan_file_when_a_type_is_wrong_names_the_place(tmp_path: Path, changes: Any, message: str) -> None:
    _, findings = read_plan(write(tmp_path, json.dumps(plan(step(1, 500) | changes))))
    assert message in findings[0].message


@pytest.mark.parametrize(("text", "message"), [("{", "must be JSON"), ("[]", "object"), ("NaN", "not a JSON value")])
def test_plan_file_when_it_is_no_object_says_so(tmp_path: Path, text: str, message: str) -> None:
    assert message in read_plan(write(tmp_path, text))[1][0].message
