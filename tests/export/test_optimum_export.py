"""Export through Optimum: the graph against transformers, precisions, external data, LoRA, memory, and failures."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import onnxruntime
from onnx import TensorProto
from torch import nn
from transformers import DynamicCache, Qwen2Config, Qwen2Model

from export import host_memory, optimum_export, shared_weights
from export.fused_qwen2 import DOWN_SCALE, DTYPES, FusedQwen2, Precision, fused_layer, visible_bias
from export.host_memory import HostMemoryError, check_memory, memory_need
from export.onnx import main
from export.optimum_backbone import backbone_graph, raw_bytes
from export.optimum_parity import check_optimum_parity
from export.parity import ParityError
from export.repeat_layers import repeat_layers
from export.shared_weights import WEIGHTS
from export.weight_only import block_contents
from export.weight_source import CheckpointWeights, RandomWeights
from tests import tiny
from tomas_router.config import BackboneConfig
from tomas_router.engines.optimum_engine import OptimumEngine
from tomas_router.errors import UntrainedModelError
from tomas_router.schema.manifest import read_manifest
from tomas_router.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.m4
BACKBONE = BackboneConfig(source="random", sizes=tiny.SIZES)
SIZES = Qwen2Config(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rope_theta=1e6,
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    tiny.save_tiny_checkpoint(directory, BACKBONE)
    return directory


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    made = Qwen2Model(SIZES).eval()
    for name, parameter in made.named_parameters():
        if name.endswith(("bias", "norm.weight")):
            nn.init.normal_(parameter, mean=1.0, std=0.2)
        elif "layers" in name:
            nn.init.normal_(parameter, std=0.2)
    return made


@torch.no_grad()
def fused(model: Any, precision: Precision) -> FusedQwen2:
    """The fused module with a transformers model's weights."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    made = FusedQwen2(config, precision, 64).eval()
    for index, layer in enumerate(made.layers):
        state = model.layers[index].state_dict()
        for part, tensor in fused_layer(lambda name, state=state: state[name], precision).items():
            getattr(layer, part).copy_(tensor())
    made.final_norm.copy_(model.norm.weight)
    return made


def session_of(module: FusedQwen2, folder: Path, attention: str = "standard") -> onnxruntime.InferenceSession:
    """The exported graph with the module's weights, run by ONNX Runtime."""
    graph = backbone_graph(module.config, module.precision, 64, attention)  # type: ignore[arg-type]
    state = module.state_dict()
    for tensor in graph.graph.initializer:
        if not tensor.raw_data:
            tensor.raw_data = raw_bytes(state[tensor.name])
    onnx.checker.check_model(graph)
    path = folder / "backbone.onnx"
    onnx.save(graph, str(path))
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def inputs(batch: int, new: int, past: int, seed: int = 0) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, past + new, dtype=torch.int64)
    if batch > 1 and past > 2:
        mask[1, 1:3] = 0
    cache = [tuple(torch.randn(batch, 2, past, 8, generator=generator) for _ in range(2)) for _ in range(4)]
    return (
        torch.randn(batch, new, 32, generator=generator),
        mask,
        torch.arange(1, new + 1).repeat(batch, 1),
        cache,
    )


@torch.no_grad()
def reference(model: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    embeds, mask, positions, cache = arguments
    past = DynamicCache()
    for layer, (keys, values) in enumerate(cache):
        past.update(keys, values, layer)
    bias = visible_bias(mask, positions, torch.float32)
    done = model(
        inputs_embeds=embeds, attention_mask=bias, position_ids=positions, past_key_values=past, use_cache=True
    )
    return done.last_hidden_state, past


def run(session: onnxruntime.InferenceSession, arguments: tuple[Any, ...]) -> list[np.ndarray]:
    embeds, mask, positions, cache = arguments
    feeds = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}
    for layer, (keys, values) in enumerate(cache):
        feeds |= {f"past_key_values.{layer}.key": keys, f"past_key_values.{layer}.value": values}
    return session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})  # type: ignore[no-any-return]


# ---- the graph ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1, 0), (1, 7, 4), (3, 5, 6), (2, 1, 9)])
def test_graph_when_run_at_untraced_sizes_equals_transformers(
    sizes: tuple[int, int, int], model: Any, tmp_path: Path
) -> None:
    arguments = inputs(*sizes)
    expected, past = reference(model, arguments)
    hidden, *present = run(session_of(fused(model, "float32"), tmp_path), arguments)
    np.testing.assert_allclose(hidden, expected.numpy(), rtol=1e-4, atol=1e-4)
    for layer in range(4):  # two are traced, two are repeated
        np.testing.assert_allclose(present[2 * layer], past.layers[layer].keys.numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(present[2 * layer + 1], past.layers[layer].values.numpy(), rtol=1e-4, atol=1e-4)


def test_graph_when_exported_names_its_axes_and_uses_fused_operators() -> None:
    graph = backbone_graph(SIZES, "bfloat16", 64)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes["inputs_embeds"] == ["batch_size", "sequence_length", 32]
    assert shapes["attention_mask"] == ["batch_size", "past_sequence_length + sequence_length"]
    assert shapes["past_key_values.3.key"] == ["batch_size", 2, "past_sequence_length", 8]
    assert shapes["last_hidden_state"][:2] == ["batch_size", "sequence_length"]
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("Attention") == 4
    assert operators.count("SkipSimplifiedLayerNormalization") == 8
    assert "Shape" not in operators  # a length on the host keeps a CUDA graph from being captured
    assert graph.graph.input[0].type.tensor_type.elem_type == TensorProto.BFLOAT16


def test_graph_when_grouped_attention_is_asked_for_equals_transformers(model: Any, tmp_path: Path) -> None:
    arguments = inputs(1, 5, 6)
    hidden, *_ = run(session_of(fused(model, "float32"), tmp_path, "grouped"), arguments)
    np.testing.assert_allclose(hidden, reference(model, arguments)[0].numpy(), rtol=1e-4, atol=1e-4)


def test_graph_when_a_weight_is_forgotten_cannot_be_loaded(model: Any, tmp_path: Path) -> None:
    graph = backbone_graph(SIZES, "float32", 64)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(graph)


def test_repeat_layers_when_a_layer_reads_deep_into_the_one_below_refuses() -> None:
    graph = backbone_graph(
        Qwen2Config(**SIZES.to_dict() | {"num_hidden_layers": 2, "layer_types": None}), "float32", 64
    )
    product = next(node for node in graph.graph.node if node.name == "/layers.0/MatMul")
    stray = next(node for node in graph.graph.node if node.name == "/layers.1/Add")
    stray.input[0] = product.output[0]
    with pytest.raises(ValueError, match=r"also reads \['/layers\.0/MatMul_output_0'\]"):
        repeat_layers(graph, 4)


# ---- precision ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def with_large_activations(model: Any, factor: float) -> Any:
    """A model whose second layer writes numbers far beyond float16 into the residual sum, as Qwen2.5-7B's do."""
    made = copy.deepcopy(model)
    made.layers[1].mlp.up_proj.weight[5] *= factor
    made.layers[1].mlp.down_proj.weight[3, 5] = 4.0
    return made


def cosine(one: Any, other: Any) -> float:
    return float(nn.functional.cosine_similarity(one.float().flatten(), other.float().flatten(), dim=0))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@torch.no_grad()
def test_half_precision_when_activations_are_huge_stays_finite_and_close(precision: Precision, model: Any) -> None:
    large = with_large_activations(model, 1e4)
    arguments = inputs(2, 6, 4)
    expected, _ = reference(large, arguments)
    embeds, mask, positions, cache = arguments
    dtype = DTYPES[precision]
    narrow = [tuple(tensor.to(dtype) for tensor in pair) for pair in cache]
    seen = fused(large, precision)(embeds.to(dtype), mask, positions, narrow).last_hidden_state
    assert bool(torch.isfinite(seen).all())
    assert cosine(seen, expected) > 0.99


@torch.no_grad()
def test_float16_when_converted_without_care_overflows_on_the_same_activations(model: Any) -> None:
    """What the test above would miss if its activations were too small."""
    large = with_large_activations(model, 1e4)
    embeds, mask, positions, cache = inputs(2, 6, 4)
    peaks = []
    handle = large.layers[1].register_forward_hook(lambda _, __, out: peaks.append(float(_first(out).abs().max())))
    reference(large, (embeds, mask, positions, cache))
    handle.remove()
    assert peaks[0] > torch.finfo(torch.float16).max
    assert peaks[0] < DOWN_SCALE * torch.finfo(torch.float16).max
    past = DynamicCache()
    for layer, (keys, values) in enumerate(cache):
        past.update(keys.half(), values.half(), layer)
    naive = large.half()(
        inputs_embeds=embeds.half(),
        attention_mask=visible_bias(mask, positions, torch.float16),
        position_ids=positions,
        past_key_values=past,
    ).last_hidden_state
    assert not bool(torch.isfinite(naive).all())


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def test_float16_graph_when_activations_are_huge_keeps_the_residual_sum_in_float32(model: Any, tmp_path: Path) -> None:
    large = with_large_activations(model, 1e4)
    embeds, mask, positions, cache = arguments = inputs(2, 6, 4)
    half = embeds.half(), mask, positions, [tuple(tensor.half() for tensor in pair) for pair in cache]
    hidden, *_ = run(session_of(fused(large, "float16"), tmp_path), half)
    assert np.isfinite(hidden).all()
    assert cosine(torch.from_numpy(hidden), reference(large, arguments)[0]) > 0.99


# ---- the command ----------------------------------------------------------------------------------------------------


def test_command_when_the_precision_is_bfloat16_writes_half_the_bytes_and_passes_parity(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        arguments = ["--checkpoint", str(checkpoint_dir), "--out", str(out)]
        assert main([*arguments, "--layout", "optimum", "--precision", precision]) == 0
        sizes[precision] = (out / WEIGHTS).stat().st_size
        manifest = read_manifest(out, "always")
        assert (manifest.layout, manifest.precision, manifest.trained) == ("optimum", precision, True)
    assert sizes["bfloat16"] < 0.65 * sizes["float32"]
    told = capsys.readouterr().err
    assert re.search(r"needs up to \d+\.\d GiB of host memory", told)
    assert "writing layer 3 of 3" in told
    report = json.loads((tmp_path / "float32" / "parity.json").read_text())
    assert max(report["relative_error"].values()) < 1e-3
    assert report["plans_equal"] == report["requests"]


@pytest.mark.parametrize(("level", "bits"), [("int8", 8), ("int4", 4)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_command_when_weights_are_rounded_stores_blocks_and_passes_parity(
    level: str, bits: int, precision: Precision, checkpoint_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["--checkpoint", str(checkpoint_dir), "--out", str(out), "--layout", "optimum"]
    assert main([*command, "--precision", precision, "--quantize", level]) == 0
    graph = onnx.load(str(out / "backbone.onnx"), load_external_data=False).graph
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == 5 * tiny.SIZES["num_hidden_layers"]
    assert {a.i for node in products for a in node.attribute if a.name == "bits"} == {bits}
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert not any(re.fullmatch(r"layers\.\d+\.(qkv|out|gate|up|down)", name) for name in stored)
    assert stored["layers.0.qkv_blocks"] == TensorProto.UINT8
    manifest = read_manifest(out)
    assert (manifest.quantisation, manifest.precision) == (level, precision)
    parity = json.loads((out / "parity.json").read_text())
    assert parity["quantisation"] == level
    assert 0 < max(parity["relative_error"].values()) < (0.2 if bits == 8 else 0.6)


def test_blocks_when_multiplied_are_the_rounded_weight() -> None:
    weight_KN = torch.randn(64, 24, generator=torch.Generator().manual_seed(0))
    blocks, scales = block_contents(weight_KN, "int8")
    numbers_NBK = np.frombuffer(blocks, np.uint8).reshape(24, 1, 64).astype(np.float32) - 128
    scales_NB = np.frombuffer(scales, np.float32).reshape(24, 1)
    rounded_NK = (numbers_NBK * scales_NB[..., None]).reshape(24, 64)
    np.testing.assert_allclose(rounded_NK, weight_KN.numpy().T, atol=float(scales_NB.max()) / 1.9)


def test_command_when_the_configuration_names_a_gpu_takes_this_layout(checkpoint_dir: Path, tmp_path: Path) -> None:
    import yaml

    shape = yaml.safe_load((checkpoint_dir / "config.yaml").read_text())["model"]
    shape["backbone"] |= {"device_map": "cuda", "dtype": "bfloat16"}
    config = tmp_path / "gpu.yaml"
    config.write_text(yaml.safe_dump({"model": shape}))
    arguments = ["--config", str(config), "--checkpoint", str(checkpoint_dir), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--no-parity"]) == 0
    assert read_manifest(tmp_path / "out").precision == "bfloat16"


def test_command_when_the_configuration_is_another_networks_names_what_differs(
    checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--config",
        "configs/default.yaml",
        "--checkpoint",
        str(checkpoint_dir),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 2
    assert re.search(
        r"is not the configuration of .*: heads, temporal, tool differ", capsys.readouterr().err.replace("\n", " ")
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--layout", "optimum", "--quantize", "packed"], "belongs to layout 'embedded'"),
        (["--layout", "embedded", "--no-parity"], "belong to layout 'optimum'"),
    ],
)
def test_command_when_options_contradict_says_so(
    extra: list[str], message: str, checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(checkpoint_dir), "--out", str(tmp_path / "out"), *extra]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_weights_when_above_the_threshold_lie_outside_the_graph(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No protocol buffer holds more than 2 GB; with a threshold of 64 bytes everything takes that way."""
    monkeypatch.setattr(shared_weights, "MIN_BYTES", 64)
    optimum_export.export_optimum(checkpoint_dir, tmp_path / "out", "bfloat16", parity=False)
    kept = 0
    for path in (tmp_path / "out").glob("*.onnx"):
        for tensor in onnx.load(str(path), load_external_data=False).graph.initializer:
            kept += 0 if tensor.external_data else len(tensor.raw_data)
            if tensor.external_data:
                place = {entry.key: entry.value for entry in tensor.external_data}
                assert place["location"] == WEIGHTS
    assert kept < 2000
    checkpoint = load_checkpoint(checkpoint_dir)
    assert check_optimum_parity(checkpoint, OptimumEngine.load(tmp_path / "out"), "bfloat16").choices > 30


def test_export_when_it_fails_half_way_leaves_what_was_there(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(shared_weights.SharedWeights, "fill", full)
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("kept")
    assert main(["--checkpoint", str(checkpoint_dir), "--out", str(out), "--layout", "optimum"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "old").read_text() == "kept"


def test_parity_when_the_model_is_broken_fails(checkpoint_dir: Path, tmp_path: Path) -> None:
    optimum_export.export_optimum(checkpoint_dir, tmp_path / "out", "float32", parity=False)
    checkpoint = load_checkpoint(checkpoint_dir)
    with torch.no_grad():
        checkpoint.model.backbone.lm.model.layers[2].mlp.down_proj.weight.mul_(1.5)
    with pytest.raises(ParityError, match=r"differs by|takes tool"):
        check_optimum_parity(checkpoint, OptimumEngine.load(tmp_path / "out"), "float32")


def test_export_when_there_is_no_checkpoint_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(UntrainedModelError, match=r"tomas train --config configs/default\.yaml"):
        optimum_export.export_optimum(tmp_path, tmp_path / "out", "float32")


def test_export_when_the_backbone_has_text_layers_says_which_layout_has_them(tmp_path: Path) -> None:
    tiny.save_tiny_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"no text layers, got backbone\.text_layers 1"):
        optimum_export.export_optimum(tmp_path / "checkpoint", tmp_path / "out", "float32")


# ---- LoRA -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_export_when_the_checkpoint_has_lora_merges_it_as_peft_does(checkpoint_dir: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tomas_router.training.checkpoint import save_checkpoint
    from tomas_router.training.lora import add_lora

    checkpoint = load_checkpoint(checkpoint_dir)
    plain = copy.deepcopy(checkpoint.model.backbone.lm)
    add_lora(checkpoint.model.backbone, rank=2, alpha=4.0, dropout=0.0)
    torch.manual_seed(3)
    for name, parameter in checkpoint.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    directory = tmp_path / "lora"
    save_checkpoint(directory, checkpoint.model, checkpoint.statistics, checkpoint_dir / "tokenizer.json", [])

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    peft = get_peft_model(plain, LoraConfig(r=2, lora_alpha=4.0, target_modules=targets))
    theirs = dict(peft.named_parameters())
    for name, parameter in checkpoint.model.backbone.lm.named_parameters():
        if "lora_" in name:
            theirs[f"base_model.model.{name}"].copy_(parameter)
    merged = peft.merge_and_unload().state_dict()
    weights = CheckpointWeights(directory, tied=False)
    assert weights.fingerprint() != CheckpointWeights(checkpoint_dir, tied=False).fingerprint()
    for name, tensor in merged.items():
        read = weights.read(name.removeprefix("model."))
        torch.testing.assert_close(read.float(), tensor, msg=lambda text, name=name: f"{name}: {text}")
    report = optimum_export.export_optimum(directory, tmp_path / "out", "float32")  # parity with the merged checkpoint
    assert report is not None
    assert report.plans_equal == report.requests


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_export_when_memory_is_short_refuses_before_it_begins(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimum_export, "free_memory", lambda: 1 << 20)
    with pytest.raises(HostMemoryError, match=r"needs up to \d\.\d GiB of host memory, 0\.0 GiB are free"):
        optimum_export.export_optimum(checkpoint_dir, tmp_path / "out", "float32")
    assert not (tmp_path / "out").exists()


def test_memory_when_only_parity_is_too_much_says_that_it_can_be_left_out() -> None:
    config = tiny.model_config(BACKBONE)
    sizes = Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4,
    )  # fmt: skip
    need = memory_need(config, sizes, "bfloat16", parity=True)
    assert need.export < 16 * host_memory.GIB < need.parity
    with pytest.raises(HostMemoryError, match=r"--no-parity needs \d+\.\d GiB"):
        check_memory(need, need.export)
    check_memory(need, need.parity)


def test_memory_when_measured_stays_below_what_was_said(tmp_path: Path) -> None:
    """A fresh process, because a process never gives back its peak."""
    code = f"""
import json, resource, sys
from pathlib import Path
from transformers import Qwen2Config
from benchmarks.gpu_7b import build_artifacts
from export.host_memory import memory_need
from tomas_router.config import load_config
config = load_config("configs/default.yaml").model
sizes = dict(vocab_size=49152, hidden_size=768, intermediate_size=6144, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2)
build_artifacts(config, sizes, "bfloat16", Path({str(tmp_path / "out")!r}))
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([peak, memory_need(config, Qwen2Config(**sizes), "bfloat16", parity=False).export]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, said = json.loads(done.stdout.splitlines()[-1])
    assert 0.3 * said < peak < said


def test_random_weights_when_read_have_the_models_shapes(model: Any) -> None:
    weights = RandomWeights(SIZES)
    for name, tensor in model.state_dict().items():
        assert weights.read(name).shape == tensor.shape, name
