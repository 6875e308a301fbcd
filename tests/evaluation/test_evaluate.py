from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import tiny
from tomas_router.evaluation.evaluate import main

pytestmark = pytest.mark.m4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("checkpoint")
    tiny.save_tiny_checkpoint(directory)
    return directory


def test_main_when_given_a_checkpoint_scores_our_own_rows(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["--engine", "torch", "--model", str(checkpoint), "--limit", "3", "--no-baselines", "--out", str(tmp_path)]
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "own_val: 3 rows" in printed
    assert "plans that over-commit" in printed
    source = json.loads((tmp_path / "report.json").read_text())["sources"][0]
    assert source["counts"]["over_commits"] == 0
    assert source["methods"]["ours"]["parse"]["value"] == 1.0
    assert list(source["methods"]) == ["ours"]
    assert "tomas eval --engine torch" in (tmp_path / "report.md").read_text()
    assert "tomas eval --engine torch" in (tmp_path / "report.html").read_text()
    lines = (tmp_path / "report.json").read_text().splitlines()
    assert sum('"instruction"' in line for line in lines) == 3  # a row is a line

    saved = str(tmp_path / "report.json")
    assert main(["--report", saved, "--compare", saved, "--out", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "comparison.html").read_text()
    assert "no clear change" in again
    assert "3 paired" in again


def test_main_when_a_saved_report_is_given_without_another_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--report", "report.json"])
    assert "--report needs --compare OTHER/report.json" in capsys.readouterr().err


def test_main_when_torch_is_asked_for_without_a_checkpoint_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--engine", "torch"])
    assert "--engine torch needs --model CHECKPOINT" in capsys.readouterr().err
