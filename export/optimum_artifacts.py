"""Writes the artifacts of the production preset: graphs for Optimum and a GPU, weights in the precision it computes in.

One weights file that all graphs share; the backbone's own are streamed into it tensor by tensor, so that a 7B model
needs the memory of its largest tensor and not of itself. ``export.onnx`` chooses this layout for a backbone that lives
on a GPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from export.fused_qwen2 import DTYPES, AttentionKind, Precision, fused_layer, residual_dtype
from export.graphs import max_positions
from export.manifest import TOKENIZER, graph_entry, write_manifest
from export.optimum_backbone import backbone_graph, raw_bytes
from export.optimum_graphs import TABLE, embedding_graph, head_specs, lm_head_graph
from export.qwen_layers import TRACED_OPSET
from export.shared_weights import SharedWeights
from export.small_tensors import write_small_tensors
from export.trace import trace
from export.weight_only import block_contents, read_blocks, stored_names
from export.weight_source import LM_HEAD, WeightSource
from export.weight_source import TABLE as TOKEN_TABLE
from tomas_router.config import ModelConfig
from tomas_router.model.backbone import QwenBackbone
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.schema.manifest import GraphEntry, Quantisation, Tolerance
from tomas_router.training.checkpoint import Checkpoint

BACKBONE_CONFIG = "config.json"
TOLERANCES: dict[Precision, Tolerance] = {
    "float32": Tolerance(relative_error=1e-3, reason="same float32 arithmetic, sums in another order"),
    "float16": Tolerance(relative_error=0.05, reason="weights, products and cache rounded to 11 bits"),
    "bfloat16": Tolerance(relative_error=0.2, reason="weights, products, cache and residual sums rounded to 8 bits"),
}
ROUNDED: dict[Quantisation, Tolerance] = {
    "int8": Tolerance(
        relative_error=0.2, reason="layers' weights rounded to 8 bits in blocks of 64, and the precision"
    ),
    "int4": Tolerance(
        relative_error=0.6, reason="layers' weights rounded to 4 bits in blocks of 32, and the precision"
    ),
}
Report = Callable[[str], None]


def tolerance_of(precision: Precision, quantisation: Quantisation) -> Tolerance:
    """What rounding may change."""
    return ROUNDED.get(quantisation, TOLERANCES[precision])


@dataclass(frozen=True)
class OptimumJob:
    """What to export."""

    panels: Checkpoint
    """Trained panels around a backbone that only says its sizes."""
    weights: WeightSource
    precision: Precision
    training_fingerprint: str
    trained: bool = True
    attention: AttentionKind = "standard"
    quantisation: Quantisation = "none"
    """Of the layers' weights (``export.weight_only``)."""


def bare_panels(config: ModelConfig, backbone: Qwen2Config) -> TOMASLLMModel:
    """The network without the backbone's weights, which take no memory.

    Raises:
        ValueError: The backbone has text layers, or tools come from a name table; neither has this layout.
    """
    if config.backbone.text_layers:
        raise ValueError(
            f"layout 'optimum' has no text layers, got backbone.text_layers {config.backbone.text_layers}: "
            "export with --layout embedded"
        )
    if config.tool.encoder != "text":
        raise ValueError(f"export needs tool.encoder 'text', got {config.tool.encoder!r}")
    with torch.device("meta"):
        language_model = Qwen2ForCausalLM(backbone)
    stand_in = nn.Parameter(torch.ones(1, backbone.hidden_size), requires_grad=False)
    language_model.model.embed_tokens.weight = stand_in  # only its size of numbers is read
    return TOMASLLMModel(config, QwenBackbone(language_model)).eval()


def write_optimum_artifacts(job: OptimumJob, out: Path, report: Report = lambda _: None) -> None:
    """All files of the directory but a parity report.

    Args:
        job: What to export.
        out: An empty directory.
        report: Told what is being done.
    """
    model = job.panels.model
    config = model.backbone.config
    graphs: dict[str, ModelProto] = {}
    entries: dict[str, GraphEntry] = {}
    with SharedWeights(out) as shared:

        def save(name: str, graph: ModelProto) -> None:
            graphs[name], entries[name] = graph, graph_entry(name, graph)
            onnx.save(graph, str(out / entries[name].file))

        for name, spec in head_specs(model).items():
            report(f"tracing {name}")
            graph = trace(spec, TRACED_OPSET)  # a GPU has kernels for the operators of yesterday
            shared.absorb(graph)
            save(name, graph)
        for name, make, source in (
            ("token_embedding", embedding_graph, TOKEN_TABLE),
            ("lm_head", lm_head_graph, LM_HEAD),
        ):
            report(f"writing {name}")
            graph = make(config.vocab_size, config.hidden_size, job.precision)
            table = next(tensor for tensor in graph.graph.initializer if tensor.name == TABLE)
            shared.fill(table, raw_bytes(job.weights.read(source).to(DTYPES[job.precision])))
            save(name, graph)
        report("tracing backbone through Optimum")
        graph = backbone_graph(config, job.precision, max_positions(job.panels.config), job.attention)
        if job.quantisation != "none":
            read_blocks(graph, job.quantisation)
        _fill_backbone(graph, job, shared, report)
        save("backbone", graph)
    for entry in entries.values():
        onnx.checker.check_model(str(out / entry.file))
    write_small_tensors(model, out)
    (out / BACKBONE_CONFIG).write_text(config.to_json_string(use_diff=False), encoding="utf-8")
    shutil.copyfile(job.panels.tokenizer_path, out / TOKENIZER)
    report("hashing files")
    write_manifest(
        job.panels,
        job.training_fingerprint,
        job.quantisation,
        entries,
        None,
        out,
        tolerance=tolerance_of(job.precision, job.quantisation),
        layout="optimum",
        precision=job.precision,
        trained=job.trained,
    )


def _fill_backbone(graph: ModelProto, job: OptimumJob, shared: SharedWeights, report: Report) -> None:
    """Streams every weight of the layers into the shared file."""
    empty = {tensor.name: tensor for tensor in graph.graph.initializer if not tensor.raw_data}
    first: dict[str, list[TensorProto]] = {}
    layers = job.panels.model.backbone.config.num_hidden_layers
    for layer in range(layers):
        report(f"writing layer {layer + 1} of {layers}")
        for part, made in fused_layer(_reader(job.weights, layer), job.precision).items():
            names = stored_names(part, job.quantisation)
            tensors = [empty.pop(f"layers.{layer}.{name}") for name in names]
            if job.weights.layers_alike and part in first:
                for tensor, filled in zip(tensors, first[part], strict=True):
                    shared.fill_like(tensor, filled)
            else:
                rounds = len(names) > 1
                contents = block_contents(made(), job.quantisation) if rounds else (raw_bytes(made()),)
                for tensor, content in zip(tensors, contents, strict=True):
                    shared.fill(tensor, content)
            first.setdefault(part, tensors)
    final = job.weights.read("norm.weight").to(residual_dtype(job.precision))
    shared.fill(empty.pop("final_norm"), raw_bytes(final))
    if empty:
        raise ValueError(f"the graph has weights that no layer fills: {sorted(empty)}")


def _reader(weights: WeightSource, layer: int) -> Callable[[str], Tensor]:
    return lambda name: weights.read(f"layers.{layer}.{name}")
