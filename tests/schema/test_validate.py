import json
import subprocess
import sys
from pathlib import Path

import pytest

from tomas_router import shipped
from tomas_router.schema.validate import validate_files

pytestmark = pytest.mark.m0
PROFILE_HEADER = "tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_validate_when_several_files_are_given_lists_findings_of_all(tmp_path: Path) -> None:
    findings = validate_files(
        registry=write(tmp_path / "tools.json", '[{"name": "a", "desc": "A"}]'),
        profiling=write(tmp_path / "p.csv", PROFILE_HEADER + "z,9,1,1,0,0,1\n"),
        timeline=write(tmp_path / "t.csv", "time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n0,4,x,0,0\n5,-1,1,0,0\n"),
        requests=write(tmp_path / "r.jsonl", '{"id": "1", "instruction": "do it", "candidates": ["q"]}\n'),
        plan=write(tmp_path / "plan.json", json.dumps({"status": "planned"})),
    )
    assert {(f.file, f.severity) for f in findings} == {
        ("p.csv", "error"), ("t.csv", "error"), ("t.csv", "warning"), ("r.jsonl", "error"), ("plan.json", "error"),
    }  # fmt: skip
    assert len([f for f in findings if f.file == "p.csv"]) == 2


def test_validate_when_one_tool_is_malformed_still_joins_the_other_files(tmp_path: Path) -> None:
    findings = validate_files(
        registry=write(tmp_path / "tools.json", '[{"name": "a", "desc": ""}, {"name": "b", "desc": "B"}]'),
        profiling=write(tmp_path / "p.csv", PROFILE_HEADER + "a,small,1,1,0,0,1000\nz,small,1,1,0,0,1000\n"),
    )
    assert [(f.file, f.field) for f in findings] == [("tools.json", "tools[0].desc"), ("p.csv", "tool")]


def test_validate_when_the_registry_is_unreadable_does_not_blame_every_profile_row(tmp_path: Path) -> None:
    profile = write(tmp_path / "p.csv", PROFILE_HEADER + "a,small,1,1,0,0,1000\n")
    assert [f.file for f in validate_files(registry=tmp_path / "none.json", profiling=profile)] == ["none.json"]


def test_validate_when_given_the_shipped_data_finds_nothing() -> None:
    assert validate_files(registry=shipped.registry_path(), profiling=shipped.profiling_path()) == []
    for path in sorted(shipped.timeline_path().parent.glob("*.csv")):
        assert validate_files(timeline=path) == []


def test_contracts_when_imported_load_neither_pandas_nor_numpy() -> None:
    code = (
        "import sys, tomas_router.schema.validate, tomas_router.schema.json_schema; "
        "print(sorted({'pandas', 'numpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
