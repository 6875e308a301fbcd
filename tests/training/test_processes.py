"""Two real processes that train together, speaking gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import yaml
from safetensors.torch import load_file

from tests import tiny
from tests.training import two_processes
from tomas_router.training.checkpoint import load_checkpoint
from tomas_router.training.processes import Processes

pytestmark = pytest.mark.m4
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by two processes that began with different random weights, and of a run of the command."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "tiny.yaml").write_text(
        yaml.safe_dump(tiny.run_config(steps=1, batch_size=4, precision="bf16").model_dump(mode="json"))
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    script = [str(ROOT / "tests/training/two_processes.py"), str(folder)]
    done = subprocess.run(
        [*launcher, "--main_process_port", "0", *script],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "said").write_text(done.stdout)
    return folder


def test_gradients_when_two_processes_have_them_are_averaged_and_missing_ones_count_as_zero(together: Path) -> None:
    for rank in range(2):
        averaged = load_file(together / f"gradients{rank}.safetensors")
        assert set(averaged) == {"both", "first"}  # nobody has one for "none": it stays untrained, not decayed
        assert torch.equal(averaged["both"], torch.full((2, 3), 2.0))
        assert torch.equal(averaged["first"], torch.full((2, 3), 3.0))


def test_two_processes_when_trained_end_with_equal_weights(together: Path) -> None:
    first, second = (load_file(together / f"weights{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_when_trained_equal_one_that_accumulates_the_same_batches(together: Path, tmp_path: Path) -> None:
    alone = two_processes.trained(tmp_path, Processes(), seed=0, gradient_accumulation=2)
    both = load_file(together / "weights0.safetensors")
    for name, parameter in alone.model.named_parameters():
        torch.testing.assert_close(parameter, both[name], rtol=1e-4, atol=1e-6, msg=name)
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (together / "run", tmp_path)]
    ours, theirs = ([json.loads(line) for line in lines] for lines in logs)
    assert [set(record) for record in ours] == [set(record) for record in theirs]  # the first process alone writes
    assert ours[-2]["tool"] == pytest.approx(theirs[-2]["tool"], rel=1e-3)


def test_command_when_two_processes_run_it_writes_one_model(together: Path) -> None:
    assert (together / "said").read_text().count("wrote ") == 1
    assert load_checkpoint(together / "command" / "final").config == tiny.model_config()


def test_two_processes_when_time_is_short_stop_after_the_same_step_by_the_first_ones_clock(together: Path) -> None:
    first, second = (json.loads((together / "in_time" / f"said{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["ended_by"] == "time"
    assert 0 < first["steps"] < 6
    assert 0 < first["share"] <= 1
