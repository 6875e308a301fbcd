from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests import tiny
from tomas_router.config import load_config
from tomas_router.datasets.rows import Row, Step
from tomas_router.datasets.worlds import VAL_WORLDS
from tomas_router.errors import UntrainedModelError
from tomas_router.features.known_tools import KnownTools
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.planner.engine import Calibration
from tomas_router.schema.registry import ToolRegistry, ToolSpec
from tomas_router.training import __main__ as command
from tomas_router.training import request_words
from tomas_router.training.average import WeightAverage
from tomas_router.training.batches import NO_AUGMENTATION, Augmentation, BatchSampler
from tomas_router.training.checkpoint import load_checkpoint
from tomas_router.training.loop import Trainer
from tomas_router.training.sources import FAMILIAR_ROWS, Source, load_own, load_world_source, validation_paths
from tomas_router.training.text_states import TextStates

pytestmark = pytest.mark.m4
CONFIGS = Path(__file__).parents[2] / "configs"


def trainer(run_dir: Path, **train: object) -> Trainer:
    config = tiny.run_config(**train)
    torch.manual_seed(0)
    return Trainer(TOMASLLMModel.from_config(config.model), config, tiny.TOKENIZER, tiny.statistics(), run_dir)


def test_training_when_it_runs_lowers_the_loss(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=40, learning_rate=3e-3, head_learning_rate=3e-3, warmup_steps=2, explanation_every=20)
    losses = [run.train_step() for _ in range(40) if not setattr(run, "step", _)]
    first = sum(float(step["tool"]) for step in losses[:8]) / 8
    last = sum(float(step["tool"]) for step in losses[-8:]) / 8
    assert last < first - 0.15
    assert {"tool", "gate", "size", "resource", "latency", "over_allocation", "explanation"} <= set().union(*losses)


def test_text_states_when_cached_are_what_the_text_layers_compute(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper")
    states = TextStates(run.model.backbone, max_tokens=6)
    ids, mask = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]]), torch.tensor([[True] * 4, [True, True, False, False]])
    expected = run.model.backbone.text_states(ids, mask).detach()
    for _ in range(2):  # computed, then remembered
        torch.testing.assert_close(states(ids, mask)[mask], expected[mask], rtol=2e-3, atol=1e-3)
    assert len(states) == 2
    states(ids + 1, mask)
    assert len(states) == 2  # no room left: computed, not kept


def test_prefix_when_the_model_is_asked_holds_the_most_similar_candidates(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper", pool_size=100)
    run.model.eval()
    left_out = 0
    for step in range(6):
        ready = run.ready(run.feed[step])
        tools, drawn = run.encoded(ready.tools), ready.forcing
        prefix_BN = run.model.shortlisted(tools, drawn).prefix_mask_BN
        similar_BN = run.model.retrieval_logits(tools, drawn, run.model.task_states(drawn))
        assert torch.equal(prefix_BN.sum(1), drawn.prefix_mask_BN.sum(1))
        assert not (prefix_BN & ~drawn.candidate_mask_BN).any()
        for similar, inside, allowed in zip(similar_BN, prefix_BN, drawn.candidate_mask_BN, strict=True):
            if (allowed & ~inside).any():
                left_out += 1
                assert similar[inside].min() >= similar[allowed & ~inside].max()
    assert left_out


def test_training_batches_when_drawn_offer_no_tool_that_no_row_uses(tmp_path: Path) -> None:
    source = load_own("train")
    never = set(source.registry.names) - set(source.answers)
    assert "colorize_photo" in never
    assert {step.tool for row in source.rows for step in row.steps} <= set(source.answers)
    talk = replace(source, rows=tuple(row for row in source.rows if not row.steps))
    assert talk.answers == talk.registry.names  # nothing is wrong where nothing is right
    run = trainer(tmp_path)
    assert not never & {name for step in range(8) for name in run.feed[step].batch.pool}


def test_dropout_when_asked_for_changes_training_passes_of_trained_layers_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper", dropout=0.5)
    ids, mask = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    backbone = run.model.backbone.train()
    torch.testing.assert_close(backbone.text_states(ids, mask), backbone.text_states(ids, mask))
    assert not torch.allclose(backbone.text_hidden(ids, mask), backbone.text_hidden(ids, mask))
    backbone.eval()
    torch.testing.assert_close(backbone.text_hidden(ids, mask), backbone.text_hidden(ids, mask))


def test_average_when_weights_move_follows_and_swaps_without_loss() -> None:
    layer = torch.nn.Linear(2, 2)
    average = WeightAverage(layer, decay=0.9)
    start = layer.weight.detach().clone()
    for _ in range(200):
        average.update(layer)
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(layer)
    torch.testing.assert_close(average.values["weight"], start + 0.1)
    with average.applied(layer):
        torch.testing.assert_close(layer.weight.detach(), start + 0.1)
    torch.testing.assert_close(layer.weight.detach(), start + 1.0)


def test_run_when_finished_holds_the_averaged_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=3)
    run.run()
    parameter = run.model.gate.score.weight
    assert torch.equal(parameter, run.average.values["gate.score.weight"])
    last = load_checkpoint(tmp_path / "checkpoint").model.gate.score.weight
    assert not torch.equal(parameter, last)  # the checkpoint keeps what training goes on with


def test_heads_when_initialised_read_states_without_common_component(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper")
    run.initialise_heads()
    norm = run.model.state_norm
    sample = torch.randn(500, norm.mean_D.shape[0]) * norm.std_D + norm.mean_D
    assert float(norm(sample).mean().abs()) < 0.05
    assert float(norm(sample).std()) == pytest.approx(1.0, abs=0.05)
    assert not torch.equal(norm.mean_D, torch.zeros_like(norm.mean_D))


def test_retrieval_warm_up_when_run_teaches_retrieval_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper", retrieval_steps=25)
    others = {n: p.clone() for n, p in run.model.named_parameters() if not n.startswith("retrieval.")}
    run.warm_up_retrieval()
    record = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert record["retrieval_last"] < record["retrieval_first"] - 0.1
    for name, parameter in run.model.named_parameters():
        assert name.startswith("retrieval.") or torch.equal(parameter, others[name]), name


@pytest.mark.parametrize("workers", [0, 2])
def test_feed_when_workers_prepare_it_gives_the_same_batches_in_order(tmp_path: Path, workers: int) -> None:
    run = trainer(tmp_path)
    fed = [prepared.batch.examples[0].instruction for prepared in run.feed.batches(range(3, 8), workers)]
    assert fed == [run.feed[step].batch.examples[0].instruction for step in range(3, 8)]
    assert len(set(fed)) > 1


def test_initialise_heads_when_run_gives_virtual_tokens_the_size_of_text_states(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="upper")
    run.initialise_heads()
    gain = run.model.tool_token_norm.gain
    mask = torch.ones(1, 6, dtype=torch.bool)
    states = run.model.backbone.text_states(torch.tensor([[50, 60, 70, 80, 90, 99]]), mask)
    assert gain.mean().item() == pytest.approx(states.pow(2).mean(-1).sqrt().median().item(), rel=0.5)


def test_generated_rows_when_asked_for_add_new_requests_in_training_wording() -> None:
    shipped, more = load_own("train"), load_own("train", 30)
    assert len(more.rows) == len(shipped.rows) + 30
    assert more.rows[: len(shipped.rows)] == shipped.rows
    assert load_own("val", 30).rows == load_own("val").rows


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


def test_final_checkpoint_when_written_is_calibrated_on_validation_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CALIBRATION_ROWS", 2)
    monkeypatch.setattr(request_words, "STEPS", 3)
    run = trainer(tmp_path, mixture={"own": 0.5, "worlds": 0.5})
    command.write_final(run, Namespace(out=tmp_path, init=None, no_calibration=True))
    known = KnownTools.read(tmp_path / "final")
    assert known is not None
    assert len(run.sampler.familiar_tools()) > 1000
    assert known.know(run.sampler.familiar_tools()).all()
    assert known.words is not None
    assert len(known.words) == 0  # composed requests alone
    assert not known.know([ToolSpec(name="new", desc="Came after training.")]).any()
    assert load_checkpoint(tmp_path / "final").statistics == run.statistics
    command.write_final(run, Namespace(out=tmp_path, init=None, no_calibration=False))
    found = load_checkpoint(tmp_path / "final").statistics
    assert found.calibration != Calibration()
    assert found.rows == run.statistics.rows
    assert str(found.calibration) in capsys.readouterr().out


def test_validation_paths_when_a_source_has_none_leave_it_out(tmp_path: Path) -> None:
    for name, split in (("public", "val"), ("training_only", "train")):
        row = {"id": "a", "instruction": "Do it.", "steps": [], "split": split}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    names = ["own", "worlds", "public", "training_only", "nowhere"]
    found = validation_paths(names, (str(tmp_path / "empty"), str(tmp_path)))
    assert [path.name for path in found] == ["val.jsonl", "worlds_val.jsonl", "public.jsonl"]


def test_checkpoint_when_heads_are_missing_says_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(UntrainedModelError, match="tomas train"):
        load_checkpoint(tmp_path)


def test_description_when_replaced_is_a_request_for_that_tool_of_no_row_in_the_batch() -> None:
    source = load_own("train")
    always = replace(NO_AUGMENTATION, describe_by_request=1.0)
    sampler = BatchSampler({source.name: source}, {source.name: 1.0}, 16, 60, 8, 5, augmentation=always)
    batch = sampler.draw(0)
    asked = {example.instruction for example in batch.examples}
    replaced = [
        (n, desc) for n, (_, desc) in zip(batch.pool, batch.texts, strict=True) if desc != source.registry[n].desc
    ]
    assert len(replaced) > 20
    assert all(desc in source.requests_of[name] and desc not in asked for name, desc in replaced)


def test_requests_with_candidates_when_composed_offer_the_tools_of_both() -> None:
    own = replace(load_own("train"), profiling=None)  # with profiles the curve may ask for a twin instead
    singles = [row for row in own.rows if len(row.steps) == 1][:64]
    used = [row.steps[0].tool for row in singles]
    listed = [
        replace(row, candidates=(used[i], used[i - 1], used[i - 2])) if i % 4 else row for i, row in enumerate(singles)
    ]
    composing = replace(NO_AUGMENTATION, compose_singles=1.0)
    sampler = BatchSampler({own.name: own}, {own.name: 1.0}, 64, 60, 8, 5, augmentation=composing)
    batch = sampler.batch(own, sampler._compose_some(listed, own))
    assert sum(len(plan) == 2 for plan in batch.plans) > 20
    assert sum(example.candidates is None for example in batch.examples) > 5  # one of both had the whole registry
    for plan, offered in zip(batch.plans, batch.candidate_mask_BN, strict=True):
        assert offered[list(plan)].all()


def test_batch_of_worlds_when_drawn_stays_within_a_few() -> None:
    source = load_world_source("val")
    assert {source.rows[i].domain for part in source.neighbourhoods for i in part} == set(VAL_WORLDS)
    assert all(len({source.rows[i].domain for i in part}) == 1 for part in source.neighbourhoods)
    sampler = BatchSampler({source.name: source}, {source.name: 1.0}, 16, 60, 8, 5)
    assert 0 < len(sampler.draw(0).examples) <= 16


def test_optimizer_when_text_layers_have_their_own_rate_uses_it_for_them_alone(tmp_path: Path) -> None:
    run = trainer(tmp_path, mode="full", learning_rate=3e-4, text_learning_rate=1e-4)
    rates = {id(p): group["peak_lr"] for group in run.optimizer.param_groups for p in group["params"]}
    for name, parameter in run.model.backbone.named_parameters():
        if id(parameter) in rates:
            assert rates[id(parameter)] == (1e-4 if name.startswith("text.") else 3e-4), name
    assert 1e-4 in rates.values()


def test_augmentation_when_shares_are_given_replaces_those_alone() -> None:
    changed = Augmentation().changed({"drop_name": 0.3, "compose": 0.0})
    assert changed == replace(Augmentation(), drop_name=0.3, compose=0.0)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"drop_names": 0.3}, "train.augmentation knows compose, .*got 'drop_names'"),
        ({"whole_registry": 1.0}, "got 'whole_registry'"),
        ({"drop_name": 1.5}, r"train.augmentation.drop_name must lie in 0..1, got 1.5"),
    ],
)
def test_augmentation_when_a_share_is_wrong_names_it(shares: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Augmentation().changed(shares)


def test_familiar_tools_are_those_that_enough_rows_use_twins_together() -> None:
    registry = ToolRegistry(
        [
            ToolSpec(name="often", desc="Used often."),
            ToolSpec(name="seldom", desc="Used seldom."),
            ToolSpec(name="on_gpu", desc="One of twins.", tags=("group:job",)),
            ToolSpec(name="on_cpu", desc="The other one.", tags=("group:job",)),
        ]
    )
    used = ["often"] * FAMILIAR_ROWS + ["seldom"] * (FAMILIAR_ROWS - 1) + ["on_gpu"] * (FAMILIAR_ROWS - 1) + ["on_cpu"]
    rows = tuple(Row(f"r{i}", "Do it.", (Step(tool), Step(tool))) for i, tool in enumerate(used))
    found = Source("mine", registry, None, rows).familiar
    assert [tool.name for tool in found] == ["often", "on_gpu", "on_cpu"]
