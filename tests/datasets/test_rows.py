from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tomas_router.datasets.rows import load_rows
from tomas_router.errors import DataValidationError


def rows_file(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def row(*steps: tuple[str, list[int]], instruction: str = "do it") -> dict[str, Any]:
    return {"instruction": instruction, "steps": [{"tool": tool, "depends_on": on} for tool, on in steps]}


def test_rows_when_steps_name_later_ones_are_put_in_call_order(tmp_path: Path) -> None:
    read = load_rows(rows_file(tmp_path, row(("speak", [2]), ("draw", []), ("summarise", [1]))))[0]
    assert [(s.tool, s.depends_on) for s in read.steps] == [("draw", ()), ("summarise", (0,)), ("speak", (1,))]


def test_rows_when_steps_are_in_order_already_stay(tmp_path: Path) -> None:
    read = load_rows(rows_file(tmp_path, row(("a", []), ("b", []), ("c", [1, 0]))))[0]
    assert [(s.tool, s.depends_on) for s in read.steps] == [("a", ()), ("b", ()), ("c", (0, 1))]


def test_rows_when_text_holds_a_line_separator_stay_whole(tmp_path: Path) -> None:
    assert load_rows(rows_file(tmp_path, row(("a", []), instruction="one\u2028two")))[0].instruction == "one\u2028two"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("a", [1]), ("b", [0])], "circle"),
        ([("a", [0])], "must name other steps"),
        ([("a", []), ("b", [5])], "must name other steps"),
    ],
)
def test_rows_when_dependencies_cannot_hold_are_refused(
    tmp_path: Path, steps: list[tuple[str, list[int]]], message: str
) -> None:
    with pytest.raises(DataValidationError, match=message) as caught:
        load_rows(rows_file(tmp_path, row(("fine", [])), row(*steps)))
    assert ":2" in str(caught.value)


def test_rows_when_the_file_is_missing_or_no_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataValidationError, match="cannot be read"):
        load_rows(tmp_path / "none.jsonl")
    path = tmp_path / "binary.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataValidationError, match="UTF-8"):
        load_rows(path)
