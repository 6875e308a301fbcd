"""What trains in each mode, what is remembered, and that a run that goes on is the run that never stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from export.onnx import export
from export.parity import check_parity
from tests import tiny
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.training.checkpoint import load_checkpoint, save_checkpoint
from tomas_router.training.loop import Trainer
from tomas_router.training.text_states import ToolTexts

pytestmark = pytest.mark.m4
MODES = ("heads", "upper", "lora", "full")


def trainer(run_dir: Path, seed: int = 0, **train: object) -> Trainer:
    config = tiny.run_config(**({"batch_size": 4, "steps": 2, "dropout": 0.1} | train))
    torch.manual_seed(seed)
    return Trainer(TOMASLLMModel.from_config(config.model), config, tiny.TOKENIZER, tiny.statistics(), run_dir)


@pytest.mark.parametrize("mode", MODES)
def test_resumed_run_when_compared_with_an_uninterrupted_one_has_the_same_weights(tmp_path: Path, mode: str) -> None:
    whole = trainer(tmp_path / "whole", mode=mode)
    whole.run()
    first = trainer(tmp_path / "cut", mode=mode)
    first.train_step()
    first.step = 1
    first.save_state()
    second = trainer(tmp_path / "cut", seed=5, mode=mode)
    assert second.resume()
    assert second.step == 1
    second.run()
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    ends = [json.loads((tmp_path / n / "log.jsonl").read_text().splitlines()[-1]) for n in ("whole", "cut")]
    assert [end["step"] for end in ends] == [2, 2]


@pytest.mark.parametrize(
    ("mode", "trained"),
    [
        ("heads", ()),
        ("upper", ("lm.model.layers", "lm.model.norm")),
        ("full", ("lm.model.layers", "lm.model.norm", "text.layers")),
    ],
)
def test_mode_when_training_changes_only_its_part_of_the_backbone(
    tmp_path: Path, mode: str, trained: tuple[str, ...]
) -> None:
    run = trainer(tmp_path, mode=mode)
    before = {n: p.clone() for n, p in run.model.named_parameters()}
    run.train_step()
    changed = {n for n, p in run.model.named_parameters() if not torch.equal(p, before[n])}
    inside = {n.removeprefix("backbone.") for n in changed if n.startswith("backbone.")}
    assert {next(part for part in trained if n.startswith(part)) for n in inside} == set(trained)
    assert any(n.startswith("classifier.") for n in changed)


def test_lora_when_fresh_changes_nothing_and_training_changes_its_matrices_alone(tmp_path: Path) -> None:
    plain, run = trainer(tmp_path / "plain", mode="heads"), trainer(tmp_path / "lora", mode="lora")
    ids, mask = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    plain.model.eval()
    run.model.eval()
    assert torch.equal(run.model.backbone.text_hidden(ids, mask), plain.model.backbone.text_hidden(ids, mask))
    before = {n: p.clone() for n, p in run.model.backbone.named_parameters()}
    run.train_step()
    changed = {n for n, p in run.model.backbone.named_parameters() if not torch.equal(p, before[n])}
    layers = 3 * 7  # every layer's attention and feed-forward products
    assert {n for n in changed if "lora_B" in n} == {n for n in before if "lora_B" in n}
    assert sum("lora_B" in n for n in changed) == layers
    assert all("lora_" in n for n in changed)
    run.model.eval()
    assert not torch.allclose(run.model.backbone.text_hidden(ids, mask), plain.model.backbone.text_hidden(ids, mask))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """A run with LoRA whose matrices matter, and its checkpoint."""
    folder = tmp_path_factory.mktemp("lora")
    run = trainer(folder, mode="lora", lora_rank=2, lora_alpha=3.0, learning_rate=0.05, warmup_steps=1)
    run.train_step()
    run.model.eval()
    save_checkpoint(folder / "final", run.model, run.statistics, tiny.TOKENIZER, [])
    return run, folder / "final"


def test_lora_checkpoint_when_loaded_is_the_merged_model(tuned: tuple[Trainer, Path]) -> None:
    run, directory = tuned
    merged = load_checkpoint(directory).model
    assert not any("lora" in name for name in merged.state_dict())
    layer = run.model.backbone.lm.model.layers[1].mlp.up_proj
    expected = layer.base_layer.weight + layer.get_delta_weight("default")
    torch.testing.assert_close(merged.backbone.lm.model.layers[1].mlp.up_proj.weight, expected)
    assert not torch.allclose(expected, layer.base_layer.weight, atol=1e-3)
    stored = load_file(directory / "model.safetensors")
    assert torch.equal(stored["backbone.lm.model.layers.1.mlp.up_proj.weight"], layer.base_layer.weight)


def test_lora_checkpoint_when_exported_decides_as_the_model_that_was_trained(
    tuned: tuple[Trainer, Path], tmp_path: Path
) -> None:
    run, directory = tuned
    checkpoint = load_checkpoint(directory)
    export(checkpoint, tmp_path / "model", "none")
    live = TorchEngine(replace(checkpoint, model=run.model))
    check_parity(live, OnnxEngine.load(tmp_path / "model"), "none")  # raises where they differ


def test_checkpoint_when_written_over_one_with_lora_keeps_nothing_of_it(tuned: tuple[Trainer, Path]) -> None:
    _, directory = tuned
    over = directory.parent / "over"
    over.mkdir()
    for name in ("lora.safetensors", "lora.json"):
        (over / name).write_bytes((directory / name).read_bytes())
    fresh = tiny.save_tiny_checkpoint(over).model
    torch.manual_seed(0)
    built = TOMASLLMModel.from_config(tiny.model_config())
    name = "backbone.lm.model.layers.1.mlp.up_proj.weight"
    assert torch.equal(fresh.state_dict()[name], built.state_dict()[name])


def test_tool_texts_when_the_backbone_is_frozen_pass_it_once(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="heads", dropout=0.0)
    run.model.eval()
    known, forgotten = run.ready(run.feed[0]), replace(run.ready(run.feed[0]))
    assert known.tools.pooled_NX is not None
    forgotten = replace(forgotten, tools=replace(forgotten.tools, pooled_NX=None))
    ours, theirs = run.encoded(known.tools), run.encoded(forgotten.tools)
    torch.testing.assert_close(ours.v_toolaware_ND, theirs.v_toolaware_ND, rtol=1e-3, atol=1e-4)
    calls: list[int] = []
    run.model.backbone.lm.model.register_forward_hook(lambda *_: calls.append(1))
    run.ready(run.feed[0])
    assert not calls
    assert run.tool_texts is not None
    assert len(run.tool_texts) == len({tuple(ids) for ids in known.tools.ids_NL.tolist()})


def test_tool_texts_when_there_is_no_room_are_computed_and_not_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="heads")
    texts = ToolTexts(run.model, max_texts=1)
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[True] * 3, [True, True, False]])
    torch.testing.assert_close(texts(ids, mask), run.model.pooled_tool_texts(ids, mask))
    torch.testing.assert_close(texts(ids, mask), run.model.pooled_tool_texts(ids, mask))
    assert len(texts) == 1


def test_tensorboard_when_a_run_ends_holds_the_numbers_of_the_log(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="heads", steps=1)
    run.run()
    record, ending = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert ending == {"step": 1, "ended_by": "steps", "steps": 1}
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == set(record) - {"step"}
    assert events.Scalars("tool")[0].step == 1
    assert events.Scalars("tool")[0].value == pytest.approx(record["tool"])
