"""The production layout on a tiny Qwen2: the plain engine's plans, batches, buckets, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.onnx import export
from export.optimum_export import export_optimum
from tests import tiny
from tomas_router import Planner, SystemTimeline, shipped
from tomas_router.config import BackboneConfig
from tomas_router.datasets.rows import load_rows
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.optimum_engine import OptimumEngine, joined
from tomas_router.engines.ort_backbone import new_token_bucket
from tomas_router.errors import ArtifactMismatchError, MissingExtraError, UntrainedModelError
from tomas_router.planner.engine import CurveWindow, OpenRequest, ToolEncodings
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.schema.manifest import MANIFEST, manifest_text, read_manifest

pytestmark = pytest.mark.m5
BACKBONE = BackboneConfig(source="random", sizes=tiny.SIZES)
TIMELINES = ("system_profiling", "idle", "busy", "bursty", "fragmented", "no_gpu")
REQUESTS = 200
PATIENT = SearchLimits(budget_ms=60_000.0, max_schedules=20)
"""Schedules are counted, not timed: a search with a time limit may end elsewhere in another run."""


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tomas_router.training.checkpoint import load_checkpoint, save_checkpoint

    directory = tmp_path_factory.mktemp("checkpoint")
    checkpoint = tiny.save_tiny_checkpoint(directory, BACKBONE)
    with torch.no_grad():  # a fresh set encoder is a no-op, and a fresh prior says nothing
        torch.nn.init.normal_(checkpoint.model.classifier.set_key.weight, std=0.2)
        checkpoint.model.classifier.prior_weight.fill_(0.3)
        checkpoint.model.gate.score.bias.fill_(0.3)
    save_checkpoint(directory, checkpoint.model, checkpoint.statistics, directory / "tokenizer.json", [])
    load_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def directory(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("optimum") / "float32"
    export_optimum(checkpoint_dir, out, "float32", parity=False)
    return out


@pytest.fixture(scope="module")
def engine(directory: Path) -> OptimumEngine:
    return OptimumEngine.load(directory)


@pytest.fixture(scope="module")
def plain(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> OnnxEngine:
    from tomas_router.training.checkpoint import load_checkpoint

    out = tmp_path_factory.mktemp("embedded") / "none"
    export(load_checkpoint(checkpoint_dir), out, "none")
    return OnnxEngine.load(out)


@pytest.fixture(scope="module")
def tools(engine: OptimumEngine) -> ToolEncodings:
    return Planner(engine).encode()


def window(seed: int, gpus: int) -> CurveWindow:
    return CurveWindow(np.random.default_rng(seed).uniform(0, 30, (gpus, 96, 4)).astype(np.float32), 4.0 + 0.2 * seed)


def open_requests(count: int) -> list[OpenRequest]:
    rows = load_rows(shipped.instructions_path("val"))
    return [
        OpenRequest(rows[n].instruction, np.arange(n, 2 * n + 2), window(n, 1 + n % 3), ("dataflow", "order")[n % 2])
        for n in range(count)
    ]


def test_plans_when_made_by_the_plain_engine_are_the_same_on_200_requests(
    engine: OptimumEngine, plain: OnnxEngine
) -> None:
    ours, theirs = Planner(engine, limits=PATIENT, max_steps=3), Planner(plain, limits=PATIENT, max_steps=3)
    timelines = [SystemTimeline.from_csv(shipped.timeline_path(name)) for name in TIMELINES]
    statuses = set()
    rows = load_rows(shipped.instructions_path("val"))[:REQUESTS]
    assert len(rows) == REQUESTS
    for number, row in enumerate(rows):
        request = {"instruction": row.instruction, "num_steps": (None, 1, 2)[number % 3], "links": "order"}
        timeline = timelines[number % len(timelines)]
        plan, expected = (planner.plan(request, timeline=timeline) for planner in (ours, theirs))
        assert_alike(decided(plan), decided(expected), row.id)
        statuses.add(str(plan.status))
    assert len(statuses) > 1  # plans and refusals both


def test_plan_together_when_timelines_differ_gives_the_plans_of_one_by_one(
    engine: OptimumEngine, plain: OnnxEngine
) -> None:
    rows = load_rows(shipped.instructions_path("val"))[: 2 * len(TIMELINES)]
    requests = [{"instruction": row.instruction, "num_steps": (None, 1, 2, 3)[n % 4]} for n, row in enumerate(rows)]
    timelines = [SystemTimeline.from_csv(shipped.timeline_path(name)) for name in TIMELINES] * 2
    one_by_one = Planner(plain, limits=PATIENT, max_steps=3)
    wide = Planner(engine, limits=PATIENT, max_steps=3, beam_width=2)
    for planner in (Planner(engine, limits=PATIENT, max_steps=3), wide, one_by_one):
        together = planner.plan_together(requests, timelines)
        assert len(together) == len(rows)
        for request, timeline, plan in zip(requests, timelines, together, strict=True):
            alone = planner.plan(request, timeline=timeline)
            assert_alike(decided(plan), decided(alone), request["instruction"])
    with pytest.raises(ValueError, match="got 2 and 1"):
        planner.plan_together(requests[:2], timelines[:1])
    assert planner.plan_together([], []) == []


def decided(plan: Any) -> dict[str, Any]:
    """A plan without the moment and the model."""
    data: dict[str, Any] = json.loads(plan.model_dump_json())
    return {k: v for k, v in data.items() if k not in ("created_at", "expires_at", "model", "explanation")}


def assert_alike(ours: Any, theirs: Any, where: str) -> None:
    """Everything is equal but confidences and predicted numbers, which engines sum in another order."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_alike(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_alike(one, other, f"{where}[{index}]")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3), where
    else:
        assert ours == theirs, where


def test_batch_when_requests_differ_in_everything_gives_what_each_gives_alone(
    engine: OptimumEngine, tools: ToolEncodings
) -> None:
    requests = open_requests(5)
    together = engine.open_batch(requests, tools)
    alone = [engine.open(r.instruction, tools, r.shortlist, r.window, r.links) for r in requests]
    for one, other in zip(together, alone, strict=True):
        assert one.gate_logit == pytest.approx(other.gate_logit, abs=1e-4)
        np.testing.assert_allclose(one.tool_logits, other.tool_logits, atol=1e-4)
    states, choices = [opening.state for opening in together], [3, 1, 4, 1, 5]
    for _ in range(2):
        steps = engine.step_batch(states, choices)
        singles = [engine.step(outcome.state, tool) for outcome, tool in zip(alone, choices, strict=True)]
        for one, other in zip(steps, singles, strict=True):
            for name in ("tool_logits", "size_logits", "resources", "depends_logits"):
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-3)
        states, alone = [outcome.state for outcome in steps], singles  # type: ignore[assignment]


def test_step_batch_when_some_requests_are_further_than_others_keeps_them_apart(
    engine: OptimumEngine, tools: ToolEncodings
) -> None:
    first, second, third = engine.open_batch(open_requests(3), tools)
    ahead = engine.step(first.state, 2)
    mixed = engine.step_batch([second.state, ahead.state, third.state], [1, 3, 2])
    assert [len(outcome.depends_logits) for outcome in mixed] == [0, 1, 0]
    for outcome, (state, tool) in zip(mixed, [(second.state, 1), (ahead.state, 3), (third.state, 2)], strict=True):
        np.testing.assert_allclose(outcome.tool_logits, engine.step(state, tool).tool_logits, atol=1e-4)


def test_state_when_branches_share_it_is_never_changed(engine: OptimumEngine, tools: ToolEncodings) -> None:
    request = open_requests(4)[3]
    state = engine.open(request.instruction, tools, request.shortlist, request.window, "dataflow").state
    first = engine.step(state, 3)
    engine.step(engine.step(state, 5).state, 1)
    np.testing.assert_array_equal(first.tool_logits, engine.step(state, 3).tool_logits)


def test_lengths_when_rounded_up_to_buckets_change_nothing(
    directory: Path, engine: OptimumEngine, tools: ToolEncodings
) -> None:
    rounded = OptimumEngine.load(directory, buckets=True)
    for request in [*open_requests(4), *open_requests(4)]:  # buffers are used again
        exact = engine.open(request.instruction, tools, request.shortlist, request.window, request.links)
        seen = rounded.open(request.instruction, tools, request.shortlist, request.window, request.links)
        np.testing.assert_allclose(seen.tool_logits, exact.tool_logits, atol=1e-4)
        for _ in range(2):
            exact, seen = engine.step(exact.state, 2), rounded.step(seen.state, 2)  # type: ignore[assignment]
            np.testing.assert_allclose(seen.tool_logits, exact.tool_logits, atol=1e-4)
    lengths = {key[1] for key in rounded.backbone._buckets}
    assert lengths <= {1, 4, 32, 64, 128, 256}
    assert len(rounded.backbone._buckets) < 12


def test_bucket_when_a_request_left_numbers_beyond_float_behind_does_not_carry_them_over(
    directory: Path, tools: ToolEncodings
) -> None:
    engine = OptimumEngine.load(directory, buckets=True)
    request = open_requests(2)[1]
    arguments = request.instruction, tools, request.shortlist, request.window, "order"
    before = engine.open(*arguments).tool_logits
    for bucket in engine.backbone._buckets.values():
        bucket.past_ZBHPC.fill_(float("nan"))
        bucket.inputs["inputs_embeds"].fill_(float("nan"))
    np.testing.assert_array_equal(engine.open(*arguments).tool_logits, before)


@pytest.mark.parametrize(("count", "bucket"), [(1, 1), (3, 4), (5, 32), (64, 64), (129, 256), (257, 512)])
def test_new_token_bucket_when_asked_is_the_smallest_that_holds_them(count: int, bucket: int) -> None:
    assert new_token_bucket(count) == bucket


def test_explanation_when_streamed_equals_the_plain_engines(
    engine: OptimumEngine, plain: OnnxEngine, tools: ToolEncodings
) -> None:
    text = "Transcribe the recording and mail it."
    ours = "".join(engine.explain(text, tools, window(1, 2), 12))
    assert ours == "".join(plain.explain(text, tools, window(1, 2), 12))
    assert ours


@torch.no_grad()
def test_generate_when_behind_a_prefix_equals_the_backbones_own(checkpoint_dir: Path, engine: OptimumEngine) -> None:
    from tomas_router.model.backbone import PrefixCache
    from tomas_router.training.checkpoint import load_checkpoint

    backbone = load_checkpoint(checkpoint_dir).model.backbone
    torch.manual_seed(1)
    virtual, prompt = torch.randn(4, 32), [11, 42, 7]
    alone = backbone.encode_alone(torch.randn(5, 32))
    prefix = PrefixCache(*(t[:, :, :, 0].permute(1, 2, 0, 3).unsqueeze(0) for t in (alone.keys, alone.values)))
    expected = backbone.generate([prompt], 6, prefix, virtual)[0]
    embeds = torch.cat([virtual.unsqueeze(0), engine.backbone.embed(torch.tensor([prompt]))], dim=1)
    cache = engine.backbone.cache_of(prefix.keys, prefix.values)
    generated = engine.backbone.generate(
        inputs_embeds=embeds, past_key_values=cache, max_new_tokens=6, do_sample=False, use_cache=True
    )
    assert generated[0].tolist() == expected
    by_ids = engine.backbone.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)
    assert by_ids[0, len(prompt) :].tolist() == backbone.generate([prompt], 6)[0]


def test_planner_load_when_the_layout_is_optimum_takes_this_engine(directory: Path) -> None:
    assert isinstance(Planner.load(directory).engine, OptimumEngine)


def test_planner_load_when_cuda_is_asked_of_a_cpu_build_says_what_to_install(directory: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"CUDAExecutionProvider|torch with CUDA"):
        Planner.load(directory, provider="cuda")


def test_planner_load_when_optimum_is_missing_names_the_extra(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.onnxruntime", None)
    for name in ("tomas_router.engines.optimum_engine", "tomas_router.engines.ort_backbone"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "tomas-router\[optimum\]"'):
        Planner.load(directory)


def test_engine_when_given_the_other_layout_says_so(directory: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match="layout: expected embedded, found optimum"):
        OnnxEngine.load(directory)
    with pytest.raises(ArtifactMismatchError, match="layout: expected optimum, found embedded"):
        OptimumEngine.load(shipped.model_dir())


def test_planner_when_weights_are_random_refuses_to_plan(directory: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "untrained"
    shutil.copytree(directory, copy)
    manifest = read_manifest(copy).model_copy(update={"trained": False})
    (copy / MANIFEST).write_text(manifest_text(manifest))
    with pytest.raises(UntrainedModelError, match="no trained heads"):
        Planner.load(copy)


def test_joined_when_prefixes_differ_in_length_masks_the_rest(engine: OptimumEngine, tools: ToolEncodings) -> None:
    device_tools = engine._device_tools(tools)
    caches = [engine._prefix(device_tools, np.arange(n)).cache for n in (2, 5)]
    both = joined(caches)
    assert both.mask_BP.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    torch.testing.assert_close(both.kv_ZBHPC[:, :1, :, :2], caches[0].kv_ZBHPC)


@pytest.mark.parametrize(("shortlist", "links", "message"), [([], "order", "at least one tool"), ([1], "x", "'x'")])
def test_open_when_inputs_are_impossible_says_so(
    engine: OptimumEngine, tools: ToolEncodings, shortlist: list[int], links: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        engine.open("a", tools, np.array(shortlist, dtype=np.int64), window(0, 1), links)


def test_artifacts_verify_when_the_layout_is_optimum_reads_the_graphs_without_loading_them(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from tomas_router.cli.main import main

    assert main(["artifacts", "verify", str(directory)]) == 0
    assert "10 graphs are read" in capsys.readouterr().out
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    manifest = read_manifest(copy)
    entry = manifest.graphs["backbone"]
    renamed = entry.model_copy(
        update={"inputs": (entry.inputs[0].model_copy(update={"name": "embeds"}), *entry.inputs[1:])}
    )
    graphs = manifest.graphs | {"backbone": renamed}
    (copy / MANIFEST).write_text(manifest_text(manifest.model_copy(update={"graphs": graphs})))
    assert main(["artifacts", "verify", str(copy)]) == 2
    assert "inputs_embeds" in capsys.readouterr().err
