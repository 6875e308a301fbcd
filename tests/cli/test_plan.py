"""``tomas plan`` with the packaged model and the shipped data."""

from __future__ import annotations

import json

import pytest

from tomas_router import ToolPlan
from tomas_router.cli.main import main

pytestmark = pytest.mark.m5

REQUEST = "Transcribe the recording of the meeting and summarise the transcript."
TIMELINE = "time_ms,cpu_cores,cpu_mem_gb,gpu_sm,gpu_mem_gb\n"


def planned(capsys, *arguments: str) -> ToolPlan:
    assert main(["plan", *arguments, "--json"]) == 0
    return ToolPlan.model_validate_json(capsys.readouterr().out)


@pytest.fixture
def tiny_machine(tmp_path):
    path = tmp_path / "tiny.csv"
    path.write_text(TIMELINE + "0,0.1,0.1,0,0\n", encoding="utf-8")
    return path


def test_plan_when_json_is_asked_for_prints_the_plan_and_nothing_else(capsys):
    plan = planned(capsys, REQUEST)
    assert plan.status == "planned"
    assert all(step.resource_config is not None for step in plan.steps)


def test_plan_when_shown_to_people_is_a_table(capsys):
    assert main(["plan", REQUEST]) == 0
    text = capsys.readouterr().out
    assert "planned" in text
    assert "s1" in text


def test_plan_when_nothing_fits_is_infeasible_and_still_lists_the_tools(tiny_machine, capsys):
    code = main(["plan", REQUEST, "--timeline", str(tiny_machine), "--json"])
    plan = ToolPlan.model_validate_json(capsys.readouterr().out)
    assert code == 3
    assert plan.status == "infeasible"
    assert plan.steps
    assert plan.missing
    assert plan.reason


def test_plan_when_the_horizon_is_short_is_infeasible_if_strict_and_flagged_if_held(tmp_path, capsys):
    path = tmp_path / "short.csv"
    path.write_text(TIMELINE + "0,16,64,100,24\n", encoding="utf-8")
    arguments = [REQUEST, "--timeline", str(path), "--horizon-ms", "600", "--json"]
    assert main(["plan", *arguments, "--tail", "strict"]) == 3
    capsys.readouterr()
    assert main(["plan", *arguments, "--tail", "hold"]) == 0
    assert ToolPlan.model_validate_json(capsys.readouterr().out).beyond_horizon


def test_plan_when_candidates_are_given_chooses_among_them(capsys):
    plan = planned(capsys, REQUEST, "--candidates", "translate_text_cpu,extract_keywords", "--num-steps", "2")
    assert len(plan.steps) == 2
    assert {step.tool_name for step in plan.steps} <= {"translate_text_cpu", "extract_keywords"}


def test_plan_when_a_candidate_is_unknown_is_bad_input(capsys):
    assert main(["plan", REQUEST, "--candidates", "no_such_tool"]) == 2
    captured = capsys.readouterr()
    assert "no_such_tool" in captured.err
    assert not captured.out


def test_plan_when_links_mean_order_chains_the_steps(capsys):
    plan = planned(capsys, REQUEST, "--links", "order", "--num-steps", "3")
    assert [step.depends_on for step in plan.steps] == [(), ("s1",), ("s2",)]


def test_plan_when_the_size_is_given_uses_it(capsys):
    plan = planned(capsys, REQUEST, "--input-size", "large")
    assert {step.input_size for step in plan.steps} == {"large"}


def test_plan_when_the_registry_has_no_profile_predicts_and_says_so(tmp_path, capsys):
    registry = tmp_path / "tools.json"
    tools = [
        {"name": "speech_to_text", "desc": "Transcribe an audio recording to text."},
        {"name": "shorten", "desc": "Summarise a long text."},
        {"name": "weather", "desc": "Report the weather of a place."},
    ]
    registry.write_text(json.dumps(tools), encoding="utf-8")
    plan = planned(capsys, REQUEST, "--registry", str(registry), "--num-steps", "1")
    assert [step.source for step in plan.steps] == ["predicted"]


def test_plan_when_an_explanation_is_wanted_has_one(capsys):
    assert planned(capsys, REQUEST, "--explain").explanation.strip()


@pytest.mark.parametrize(
    ("option", "content", "complaint"),
    [
        ("--registry", "[]", "at least one tool"),
        ("--profiling", "tool,latency\n", "column"),
        ("--timeline", TIMELINE + "0,four,1,0,0\n", "cpu_cores"),
    ],
)
def test_plan_when_a_file_is_wrong_names_it_and_prints_no_plan(option, content, complaint, tmp_path, capsys):
    path = tmp_path / "broken.file"
    path.write_text(content, encoding="utf-8")
    assert main(["plan", REQUEST, option, str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert "broken.file" in captured.err
    assert complaint in captured.err
    assert not captured.out


@pytest.mark.parametrize("arguments", [["   "], [REQUEST, "--num-steps", "0"], [REQUEST, "--deadline-ms", "-5"]])
def test_plan_when_the_request_is_wrong_is_bad_input(arguments, capsys):
    assert main(["plan", *arguments]) == 2
    assert "request: " in capsys.readouterr().err


def test_plan_when_the_model_directory_is_missing_is_bad_input(tmp_path, capsys):
    assert main(["plan", REQUEST, "--model", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_plan_when_a_proof_is_asked_for_says_how_good_the_placement_is(capsys):
    plan = planned(capsys, REQUEST, "--exact-ms", "20000")
    assert plan.optimality is not None
    assert (plan.optimality.status, plan.optimality.bound_ms) == ("optimal", plan.makespan_ms)
