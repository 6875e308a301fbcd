import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tomas_router.errors import DataValidationError
from tomas_router.schema.json_schema import CONTRACTS, json_schema
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.request import load_requests, parse_request
from tomas_router.schema.validate import validate_files

pytestmark = pytest.mark.m0
CONFIG = {"cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}


def step(number: int, start_ms: int, depends_on: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
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


def test_request_when_fields_are_wrong_names_each() -> None:
    with pytest.raises(DataValidationError) as caught:
        parse_request({"instruction": " ", "num_steps": 0, "colour": 1})
    assert {f.field for f in caught.value.findings} == {"instruction", "num_steps", "colour"}


def test_requests_file_when_rows_are_wrong_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"id":"1","instruction":"x"}\nnot json\n\n{"id":"1","instruction":"y"}\n{"text":"z"}\n')
    with pytest.raises(DataValidationError) as caught:
        load_requests(path)
    assert [f.line for f in caught.value.findings] == [2, 4, 5, 5]
    assert "requests.jsonl:4: id repeats the id of line 1, got '1'" in str(caught.value)


def test_plan_when_written_as_json_and_read_is_the_same() -> None:
    one = ToolPlan.model_validate(plan(step(1, 500), step(2, 600, ("s1",))))
    again = ToolPlan.model_validate_json(one.model_dump_json())
    assert again == one
    assert json.loads(json.dumps(one.model_dump(mode="json"))) == one.model_dump(mode="json")
    assert one.makespan_ms == 700


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (plan(), "at least one step"),
        (plan(step(1, 500), status="no_tool", reason="not_needed"), "has no steps"),
        (plan(step(1, 500), status="infeasible"), "says its reason"),
        (plan(step(1, 500, ("s2",))), "not an earlier step"),
        (plan(step(1, 500), step(1, 700)), "unique"),
        (plan(step(1, 500), step(2, 550, ("s1",))), "before s1 ends"),
        (plan(step(1, 500, source=None)), "source must be set"),
        (plan(step(1, 500, confidence=float("nan"))), "finite number"),
        (plan(step(1, 500), schema_version="0.9"), "1.0"),
    ],
)
def test_plan_when_inconsistent_is_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ToolPlan.model_validate(data)


@pytest.mark.parametrize("name", CONTRACTS)
def test_json_schema_when_asked_describes_the_contract(name: str) -> None:
    schema = json_schema(name)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "properties" in schema or "items" in schema


def test_validate_when_several_files_are_given_lists_findings_of_all(tmp_path: Path) -> None:
    (tmp_path / "tools.json").write_text('[{"name": "a", "desc": "A"}]')
    (tmp_path / "p.csv").write_text("tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms\nz,9,1,1,0,0,1\n")
    (tmp_path / "t.csv").write_text("time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n0,4,x,0,0\n5,-1,1,0,0\n")
    (tmp_path / "r.jsonl").write_text('{"instruction": "do it", "candidates": ["q"]}\n')
    (tmp_path / "plan.json").write_text(json.dumps(plan()))
    findings = validate_files(
        registry=tmp_path / "tools.json", profiling=tmp_path / "p.csv", timeline=tmp_path / "t.csv",
        requests=tmp_path / "r.jsonl", plan=tmp_path / "plan.json",
    )  # fmt: skip
    assert {(f.file, f.severity) for f in findings} == {
        ("p.csv", "error"), ("t.csv", "error"), ("t.csv", "warning"), ("r.jsonl", "error"), ("plan.json", "error"),
    }  # fmt: skip
