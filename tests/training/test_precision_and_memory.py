"""Ways to compute the same step in less time or memory."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests import tiny
from tomas_router.config import RunConfig
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.loop import Trainer
from tomas_router.training.losses import total

pytestmark = pytest.mark.m4


def trainer(run_dir: Path, **train: object) -> Trainer:
    config = tiny.run_config(**({"batch_size": 4, "explanation_every": 1} | train))
    torch.manual_seed(0)
    return Trainer(TOMASLLMModel.from_config(config.model), config, tiny.TOKENIZER, tiny.statistics(), run_dir)


def gradients(run: Trainer) -> dict[str, torch.Tensor]:
    run.train_step()
    return {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("mode", ["heads", "full"])
def test_gradient_checkpointing_when_on_gives_the_same_gradients(tmp_path: Path, mode: str) -> None:
    plain = gradients(trainer(tmp_path / "plain", mode=mode, dropout=0.1))
    run = trainer(tmp_path / "less", mode=mode, dropout=0.1, gradient_checkpointing=True)
    run.ready(run.feed[0])  # what frozen layers say of its texts is known from here on
    calls: list[int] = []
    for layer in run.model.backbone.lm.model.layers:
        layer.input_layernorm.register_forward_pre_hook(lambda *_: calls.append(1))
    less = gradients(run)
    assert set(less) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(less[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    run.model.eval()
    trained = len(calls)
    run.losses(run.ready(run.feed[0]), explain=True)
    once = len(calls) - trained  # layers are computed again in training alone, where something below them trains
    assert once < trained <= 2 * once


def test_gradient_checkpointing_when_a_cache_is_wanted_returns_the_same_one(tmp_path: Path) -> None:
    run = trainer(tmp_path, gradient_checkpointing=True)
    tools = torch.randn(3, 32)
    recomputed = run.model.backbone.train().encode_alone(tools)
    plain = run.model.backbone.eval().encode_alone(tools)
    torch.testing.assert_close(recomputed.keys, plain.keys)
    torch.testing.assert_close(recomputed.values, plain.values)
    mask, positions = torch.ones(3, 3, dtype=torch.bool), torch.arange(1, 3).expand(3, 2)
    states = torch.randn(3, 2, 32)
    ours = run.model.backbone.train()(states, mask, positions, recomputed, want_cache=True)
    theirs = run.model.backbone.eval()(states, mask, positions, plain, want_cache=True)
    torch.testing.assert_close(ours[0], theirs[0])
    assert ours[1] is not None
    assert theirs[1] is not None
    torch.testing.assert_close(ours[1].keys, theirs[1].keys)


def test_accumulation_when_on_takes_the_mean_gradient_of_its_batches(tmp_path: Path) -> None:
    unclipped = {"max_grad_norm": 1e9}
    both = gradients(trainer(tmp_path / "both", gradient_accumulation=2, **unclipped))
    run = trainer(tmp_path / "one", **unclipped)
    run.model.train()
    for number in range(2):
        torch.manual_seed(run.train_config.seed * 1_000_003 + number)
        losses = run.losses(run.ready(run.feed[number]), explain=True)
        total(losses, run.train_config.loss_weights).backward()
    for name, parameter in run.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(both[name], parameter.grad / 2, rtol=1e-4, atol=1e-6, msg=name)


def test_bf16_when_training_keeps_weights_in_float32_and_lowers_the_loss(tmp_path: Path) -> None:
    run = trainer(tmp_path, precision="bf16", steps=12, learning_rate=3e-3, head_learning_rate=3e-3, warmup_steps=1)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert run.model.backbone.text_states(torch.tensor([[5, 6]]), mask).dtype is torch.float32
    drawn = [run.feed[0]]
    losses = []
    for run.step in range(12):
        losses.append(float(run.train_step(drawn)["tool"]))
    assert losses[-1] < losses[0] - 0.3
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}
    product = run.model.backbone.lm.model.layers[0].mlp.gate_proj
    seen: list[torch.dtype] = []
    product.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    run.train_step(drawn)
    assert set(seen) == {torch.bfloat16}


def test_precision_when_bf16_layers_would_train_without_it_says_so() -> None:
    config = tiny.run_config(mode="full").model_dump()
    config["model"]["backbone"]["dtype"] = "bfloat16"
    with pytest.raises(ValueError, match=r"train\.precision must be 'bf16' .* got 'tf32'"):
        RunConfig.model_validate(config)
