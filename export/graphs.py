"""The pieces of the network as modules with plain tensor inputs and outputs, ready to be traced.

N tools, L text tokens, R profile rows, P shortlist, S task tokens, T new tokens, K steps, Y layers, H key/value heads,
C head width, D width, Q key width, E curve width, V virtual tokens, G GPUs, W vocabulary, M blocks a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.qwen_layers import Qwen2Layers
from export.token_rows import FloatRows, PackedRows
from tomas_router.config import ModelConfig
from tomas_router.engines.torch_engine import open_heads, set_keys, step_heads
from tomas_router.model.tomas_model import TOMASLLMModel

Axes = dict[str, dict[int, str]]
EXPLANATION_ROOM = 256
"""Positions kept for generated text behind the longest task."""


def max_positions(config: ModelConfig) -> int:
    """Length of the rotary tables: the longest request, its plan and an explanation, in whole blocks of 64."""
    plan = 2 + 3 * config.max_steps
    longest = 1 + config.temporal.virtual_tokens + config.max_task_tokens + max(plan, EXPLANATION_ROOM)
    return -(-max(longest, config.tool.max_tokens) // 64) * 64


@dataclass(frozen=True)
class BackboneParts:
    """The text layers, if there are any, and the layers above them."""

    text: Qwen2Layers | None
    upper: Qwen2Layers


class ModelGraph(nn.Module):
    """A piece that reads nothing but the model's own parameters."""

    def __init__(self, model: TOMASLLMModel) -> None:
        super().__init__()
        self.model = model


class ToolEncoderGraph(nn.Module):
    """Everything that is cached per tool; encodes new tools without torch."""

    def __init__(self, model: TOMASLLMModel, parts: BackboneParts, tokens: nn.Module) -> None:
        super().__init__()
        self.model, self.text, self.layers, self.tokens = model, parts.text, parts.upper, tokens

    def forward(self, token_ids: Tensor, token_mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, ...]:
        """(N, L), (N, L), (N, R, 6), (N, R) to v_toolaware, key, retrieval, prefix_keys, prefix_values."""
        model = self.model
        embedded = self.tokens(token_ids)
        positions = torch.arange(token_ids.shape[1]).unsqueeze(0).expand(token_ids.shape[0], -1)
        states = embedded if self.text is None else self.text(embedded, token_mask, positions)[0]
        hidden = states
        if model.config.tool.text_depth == "backbone":
            hidden, _ = self.layers(states, token_mask, positions)
        v_toolaware, key = vector_and_key(model, hidden, token_mask, rows, row_mask)
        retrieval = model.retrieval(embedded, states, token_ids, token_mask)
        return v_toolaware, key, retrieval, *self.layers.alone(model.tool_token_norm(v_toolaware))


def vector_and_key(
    model: TOMASLLMModel, states: Tensor, token_mask: Tensor, rows: Tensor, row_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """(N, L, D), (N, L), (N, R, 6), (N, R) to v_toolaware (N, D) and normalised classifier key (N, Q)."""
    v_toolaware = model.tools.encode(states, token_mask, rows, row_mask)
    return v_toolaware, model.classifier.key_norm(model.classifier.base_key(v_toolaware))


class LayersGraph(nn.Module):
    """Embeddings or states in, hidden states and the longer cache out: text layers or the layers above."""

    def __init__(self, layers: Qwen2Layers) -> None:
        super().__init__()
        self.layers = layers

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """(B, T, D), (B, P + T), (B, T) and 2 Y tensors (B, H, P, C) to hidden (B, T, D) and 2 Y longer ones."""
        pairs = list(zip(past[::2], past[1::2], strict=True))
        hidden, present = self.layers(inputs_embeds, attention_mask, position_ids, pairs)
        return hidden, *(tensor for pair in present for tensor in pair)


class ToolSetGraph(ModelGraph):
    """Set attention over the shortlist."""

    def forward(self, v_toolaware: Tensor) -> Tensor:
        """(P, D) to normalised classifier keys (P, Q)."""
        return set_keys(self.model, v_toolaware)


class ContextGraph(ModelGraph):
    """The curve."""

    def forward(self, series: Tensor, log_horizon: Tensor) -> tuple[Tensor, Tensor]:
        """(G, 96, 4) and (1,) to v_temporal (E) and virtual tokens (V, D)."""
        vector, virtual = self.model.curve_context(series.unsqueeze(0), log_horizon.unsqueeze(0))
        return vector[0], virtual[0]


class OpenHeadsGraph(ModelGraph):
    """Gate and first query."""

    def forward(self, task_hidden: Tensor, slot_hidden: Tensor, v_temporal: Tensor) -> tuple[Tensor, ...]:
        """(S, D), (D), (E) to gate_logit (), request (Q), query (Q), end_logit ()."""
        return open_heads(self.model, task_hidden, slot_hidden, v_temporal)


class StepHeadsGraph(ModelGraph):
    """Everything read after a chosen tool."""

    def forward(
        self, steps: Tensor, slot_hidden: Tensor, request: Tensor, v_toolaware: Tensor, v_temporal: Tensor
    ) -> tuple[Tensor, ...]:
        """(K, D), (D), (Q), (D), (E) to query (Q), end_logit (), size (3), targets (5), depends (K)."""
        return step_heads(self.model, steps, slot_hidden, request, v_toolaware, v_temporal)


class LmHeadGraph(nn.Module):
    """Next token and gate for one position of generated text; run only when text is wanted."""

    def __init__(self, model: TOMASLLMModel, rows: PackedRows | FloatRows) -> None:
        super().__init__()
        self.model, self.rows = model, rows

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(1, D) to gate_logit (1) and the next token's logits (1, W)."""
        return self.model.gate(self.model.state_norm(hidden)), self.rows.product(hidden)


OPEN_OUTPUTS = ("gate_logit", "request", "query", "end_logit")
STEP_INPUTS = ("steps", "slot_hidden", "request", "v_toolaware", "v_temporal")
STEP_OUTPUTS = ("query", "end_logit", "size_logits", "targets", "depends_logits")
TEXT_MASK = torch.tensor([[True] * 7, [True] * 5 + [False] * 2, [True] * 2 + [False] * 5])
"""(3, 7) of the texts that graphs are traced with."""
ROW_MASK = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False] * 5])
"""(3, 5) of their profile rows."""


@dataclass(frozen=True)
class GraphSpec:
    """A module with example inputs and the names of everything that goes in and out."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: Axes


def graph_specs(
    model: TOMASLLMModel, parts: BackboneParts, tokens: PackedRows | FloatRows, lm_head: PackedRows | FloatRows
) -> dict[str, GraphSpec]:
    """All graphs of a model, traced at sizes that the parity check then avoids."""
    config, backbone = model.config, model.backbone.config
    d_model, d_key, d_temporal = backbone.hidden_size, config.heads.d_key, config.temporal.d_temporal
    text = {} if parts.text is None else {"text": layers_spec(parts.text, d_model)}
    return text | {
        "tool_encoder": GraphSpec(
            ToolEncoderGraph(model, parts, tokens),
            (torch.randint(0, backbone.vocab_size, (3, 7)), TEXT_MASK, torch.randn(3, 5, 6), ROW_MASK),
            ("token_ids", "token_mask", "rows", "row_mask"),
            ("v_toolaware", "key", "retrieval", "prefix_keys", "prefix_values"),
            alike({0: "tools", 1: "text_tokens"}, "token_ids", "token_mask")
            | alike({0: "tools", 1: "profile_rows"}, "rows", "row_mask")
            | alike({0: "tools"}, "v_toolaware", "key", "retrieval", "prefix_keys", "prefix_values"),
        ),
        "tool_set": tool_set_spec(model),
        "context": GraphSpec(
            ContextGraph(model),
            (torch.randn(2, config.temporal.points, 4), torch.randn(1)),
            ("series", "log_horizon"),
            ("v_temporal", "virtual_tokens"),
            {"series": {0: "gpus"}},
        ),
        "backbone": layers_spec(parts.upper, d_model),
        "open_heads": GraphSpec(
            OpenHeadsGraph(model),
            (torch.randn(4, d_model), torch.randn(d_model), torch.randn(d_temporal)),
            ("task_hidden", "slot_hidden", "v_temporal"),
            OPEN_OUTPUTS,
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
            STEP_INPUTS,
            STEP_OUTPUTS,
            alike({0: "steps"}, "steps", "depends_logits"),
        ),
        "lm_head": GraphSpec(
            LmHeadGraph(model, lm_head), (torch.randn(1, d_model),), ("hidden",), ("gate_logit", "logits"), {}
        ),
    }


def tool_set_spec(model: TOMASLLMModel) -> GraphSpec:
    """Set attention, the same in every layout."""
    return GraphSpec(
        ToolSetGraph(model),
        (torch.randn(5, model.backbone.config.hidden_size),),
        ("v_toolaware",),
        ("keys",),
        alike({0: "shortlist"}, "v_toolaware", "keys"),
    )


def layers_spec(layers: Qwen2Layers, d_model: int) -> GraphSpec:
    """A stack of layers with its cache."""
    depth = len(layers.body.layers)
    past = [f"past_key_values.{y}.{kind}" for y in range(depth) for kind in ("key", "value")]
    present = [f"present.{y}.{kind}" for y in range(depth) for kind in ("key", "value")]
    cache = [torch.randn(2, layers.kv_heads, 6, layers.head_dim) for _ in past]
    return GraphSpec(
        LayersGraph(layers),
        (torch.randn(2, 5, d_model), torch.ones(2, 11, dtype=torch.int64), torch.arange(1, 6).repeat(2, 1), *cache),
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
    )


def alike(axes: dict[int, str], *names: str) -> Axes:
    """The same dynamic axes for several inputs or outputs."""
    return dict.fromkeys(names, axes)
