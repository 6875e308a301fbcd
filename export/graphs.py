"""The pieces of the network as modules with plain tensor inputs and outputs, ready to be traced.

N tools, L text tokens, R profile rows, P shortlist, S task tokens, T new tokens, K steps, Y layers, H key/value heads,
C head width, D width, Q key width, E curve width, V virtual tokens, G GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from tomas_router.engines.torch_engine import open_heads, step_heads
from tomas_router.model.tomas_model import TOMASLLMModel

Axes = dict[str, dict[int, str]]


class QuantisedEmbedding(nn.Module):
    """Token embedding as one signed byte a number and one scale a row."""

    table: Tensor
    scale: Tensor

    def __init__(self, weight_WD: Tensor) -> None:
        super().__init__()
        scale_W1 = (weight_WD.abs().amax(1, keepdim=True) / 127.0).clamp(min=1e-8)
        self.register_buffer("table", (weight_WD / scale_W1).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale_W1)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) to (..., D)."""
        return self.table[ids].to(torch.float32) * self.scale[ids]


class ToolEncoderGraph(nn.Module):
    """Everything that is cached per tool; encodes new tools without torch."""

    def __init__(self, model: TOMASLLMModel, embedding: nn.Module) -> None:
        super().__init__()
        self.model, self.embedding = model, embedding
        self.backbone = BackboneGraph(model)

    def forward(self, token_ids: Tensor, token_mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, ...]:
        """(N, L), (N, L), (N, R, 6), (N, R) to v_toolaware, key, retrieval, prefix_keys, prefix_values."""
        model = self.model
        embedded = self.embedding(token_ids)
        hidden = embedded
        if model.config.tool.text_depth == "backbone":
            positions = torch.arange(token_ids.shape[1]).unsqueeze(0).expand(token_ids.shape[0], -1)
            hidden, _ = self.backbone.run(embedded, token_mask.to(torch.int64), positions, [])
        v_toolaware = model.tools.encode(hidden, token_mask, rows, row_mask)
        retrieval = model.retrieval(embedded, token_ids, token_mask)
        virtual = model.tool_token_norm(v_toolaware).unsqueeze(1)
        ones = torch.ones_like(virtual[:, :, 0], dtype=torch.int64)
        _, cache = self.backbone.run(virtual, ones, torch.zeros_like(ones), [])
        keys = torch.stack([k[:, :, 0] for k, _ in cache], dim=1)
        values = torch.stack([v[:, :, 0] for _, v in cache], dim=1)
        key = model.classifier.key_norm(model.classifier.base_key(v_toolaware))
        return v_toolaware, key, retrieval, keys, values


class BackboneGraph(nn.Module):
    """Embeddings in, hidden states and the longer cache out."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.body = model.backbone.lm.model
        self.layers = model.backbone.config.num_hidden_layers

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """(B, T, D), (B, P + T), (B, T) and 2 Y tensors (B, H, P, C) to hidden (B, T, D) and 2 Y longer ones."""
        pairs = [(past[2 * y], past[2 * y + 1]) for y in range(self.layers)]
        hidden, cache = self.run(inputs_embeds, attention_mask, position_ids, pairs)
        return (hidden, *[t for pair in cache for t in pair])

    def run(
        self, embeds: Tensor, mask_BT: Tensor, positions: Tensor, past: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """One pass; the causal mask is built here, so that no library code depends on traced sizes."""
        cache = DynamicCache()
        for layer, (key, value) in enumerate(past):
            cache.update(key, value, layer)
        new, total = embeds.shape[1], mask_BT.shape[1]
        column = torch.arange(total).unsqueeze(0)
        row = (torch.arange(new) + (total - new)).unsqueeze(1)
        visible = (column <= row).unsqueeze(0) & mask_BT.to(torch.bool).unsqueeze(1)
        bias = torch.where(visible, 0.0, -1e9).to(embeds.dtype).unsqueeze(1)
        output = self.body(
            inputs_embeds=embeds, attention_mask=bias, position_ids=positions, past_key_values=cache, use_cache=True
        )
        return output.last_hidden_state, [(layer.keys, layer.values) for layer in cache.layers]


class ToolSetGraph(nn.Module):
    """Set attention over the shortlist."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, v_toolaware: Tensor) -> Tensor:
        """(P, D) to normalised classifier keys (P, Q)."""
        model = self.model
        tools = v_toolaware.unsqueeze(0)
        mask = torch.ones_like(tools[:, :, 0], dtype=torch.bool)
        keys = model.classifier.base_key(tools) + model.classifier.set_delta(model.tools(tools, mask))
        return model.classifier.key_norm(keys)[0]


class ContextGraph(nn.Module):
    """The curve."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, series: Tensor, log_horizon: Tensor) -> tuple[Tensor, Tensor]:
        """(G, 96, 4) and (1,) to v_temporal (E) and virtual tokens (V, D)."""
        vector, virtual = self.model.curve_context(series.unsqueeze(0), log_horizon.unsqueeze(0))
        return vector[0], virtual[0]


class OpenHeadsGraph(nn.Module):
    """Gate and first query."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, task_hidden: Tensor, slot_hidden: Tensor, v_temporal: Tensor) -> tuple[Tensor, ...]:
        """(S, D), (D), (E) to gate_logit (), request (Q), query (Q), end_logit ()."""
        return open_heads(self.model, task_hidden, slot_hidden, v_temporal)


class StepHeadsGraph(nn.Module):
    """Everything read after a chosen tool."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, steps: Tensor, slot_hidden: Tensor, request: Tensor, v_toolaware: Tensor, v_temporal: Tensor
    ) -> tuple[Tensor, ...]:
        """(K, D), (D), (Q), (D), (E) to query (Q), end_logit (), size (3), targets (5), depends (K)."""
        return step_heads(self.model, steps, slot_hidden, request, v_toolaware, v_temporal)


class TextGateGraph(nn.Module):
    """The gate inside generated text. The LM head itself is the token embedding, read from the shared file."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden: Tensor) -> Tensor:
        """(D) to gate_logit ()."""
        return self.model.gate(hidden)


@dataclass(frozen=True)
class GraphSpec:
    """A module with example inputs and the names of everything that goes in and out."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: Axes


def graph_specs(model: TOMASLLMModel, embedding: QuantisedEmbedding) -> dict[str, GraphSpec]:
    """All graphs of a model, traced at sizes that the parity check then avoids."""
    config, backbone = model.config, model.backbone.config
    d_model, layers = backbone.hidden_size, backbone.num_hidden_layers
    heads, width = backbone.num_key_value_heads, d_model // backbone.num_attention_heads
    d_key, d_temporal = config.heads.d_key, config.temporal.d_temporal

    def cache() -> tuple[Tensor, ...]:
        return tuple(torch.randn(1, heads, 6, width) for _ in range(2 * layers))

    past = [f"past_key_values.{y}.{kind}" for y in range(layers) for kind in ("key", "value")]
    present = [f"present.{y}.{kind}" for y in range(layers) for kind in ("key", "value")]
    return {
        "tool_encoder": GraphSpec(
            ToolEncoderGraph(model, embedding),
            (
                torch.randint(0, backbone.vocab_size, (3, 7)),
                torch.tensor([[True] * 7, [True] * 5 + [False] * 2, [True] * 2 + [False] * 5]),
                torch.randn(3, 5, 6),
                torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False] * 5]),
            ),
            ("token_ids", "token_mask", "rows", "row_mask"),
            ("v_toolaware", "key", "retrieval", "prefix_keys", "prefix_values"),
            {
                "token_ids": {0: "tools", 1: "text_tokens"},
                "token_mask": {0: "tools", 1: "text_tokens"},
                "rows": {0: "tools", 1: "profile_rows"},
                "row_mask": {0: "tools", 1: "profile_rows"},
                **{name: {0: "tools"} for name in ("v_toolaware", "key", "retrieval", "prefix_keys", "prefix_values")},
            },
        ),
        "tool_set": GraphSpec(
            ToolSetGraph(model),
            (torch.randn(5, d_model),),
            ("v_toolaware",),
            ("keys",),
            {"v_toolaware": {0: "shortlist"}, "keys": {0: "shortlist"}},
        ),
        "context": GraphSpec(
            ContextGraph(model),
            (torch.randn(2, config.temporal.points, 4), torch.randn(1)),
            ("series", "log_horizon"),
            ("v_temporal", "virtual_tokens"),
            {"series": {0: "gpus"}},
        ),
        "backbone": GraphSpec(
            BackboneGraph(model),
            (
                torch.randn(1, 5, d_model),
                torch.ones(1, 11, dtype=torch.int64),
                torch.arange(1, 6).unsqueeze(0),
                *cache(),
            ),
            ("inputs_embeds", "attention_mask", "position_ids", *past),
            ("last_hidden_state", *present),
            {
                "inputs_embeds": {0: "batch", 1: "sequence"},
                "attention_mask": {0: "batch", 1: "total_sequence"},
                "position_ids": {0: "batch", 1: "sequence"},
                "last_hidden_state": {0: "batch", 1: "sequence"},
                **{name: {0: "batch", 2: "past_sequence"} for name in past},
                **{name: {0: "batch", 2: "total_sequence"} for name in present},
            },
        ),
        "open_heads": GraphSpec(
            OpenHeadsGraph(model),
            (torch.randn(4, d_model), torch.randn(d_model), torch.randn(d_temporal)),
            ("task_hidden", "slot_hidden", "v_temporal"),
            ("gate_logit", "request", "query", "end_logit"),
            {"task_hidden": {0: "task_tokens"}},
        ),
        "step_heads": GraphSpec(
            StepHeadsGraph(model),
            (
                torch.randn(3, d_model),
                torch.randn(d_model),
                torch.randn(d_key),
                torch.randn(d_model),
                torch.randn(d_temporal),
            ),
            ("steps", "slot_hidden", "request", "v_toolaware", "v_temporal"),
            ("query", "end_logit", "size_logits", "targets", "depends_logits"),
            {"steps": {0: "steps"}, "depends_logits": {0: "steps"}},
        ),
        "text_gate": GraphSpec(TextGateGraph(model), (torch.randn(d_model),), ("hidden",), ("gate_logit",), {}),
    }
