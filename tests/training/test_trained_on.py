from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
from tomas_router.shipped import model_dir
from tomas_router.training.artifacts import trained_on_of
from tomas_router.training.checkpoint import write_trained_on

pytestmark = pytest.mark.m4


def test_trained_on_when_noted_holds_this_run_and_the_one_before(tmp_path: Path) -> None:
    write_trained_on(tmp_path, ["worlds", "own"], ("metatool", "own"))
    assert trained_on_of(tmp_path) == ("metatool", "own", "worlds")


def test_trained_on_when_the_start_is_unknown_stays_unknown(tmp_path: Path) -> None:
    write_trained_on(tmp_path, ["own"], None)
    assert trained_on_of(tmp_path) is None


def test_trained_on_when_the_model_is_packaged_is_in_its_manifest() -> None:
    names = trained_on_of(model_dir())
    assert names is not None
    assert "own" in names
    assert not any(name.startswith("taskbench") for name in names)  # its registries must stay unseen
