from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from export.seal import read_calibration
from tomas_router.evaluation.calibrate import last_rows, main
from tomas_router.planner.engine import Calibration
from tomas_router.shipped import instructions_path

pytestmark = pytest.mark.m4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    directory = tmp_path_factory.mktemp("checkpoint")
    tiny.save_tiny_checkpoint(directory)
    return directory


def test_main_when_a_checkpoint_is_given_writes_what_seal_reads(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statistics = json.loads((checkpoint / "statistics.json").read_text())
    statistics["calibration"]["novelty_bonus"] = 0.75
    (checkpoint / "statistics.json").write_text(json.dumps(statistics))
    out = tmp_path / "calibration.json"
    assert main(["--engine", "torch", "--model", str(checkpoint), "--rows", "4", "--out", str(out)]) == 0
    assert set(json.loads(out.read_text())) == set(asdict(Calibration()))
    assert read_calibration(out).temperature >= 0.5
    fitted = read_calibration(out)  # what orders tools stays the model's own
    assert fitted.ranking() == replace(Calibration(), novelty_bonus=0.75).ranking()
    said = capsys.readouterr()
    assert "own_val: 4 rows" in said.err
    assert "before" in said.out


def test_rows_when_a_file_has_more_are_its_last_validation_rows() -> None:
    every = last_rows(instructions_path("val"), 10_000).rows
    assert last_rows(instructions_path("val"), 5).rows == every[-5:]
    assert {row.split for row in every} == {"val"}
