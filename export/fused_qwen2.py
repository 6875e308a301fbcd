"""The backbone's upper layers in a precision of choice, made of the operators that ONNX Runtime has fused kernels for.

Like ``export.qwen_layers``, with what a GPU wants beside it: q, k and v come out of one product, the residual sum and
the next norm are one operator, and the mask is computed without shape arithmetic, which would keep a CUDA graph from
being captured. One class for Optimum's exporter, because it asks for a ``PreTrainedModel``.

Precisions. ``bfloat16`` has the range of ``float32`` and needs no care. ``float16`` ends at 65,504, which the residual
sums and the feed-forward blocks of Qwen2.5-7B pass: there the residual sum and the norms are float32, and what enters
and leaves the last product of a block is divided by ``DOWN_SCALE``, a power of two, so that nothing is rounded by it.

B batch, T new tokens, P cached tokens, X = P + T, D width, I feed-forward width, E = (G + 2 H) C for G query heads,
H key/value heads and C head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from transformers import PreTrainedModel, Qwen2Config
from transformers.modeling_outputs import BaseModelOutputWithPast

from export.quantize import CONTRIB
from export.qwen_layers import PLACEHOLDER_DOMAIN, plain_attention, standard_attention, standard_rotary

Precision = Literal["float32", "float16", "bfloat16"]
AttentionKind = Literal["standard", "grouped"]
"""``standard``: the operator of opset 23, with a mask, any batch. ``grouped``: ONNX Runtime's GroupQueryAttention,
which reads no mask and takes one request at a time behind a cache; for measuring what flash attention would bring."""
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
DOWN_SCALE = 128.0
"""Activations up to 8.4 million survive in float16."""
MASKED = {torch.float32: -1e9, torch.bfloat16: -1e9, torch.float16: -3e4}

KeysValues = tuple[Tensor, Tensor]


class FusedLayer(nn.Module):
    """One layer. Weights are stored as (inputs, outputs), the way a product reads them."""

    def __init__(self, config: Qwen2Config, precision: Precision, attention: AttentionKind) -> None:
        super().__init__()
        self.query_heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = head_dim(config)
        self.epsilon, self.attention = float(config.rms_norm_eps), attention
        self.work = DTYPES[precision]
        self.scaled = precision == "float16"
        d_model, d_inner = config.hidden_size, config.intermediate_size
        self.query_width, self.kv_width = self.query_heads * self.head_dim, self.kv_heads * self.head_dim
        width = self.query_width + 2 * self.kv_width
        norm, work = residual_dtype(precision), self.work
        self.input_norm = nn.Parameter(torch.ones(d_model, dtype=norm))
        self.qkv = nn.Parameter(torch.zeros(d_model, width, dtype=work))
        self.qkv_bias = nn.Parameter(torch.zeros(width, dtype=work))
        self.out = nn.Parameter(torch.zeros(self.query_width, d_model, dtype=work))
        self.post_norm = nn.Parameter(torch.ones(d_model, dtype=norm))
        self.gate = nn.Parameter(torch.zeros(d_model, d_inner, dtype=work))
        self.up = nn.Parameter(torch.zeros(d_model, d_inner, dtype=work))
        self.down = nn.Parameter(torch.zeros(d_inner, d_model, dtype=work))

    def forward(
        self, residual: Tensor, added: Tensor | None, shared: SharedInputs, past: KeysValues
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """Residual (B, T, D) and what the layer below adds to it, to the same of this layer and its longer cache."""
        normed, residual = self._norm(residual, added, self.input_norm)
        mixed, present = self._attention(cast(normed, self.work), shared, past)
        normed, residual = self._norm(residual, cast(mixed @ self.out, residual.dtype), self.post_norm)
        return residual, cast(self._feed_forward(cast(normed, self.work)), residual.dtype), present

    def _norm(self, residual: Tensor, added: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        if added is None:
            return rms_norm(residual, weight, self.epsilon), residual
        return skip_norm(residual, added, weight, self.epsilon)

    def _attention(self, normed: Tensor, shared: SharedInputs, past: KeysValues) -> tuple[Tensor, KeysValues]:
        qkv = normed @ self.qkv + self.qkv_bias
        query_key, value = qkv.split([self.query_width + self.kv_width, self.kv_width], dim=-1)
        turned = standard_rotary(
            query_key, shared.cos, shared.sin, shared.positions_BT, self.query_heads + self.kv_heads
        )
        query, key = turned.split([self.query_width, self.kv_width], dim=-1)
        heads = self.query_heads, self.kv_heads
        if self.attention == "grouped":
            mixed, keys, values = _GroupedAttention.apply(
                query, key, value, shared.bias, shared.last_index_B, shared.total, *heads, *past
            )
        else:
            mixed, keys, values = standard_attention(query, key, value, shared.bias, *heads, *past)
        return mixed, (keys, values)

    def _feed_forward(self, normed: Tensor) -> Tensor:
        gate, up = normed @ self.gate, normed @ self.up
        if not self.scaled:
            product: Tensor = (_silu(gate) * up) @ self.down
            return product
        inner = (_silu(gate.float()) * up.float() * (1.0 / DOWN_SCALE)).to(self.work)
        scaled: Tensor = (inner @ self.down).float() * DOWN_SCALE
        return scaled


class SharedInputs:
    """What every layer reads: rotary tables, positions, and who sees whom."""

    def __init__(self, cos: Tensor, sin: Tensor, mask_BX: Tensor, positions_BT: Tensor) -> None:
        self.cos, self.sin, self.positions_BT = cos, sin, positions_BT
        self.bias = visible_bias(mask_BX, positions_BT, cos.dtype)
        self.last_index_B = (mask_BX.sum(1) - 1).to(torch.int32)
        self.total = torch.tensor(mask_BX.shape[1], dtype=torch.int32)


class FusedQwen2(PreTrainedModel):
    """Embeddings in, hidden states in float32 and the longer cache out; fresh weights, filled by ``fused_layer``."""

    config_class = Qwen2Config
    main_input_name = "inputs_embeds"

    def __init__(
        self,
        config: Qwen2Config,
        precision: Precision = "float32",
        max_positions: int = 512,
        attention: AttentionKind = "standard",
    ) -> None:
        super().__init__(config)
        self.precision = precision
        self.layers = nn.ModuleList(FusedLayer(config, precision, attention) for _ in range(config.num_hidden_layers))
        self.final_norm = nn.Parameter(torch.ones(config.hidden_size, dtype=residual_dtype(precision)))
        cos, sin = rotary_tables(config, max_positions)
        self.register_buffer("cos", cos.to(DTYPES[precision]), persistent=False)
        self.register_buffer("sin", sin.to(DTYPES[precision]), persistent=False)

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_key_values: Iterable[KeysValues],
    ) -> BaseModelOutputWithPast:
        """(B, T, D), (B, X), (B, T) and a cache of P tokens to hidden states (B, T, D) and a cache of X tokens."""
        shared = SharedInputs(self.cos, self.sin, attention_mask, position_ids)
        residual, added, present = cast(inputs_embeds, residual_dtype(self.precision)), None, []
        for layer, past in zip(self.layers, past_key_values, strict=True):
            residual, added, longer = layer(residual, added, shared, past)
            present.append(longer)
        assert added is not None
        hidden = last_norm(residual, added, self.final_norm, float(self.config.rms_norm_eps))
        return BaseModelOutputWithPast(last_hidden_state=cast(hidden, torch.float32), past_key_values=tuple(present))


def residual_dtype(precision: Precision) -> torch.dtype:
    """Of the residual sum and the norms."""
    return torch.float32 if precision == "float16" else DTYPES[precision]


def head_dim(config: Qwen2Config) -> int:
    """Width of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rotary_tables(config: Qwen2Config, max_positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (max_positions, C / 2) in float32."""
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

    tables = Qwen2RotaryEmbedding(config)(torch.zeros(1), torch.arange(max_positions).unsqueeze(0))
    half = head_dim(config) // 2
    cos, sin = (table[0, :, :half].float().contiguous() for table in tables)
    return cos, sin


def fused_layer(read: Callable[[str], Tensor], precision: Precision) -> dict[str, Callable[[], Tensor]]:
    """How each tensor of a ``FusedLayer`` is made of a Qwen2 layer's, one at a time.

    Args:
        read: Tensor of the layer by its name, ``self_attn.q_proj.weight`` and so on.
        precision: Of the result.
    """
    work, norm = DTYPES[precision], residual_dtype(precision)

    def turned(*names: str) -> Callable[[], Tensor]:
        return lambda: torch.cat([read(f"{name}.weight").to(work) for name in names]).T.contiguous()

    qkv = [f"self_attn.{part}_proj" for part in "qkv"]
    return {
        "input_norm": lambda: read("input_layernorm.weight").to(norm),
        "qkv": turned(*qkv),
        "qkv_bias": lambda: torch.cat([read(f"{name}.bias").to(work) for name in qkv]),
        "out": turned("self_attn.o_proj"),
        "post_norm": lambda: read("post_attention_layernorm.weight").to(norm),
        "gate": turned("mlp.gate_proj"),
        "up": turned("mlp.up_proj"),
        "down": turned("mlp.down_proj"),
    }


def visible_bias(mask_BX: Tensor, positions_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a new token sees an earlier one or itself, a large negative number elsewhere: (B, 1, T, X).

    Lengths come from running sums, not from shapes: a shape is a number on the host.
    """
    column_BX = (mask_BX * 0 + 1).cumsum(1)
    row_BT = (positions_BT * 0 + 1).cumsum(1)
    past_B1 = column_BX[:, -1:] - row_BT[:, -1:]
    seen_BTX = column_BX.unsqueeze(1) <= (past_B1 + row_BT).unsqueeze(2)
    visible_BTX = (seen_BTX & mask_BX.to(torch.bool).unsqueeze(1)).to(dtype)
    return ((visible_BTX - 1) * -MASKED[dtype]).unsqueeze(1)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Another type where it is another; ``Tensor.to`` leaves a node in the graph in any case."""
    return x if x.dtype == dtype else x.to(dtype)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square norm, computed in float32."""
    normed: Tensor = _RmsNorm.apply(x, weight, epsilon)
    return normed


def skip_norm(x: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The norm of ``x + added``, and the sum itself."""
    normed, total = _SkipNorm.apply(x, added, weight, epsilon)
    return normed, total


def last_norm(x: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """The norm of ``x + added`` alone; the tracer fails on a function's output that nobody reads."""
    normed: Tensor = _LastNorm.apply(x, added, weight, epsilon)
    return normed


def _plain_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype) * weight


def _silu(x: Tensor) -> Tensor:
    out: Tensor = _QuickGelu.apply(x)
    return out


class _RmsNorm(Function):
    @staticmethod
    def forward(_: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return _plain_norm(x, weight, epsilon)

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, epsilon: float) -> Any:
        normed = g.op(f"{PLACEHOLDER_DOMAIN}::RMSNormalization", x, weight, axis_i=-1, epsilon_f=epsilon)
        return normed.setType(x.type())


class _SkipNorm(Function):
    @staticmethod
    def forward(_: Any, x: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        total = x + added
        return _plain_norm(total, weight, epsilon), total

    @staticmethod
    def symbolic(g: Any, x: Any, added: Any, weight: Any, epsilon: float) -> Any:
        normed, _, _, total = _skip_norm_node(g, x, added, weight, epsilon)
        return normed, total


class _LastNorm(Function):
    @staticmethod
    def forward(_: Any, x: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return _plain_norm(x + added, weight, epsilon)

    @staticmethod
    def symbolic(g: Any, x: Any, added: Any, weight: Any, epsilon: float) -> Any:
        return _skip_norm_node(g, x, added, weight, epsilon)[0]


def _skip_norm_node(g: Any, x: Any, added: Any, weight: Any, epsilon: float) -> Any:
    """Outputs as the operator has them: norm, two that it leaves empty, sum."""
    outputs = g.op(f"{CONTRIB}::SkipSimplifiedLayerNormalization", x, added, weight, epsilon_f=epsilon, outputs=4)
    for output in outputs:
        output.setType(x.type())
    return outputs


class _QuickGelu(Function):
    """x * sigmoid(x), which the feed-forward block calls silu."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return nn.functional.silu(x)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        return g.op(f"{CONTRIB}::QuickGelu", x, alpha_f=1.0).setType(x.type())


class _GroupedAttention(Function):
    @staticmethod
    def forward(
        _: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        last_index_B: Tensor,  # noqa: ARG004  # only the operator reads lengths
        total: Tensor,  # noqa: ARG004
        query_heads: int,
        kv_heads: int,
        *past: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return plain_attention(query, key, value, bias, query_heads, kv_heads, *past)

    @staticmethod
    def symbolic(
        g: Any,
        query: Any,
        key: Any,
        value: Any,
        bias: Any,  # noqa: ARG004  # causal by itself
        last_index_B: Any,
        total: Any,
        query_heads: int,
        kv_heads: int,
        *past: Any,
    ) -> Any:
        heads = {"num_heads_i": query_heads, "kv_num_heads_i": kv_heads}
        outputs = g.op(
            f"{CONTRIB}::GroupQueryAttention", query, key, value, *past, last_index_B, total, **heads, outputs=3
        )
        outputs[0].setType(query.type())
        for output, cache in zip(outputs[1:], past, strict=True):
            output.setType(cache.type())
        return outputs
