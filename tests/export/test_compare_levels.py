"""Levels of quantisation side by side, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from export import compare_levels
from export.compare_levels import _agreement, main
from export.parity import ParityError
from tests import tiny
from tomas_router.evaluation.sources import load_source
from tomas_router.shipped import instructions_path

pytestmark = pytest.mark.m4


def test_comparison_when_run_reports_every_level_and_takes_exports_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.save_tiny_checkpoint(tmp_path / "checkpoint")
    arguments = ["--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "out"), "--limit", "6"]
    assert main([*arguments, "--levels", "int8"]) == 0
    levels = json.loads((tmp_path / "out" / "levels.json").read_text())
    assert [level["quantisation"] for level in levels] == ["none", "int8"]
    full, small = levels
    assert full["bytes_of_weights"] > 2 * small["bytes_of_weights"] > 0
    assert full["largest_error"] < 1e-3 < small["largest_error"]
    assert full["sources"]["own_val"]["equal_plans"]["value"] == 1.0
    assert small["sources"]["own_val"]["equal_plans"]["rows"] == 6
    assert "| int8 | " in capsys.readouterr().out

    def refuse(*_: Any) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(compare_levels, "export", refuse)
    assert main([*arguments, "--levels", "int8"]) == 0

    def fail(*_: Any) -> None:
        raise ParityError("too far away")

    monkeypatch.setattr(compare_levels, "export", fail)
    assert main([*arguments, "--levels", "int4"]) == 0
    assert "| int4 | failed parity: too far away |" in (tmp_path / "out" / "levels.md").read_text()


def test_agreement_when_decisions_differ_counts_plans_tools_and_twins() -> None:
    source = load_source(instructions_path("val"), limit=200)
    rows = [row for row in source.rows if len(row.steps) == 1 and row.steps[0].group][:3]
    source = replace(source, rows=tuple(rows))
    right = [(True, ((row.steps[0].tool, 1, ()),)) for row in rows]
    twins = [
        next(t.name for t in source.registry if t.group == row.steps[0].group and t.name != row.steps[0].tool)
        for row in rows
    ]
    other_size = (True, ((rows[0].steps[0].tool, 2, ()),))
    twin = (True, ((twins[1], 1, ()),))
    nothing = (False, ())
    found = _agreement(source, [other_size, twin, nothing], right)
    assert found.equal_plans.value == 0.0
    assert found.equal_tools.value == pytest.approx(1 / 3)
    assert found.right_tools is not None
    assert found.right_tools.value == pytest.approx(2 / 3)


def test_comparison_when_there_is_no_checkpoint_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "holds no trained heads" in capsys.readouterr().err
