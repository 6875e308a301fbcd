"""The backbone's graph through Optimum, for as many layers as it has and in as little memory as two of them take.

Optimum traces a model of two layers; the second is then repeated under new names (``export.repeat_layers``), and the
weights are streamed into the graph's external data afterwards, tensor by tensor. Traced whole, a 7B model would have to
lie in memory three times.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, TensorProto
from optimum.exporters.onnx import export as optimum_export
from optimum.exporters.onnx.model_configs import Qwen2OnnxConfig
from optimum.exporters.onnx.model_patcher import ModelPatcher
from torch import Tensor
from transformers import Qwen2Config

from export.fused_qwen2 import DTYPES, AttentionKind, FusedQwen2, Precision, head_dim
from export.qwen_layers import TRACED_OPSET
from export.repeat_layers import TRACED_LAYERS, repeat_layers
from export.trace import use_standard_operators

SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""Optimum's names of the precisions."""
BATCH, NEW, PAST = "batch_size", "sequence_length", "past_sequence_length"
TOTAL = f"{PAST} + {NEW}"
EXAMPLE = {"batch": 2, "new": 3, "past": 5}
LARGEST_CONSTANT = 1024
"""Initialisers that no module owns hold a handful of numbers each."""


class PlainPatcher(ModelPatcher):
    """Leaves the model's forward as it is: the model is written for export, and its cache is plain tuples."""

    def __init__(self, config: Any, model: Any, model_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__(config, model, model_kwargs)
        self.patched_forward = model.forward


class PrefixedQwen2OnnxConfig(Qwen2OnnxConfig):  # type: ignore[misc]
    """Qwen2 as the router uses it: embeddings and a cache in, hidden states and the longer cache out.

    Stock configurations take ``input_ids`` and give ``logits``: no virtual tokens, and a product with the whole
    vocabulary at every position.
    """

    _MODEL_PATCHER = PlainPatcher

    def __init__(self, config: Qwen2Config, float_dtype: str = "fp32") -> None:
        super().__init__(
            config, task="feature-extraction", float_dtype=float_dtype, use_past=True, use_past_in_inputs=True
        )

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        named = {
            "inputs_embeds": {0: BATCH, 1: NEW},
            "attention_mask": {0: BATCH, 1: TOTAL},
            "position_ids": {0: BATCH, 1: NEW},
        }
        self.add_past_key_values(named, direction="inputs")
        return named

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        named = {"last_hidden_state": {0: BATCH, 1: NEW}}  # Optimum leaves axis 1 out, and it would be frozen at 1
        self.add_past_key_values(named, direction="outputs")
        return named

    def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Any]:
        """Three new tokens behind five for two requests, one of them with a hole in its cache."""
        if framework != "pt":
            raise ValueError(f"this configuration exports PyTorch models, got framework {framework!r}")
        config, dtype = self._config, getattr(torch, _LONG[self.float_dtype])
        batch, new, past = EXAMPLE["batch"], EXAMPLE["new"], EXAMPLE["past"]
        mask = torch.ones(batch, past + new, dtype=torch.int64)
        mask[1, 2] = 0

        def cache() -> Tensor:
            return torch.randn(batch, config.num_key_value_heads, past, head_dim(config)).to(dtype)

        return {
            "inputs_embeds": torch.randn(batch, new, config.hidden_size).to(dtype),
            "attention_mask": mask,
            "position_ids": torch.arange(past, past + new).repeat(batch, 1),
            "past_key_values": [(cache(), cache()) for _ in range(config.num_hidden_layers)],
        }


_LONG = {short: long for long, short in SHORT.items()}


def backbone_graph(
    config: Qwen2Config, precision: Precision, max_positions: int, attention: AttentionKind = "standard"
) -> ModelProto:
    """The graph of all layers; initialisers named as in ``FusedQwen2`` have sizes and types but no content yet.

    Args:
        config: Sizes; ``num_hidden_layers`` says how many layers the graph gets.
        precision: Of weights, cache and products.
        max_positions: Length of the rotary tables.
        attention: Which operator.
    """
    few = copy.deepcopy(config)
    few.num_hidden_layers = min(config.num_hidden_layers, TRACED_LAYERS)
    few._attn_implementation = "eager"  # transformers asks before it builds any model; none of its own is used
    model = FusedQwen2(few, precision, max_positions, attention).eval()
    owned = {name for name, _ in model.named_parameters()}
    for number, parameter in enumerate(model.parameters()):
        parameter.data.fill_(number)  # the exporter stores equal tensors once
    with tempfile.TemporaryDirectory(prefix="optimum-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns at every shape that it rightly takes as dynamic
        path = Path(folder) / "backbone.onnx"
        optimum_export(
            model,
            PrefixedQwen2OnnxConfig(few, SHORT[precision]),
            path,
            opset=TRACED_OPSET,
            disable_dynamic_axes_fix=True,  # it would run the graph, whose operators get their domains below
        )
        graph = onnx.load(str(path), load_external_data=False)
        _empty_weights(graph, owned)
        onnx.load_external_data_for_model(graph, folder) if _has_external(graph) else None
    _drop_unused_outputs(graph)
    use_standard_operators(graph)
    return repeat_layers(graph, config.num_hidden_layers)


def _empty_weights(graph: ModelProto, owned: set[str]) -> None:
    """Takes the content out of every parameter, so that a weight that is forgotten cannot pass for one."""
    for tensor in graph.graph.initializer:
        if tensor.name not in owned:
            continue
        for field in ("raw_data", "float_data", "int32_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _has_external(graph: ModelProto) -> bool:
    return any(tensor.external_data for tensor in graph.graph.initializer)


def _drop_unused_outputs(graph: ModelProto) -> None:
    """Optional outputs that nobody reads lose their names, so that no kernel has to write them."""
    read = {name for node in graph.graph.node for name in node.input} | {value.name for value in graph.graph.output}
    for node in graph.graph.node:
        while len(node.output) > 1 and node.output[-1] not in read:
            node.output.pop()
        for index, name in enumerate(node.output):
            if name not in read and len(node.output) > 1:
                node.output[index] = ""


def raw_bytes(tensor: Tensor) -> bytes:
    """Raw content of a tensor of any type; NumPy has no bfloat16."""
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()


__all__ = ["DTYPES", "PrefixedQwen2OnnxConfig", "backbone_graph", "raw_bytes"]
