from __future__ import annotations

import json

import pytest

from tomas_router import ToolPlan
from tomas_router.cli.main import main

pytestmark = pytest.mark.m5

REQUEST = "Transcribe the recording of the meeting and summarise the transcript."


def test_batch_when_rows_are_good_writes_one_plan_a_row_in_order(tmp_path, capsys):
    rows = [
        {"id": "a", "instruction": REQUEST},
        {"id": "b", "instruction": REQUEST, "candidates": ["extract_keywords"], "num_steps": 1},
        {"id": "c", "instruction": REQUEST, "num_steps": 2, "links": "order"},
    ]
    source, out = tmp_path / "requests.jsonl", tmp_path / "plans.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")

    assert main(["plan", "--batch", str(source), "--out", str(out)]) == 0

    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    plans = [ToolPlan.model_validate(row["plan"]) for row in written]
    assert [row["id"] for row in written] == ["a", "b", "c"]
    assert [set(row) for row in written] == [{"id", "plan"}] * 3
    assert [step.tool_name for step in plans[1].steps] == ["extract_keywords"]
    assert plans[2].steps[1].depends_on == ("s1",)
    captured = capsys.readouterr()
    assert not captured.out
    assert "3 plans" in captured.err


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"id": "x", "instruction": ', "JSON"),
        ('{"id": "x"}', "instruction"),
        ('{"id": "x", "instruction": "y", "num_step": 2}', "num_step"),
        ('{"id": "x", "instruction": "y", "links": "sideways"}', "links"),
        ('{"id": "good", "instruction": "y"}', "id"),
        ('{"instruction": "y"}', "id"),
        ('{"id": "x", "instruction": "y", "candidates": ["no_such_tool"]}', "no_such_tool"),
    ],
)
def test_batch_when_a_row_is_bad_names_file_and_line_and_runs_nothing(row, complaint, tmp_path, capsys):
    source, out = tmp_path / "requests.jsonl", tmp_path / "plans.jsonl"
    source.write_text('{"id": "good", "instruction": "x"}\n\n' + row + "\n", encoding="utf-8")
    assert main(["plan", "--batch", str(source), "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert "requests.jsonl:3: " in message
    assert complaint in message
    assert not out.exists()


def test_batch_when_several_rows_are_bad_lists_all(tmp_path, capsys):
    source = tmp_path / "requests.jsonl"
    source.write_text("[]\n{}\nnull\n", encoding="utf-8")
    assert main(["plan", "--batch", str(source), "--out", str(tmp_path / "plans.jsonl")]) == 2
    message = capsys.readouterr().err
    assert all(f"requests.jsonl:{line}: " in message for line in (1, 2, 3))


def test_batch_when_a_text_holds_a_line_separator_counts_lines_by_line_feeds(tmp_path, capsys):
    source, out = tmp_path / "requests.jsonl", tmp_path / "plans.jsonl"
    source.write_text('{"id": "a", "instruction": "x\u2028y"}\n{"instruction": "z"}\n', encoding="utf-8")
    assert main(["plan", "--batch", str(source), "--out", str(out)]) == 2
    assert "requests.jsonl:2: id " in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_batch_when_the_file_is_empty_is_bad_input(content, tmp_path, capsys):
    source = tmp_path / "requests.jsonl"
    source.write_text(content, encoding="utf-8")
    assert main(["plan", "--batch", str(source), "--out", str(tmp_path / "plans.jsonl")]) == 2
    assert "requests.jsonl" in capsys.readouterr().err
