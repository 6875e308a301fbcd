from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tomas_router.config import load_config
from tomas_router.errors import UntrainedModelError
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.checkpoint import load_checkpoint
from tomas_router.training.loop import Trainer, fit_statistics

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "tiny.py")
assert _spec is not None
assert _spec.loader is not None
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

pytestmark = pytest.mark.m4
CONFIGS = Path(__file__).parents[2] / "configs"


def trainer(run_dir: Path, **train: object) -> Trainer:
    config = tiny.run_config(**train)
    torch.manual_seed(0)
    return Trainer(TOMASLLMModel.from_config(config.model), config, tiny.TOKENIZER, fit_statistics(config), run_dir)


def test_training_when_it_runs_lowers_the_loss(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=40, learning_rate=3e-3, head_learning_rate=3e-3, warmup_steps=2, explanation_every=20)
    losses = [run.train_step() for _ in range(40) if not setattr(run, "step", _)]
    first = sum(step["tool"] for step in losses[:8]) / 8
    last = sum(step["tool"] for step in losses[-8:]) / 8
    assert last < first - 0.15
    assert {"tool", "gate", "size", "resource", "latency", "over_allocation", "explanation"} <= set().union(*losses)


def test_resumed_run_when_compared_with_an_uninterrupted_one_has_the_same_weights(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", steps=4)
    whole.run()
    first = trainer(tmp_path / "cut", steps=4, checkpoint_every=2)
    for first.step in range(2):
        first.train_step()
    first.step = 2
    first.save_state()
    second = trainer(tmp_path / "cut", steps=4)
    assert second.resume()
    assert second.step == 2
    second.run()
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert json.loads((tmp_path / "cut" / "log.jsonl").read_text().splitlines()[-1])["step"] == 4


def test_heads_mode_when_training_leaves_the_backbone_as_it_was(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="heads")
    before = {n: p.clone() for n, p in run.model.backbone.named_parameters()}
    run.train_step()
    for name, parameter in run.model.backbone.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("name", ["embedded", "simple-test", "default"])
def test_config_file_when_built_at_tiny_size_is_the_same_model_class(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml").model
    small = config.model_copy(
        update={"backbone": tiny.BACKBONE, "tool": config.tool.model_copy(update={"d_resource": 8})}
    )
    model = TOMASLLMModel.from_config(small)
    assert type(model) is TOMASLLMModel
    assert model.context.virtual_tokens == config.temporal.virtual_tokens
    assert model.backbone.config.model_type == "qwen2"


def test_config_file_when_a_field_is_unknown_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model:\n  name: x\n  colour: red\n")
    with pytest.raises(ValueError, match=r"c\.yaml[\s\S]*colour"):
        load_config(path)


def test_checkpoint_when_heads_are_missing_says_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(UntrainedModelError, match="tomas train"):
        load_checkpoint(tmp_path)
