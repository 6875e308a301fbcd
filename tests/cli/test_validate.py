from __future__ import annotations

import json

import pytest

from tomas_router.cli.main import main

pytestmark = pytest.mark.m0

HEADER = "tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms\n"


def test_validate_when_nothing_is_named_checks_the_shipped_data(capsys):
    assert main(["validate"]) == 0
    text = capsys.readouterr().out
    assert "tools.json" in text
    assert "0 errors" in text


def test_validate_when_a_profile_has_several_faults_lists_all_with_their_lines(tmp_path, capsys):
    registry = tmp_path / "tools.json"
    registry.write_text('[{"name": "a", "desc": "does a"}]', encoding="utf-8")
    profile = tmp_path / "profiling.csv"
    profile.write_text(HEADER + "a,small,1,1,0,0,-3.2\nb,small,1,1,0,0,5\na,huge,1,1,0,0,5\n", encoding="utf-8")

    code = main(["validate", "--registry", str(registry), "--profiling", str(profile), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 2
    assert [(f["file"], f["line"], f["field"]) for f in found] == [
        ("profiling.csv", 2, "latency_ms"),
        ("profiling.csv", 3, "tool"),
        ("profiling.csv", 4, "input_size"),
    ]
    assert "-3.2" in found[0]["value"]


def test_validate_when_two_timelines_are_named_checks_both(tmp_path, capsys):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("time_ms,cpu_cores\n0,1\n", encoding="utf-8")
    code = main(["validate", "--timeline", str(tmp_path / "one.csv"), "--timeline", str(tmp_path / "two.csv")])
    text = capsys.readouterr().out
    assert code == 2
    assert "one.csv" in text
    assert "two.csv" in text


def test_validate_when_requests_name_an_unknown_tool_finds_it(tmp_path, capsys):
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"id": "r1", "instruction": "x", "candidates": ["no_such_tool"]}\n', encoding="utf-8")
    assert main(["validate", "--requests", str(requests)]) == 2
    assert "no_such_tool" in capsys.readouterr().out


def test_validate_when_a_file_is_missing_names_it(tmp_path, capsys):
    assert main(["validate", "--plan", str(tmp_path / "nowhere.json")]) == 2
    assert "nowhere.json" in capsys.readouterr().out
