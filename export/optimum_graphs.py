"""What stands around the backbone on a GPU: heads for whole batches, the token table and the LM head.

N tools, L text tokens, R profile rows, P shortlist, B requests, S task tokens, K steps, D width, Q key width, E curve
width, V virtual tokens, G GPUs, W vocabulary.
"""

from __future__ import annotations

import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor

from export.fused_qwen2 import Precision
from export.graphs import (
    OPEN_OUTPUTS,
    ROW_MASK,
    STEP_INPUTS,
    STEP_OUTPUTS,
    TEXT_MASK,
    GraphSpec,
    ModelGraph,
    alike,
    tool_set_spec,
    vector_and_key,
)
from export.qwen_layers import TRACED_OPSET
from export.trace import IR_VERSION
from tomas_router.engines.torch_engine import query_and_end
from tomas_router.model.tomas_model import TOMASLLMModel

ONNX_TYPES: dict[Precision, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
TABLE = "table"
"""The initialiser that holds the token table or the LM head, (W, D)."""


class ToolHeadsGraph(ModelGraph):
    """Tool texts behind the backbone; the backbone itself runs before, from its own graph."""

    def forward(
        self, token_ids: Tensor, token_mask: Tensor, embeds: Tensor, hidden: Tensor, rows: Tensor, row_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, L), (N, L), twice (N, L, D), (N, R, 6), (N, R) to v_toolaware (N, D), key (N, Q), retrieval (N, E)."""
        model = self.model
        states = embeds if model.config.tool.text_depth == "embeddings" else hidden
        v_toolaware, key = vector_and_key(model, states, token_mask, rows, row_mask)
        return v_toolaware, key, model.retrieval(embeds, embeds, token_ids, token_mask)


class TaskVectorGraph(ModelGraph):
    """What ranks tools before the task meets them."""

    def forward(self, token_ids: Tensor, token_mask: Tensor, embeds: Tensor) -> Tensor:
        """(B, S), (B, S), (B, S, D) to unit vectors (B, E)."""
        vector: Tensor = self.model.retrieval(embeds, embeds, token_ids, token_mask)
        return vector


class ContextsGraph(ModelGraph):
    """Curves of several requests, each with the same number of GPUs."""

    def forward(self, series: Tensor, log_horizon: Tensor) -> tuple[Tensor, Tensor]:
        """(B, G, 96, 4) and (B, 1) to v_temporal (B, E) and virtual tokens (B, V, D)."""
        return self.model.curve_context(series, log_horizon)


class OpenHeadsGraph(ModelGraph):
    """Gates and first queries."""

    def forward(
        self, task_hidden: Tensor, task_mask: Tensor, gate_hidden: Tensor, slot_hidden: Tensor, v_temporal: Tensor
    ) -> tuple[Tensor, ...]:
        """(B, S, D), (B, S), (B, D), (B, D), (B, E) to gate_logit (B), request and query (B, Q), end_logit (B)."""
        model, classifier = self.model, self.model.classifier
        pooled = model.task_pool(model.state_norm(task_hidden), task_mask)
        request = classifier.task_query(pooled) + classifier.curve_query(v_temporal)
        query, end = query_and_end(model, model.state_norm(slot_hidden), request)
        return model.gate(model.state_norm(gate_hidden)), request, query, end


class StepHeadsGraph(ModelGraph):
    """Everything read after the chosen tools of requests that are equally far."""

    def forward(
        self, steps: Tensor, slot_hidden: Tensor, request: Tensor, v_toolaware: Tensor, v_temporal: Tensor
    ) -> tuple[Tensor, ...]:
        """(B, K, D), (B, D), (B, Q), (B, D), (B, E) to query (B, Q), end (B), size (B, 3), targets (B, 5), depends."""
        model = self.model
        query, end = query_and_end(model, model.state_norm(slot_hidden), request)
        steps = model.state_norm(steps)
        last = steps[:, -1]
        size = model.resource.size_logits(last)
        targets = model.resource(last, v_toolaware, v_temporal, size.softmax(-1))
        return query, end, size, targets, model.dependency(steps)[:, -1]


class TextGateGraph(ModelGraph):
    """Whether a text should end and a plan begin."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, D) to (B)."""
        gate: Tensor = self.model.gate(self.model.state_norm(hidden))
        return gate


def head_specs(model: TOMASLLMModel) -> dict[str, GraphSpec]:
    """All graphs that are traced; sizes here are avoided by the parity check."""
    config, backbone = model.config, model.backbone.config
    d_model, d_key, d_temporal, vocab = (
        backbone.hidden_size,
        config.heads.d_key,
        config.temporal.d_temporal,
        backbone.vocab_size,
    )
    batch, tools = {0: "batch"}, {0: "tools"}
    words, task = {0: "tools", 1: "text_tokens"}, {0: "batch", 1: "task_tokens"}
    return {
        "tool_heads": GraphSpec(
            ToolHeadsGraph(model),
            (
                torch.randint(0, vocab, (3, 7)),
                TEXT_MASK,
                torch.randn(3, 7, d_model),
                torch.randn(3, 7, d_model),
                torch.randn(3, 5, 6),
                ROW_MASK,
            ),
            ("token_ids", "token_mask", "embeds", "hidden", "rows", "row_mask")
            if config.tool.text_depth == "backbone"
            else ("token_ids", "token_mask", "embeds", "rows", "row_mask"),
            ("v_toolaware", "key", "retrieval"),
            alike(words, "token_ids", "token_mask", "embeds", "hidden")
            | alike({0: "tools", 1: "profile_rows"}, "rows", "row_mask")
            | alike(tools, "v_toolaware", "key", "retrieval"),
        ),
        "task_vector": GraphSpec(
            TaskVectorGraph(model),
            (torch.randint(0, vocab, (3, 7)), TEXT_MASK, torch.randn(3, 7, d_model)),
            ("token_ids", "token_mask", "embeds"),
            ("retrieval",),
            alike(task, "token_ids", "token_mask", "embeds") | {"retrieval": batch},
        ),
        "tool_set": tool_set_spec(model),
        "context": GraphSpec(
            ContextsGraph(model),
            (torch.randn(3, 2, config.temporal.points, 4), torch.randn(3, 1)),
            ("series", "log_horizon"),
            ("v_temporal", "virtual_tokens"),
            {"series": {0: "batch", 1: "gpus"}, "log_horizon": batch, "v_temporal": batch, "virtual_tokens": batch},
        ),
        "open_heads": GraphSpec(
            OpenHeadsGraph(model),
            (
                torch.randn(3, 7, d_model),
                TEXT_MASK,
                torch.randn(3, d_model),
                torch.randn(3, d_model),
                torch.randn(3, d_temporal),
            ),
            ("task_hidden", "task_mask", "gate_hidden", "slot_hidden", "v_temporal"),
            OPEN_OUTPUTS,
            alike(task, "task_hidden", "task_mask")
            | alike(batch, "gate_hidden", "slot_hidden", "v_temporal", *OPEN_OUTPUTS),
        ),
        "step_heads": GraphSpec(
            StepHeadsGraph(model),
            (
                torch.randn(2, 3, d_model),
                torch.randn(2, d_model),
                torch.randn(2, d_key),
                torch.randn(2, d_model),
                torch.randn(2, d_temporal),
            ),
            STEP_INPUTS,
            STEP_OUTPUTS,
            alike({0: "batch", 1: "steps"}, "steps", "depends_logits")
            | alike(batch, *STEP_INPUTS[1:], *STEP_OUTPUTS[:-1]),
        ),
        "text_gate": GraphSpec(
            TextGateGraph(model),
            (torch.randn(2, d_model),),
            ("hidden",),
            ("gate_logit",),
            {"hidden": batch, "gate_logit": batch},
        ),
    }


def embedding_graph(vocab: int, d_model: int, precision: Precision) -> ModelProto:
    """Token ids (B, S) to embeddings (B, S, D); the table has no content yet."""
    kind = ONNX_TYPES[precision]
    return _model(
        "token_embedding",
        [helper.make_node("Gather", [TABLE, "token_ids"], ["embeds"], axis=0)],
        [helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("embeds", kind, ["batch", "sequence", d_model])],
        [_empty(kind, (vocab, d_model))],
    )


def lm_head_graph(vocab: int, d_model: int, precision: Precision) -> ModelProto:
    """Hidden states (B, D) to the next token's logits (B, W), both float32; the weight has no content yet."""
    kind = ONNX_TYPES[precision]
    return _model(
        "lm_head",
        [
            helper.make_node("Cast", ["hidden"], ["narrow"], to=kind),
            helper.make_node("Gemm", ["narrow", TABLE], ["product"], transB=1),
            helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
        ],
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", d_model])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", vocab])],
        [_empty(kind, (vocab, d_model))],
    )


def _model(name: str, nodes: list, inputs: list, outputs: list, initializers: list[TensorProto]) -> ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", TRACED_OPSET)], ir_version=IR_VERSION)


def _empty(kind: int, shape: tuple[int, int]) -> TensorProto:
    return TensorProto(name=TABLE, data_type=kind, dims=shape)
