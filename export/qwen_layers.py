"""The backbone's layers written with the ONNX operators made for them.

Traced through transformers, a layer becomes about 250 nodes, most of them shape arithmetic, which cost a third of a
short pass. Here it is 22: RMSNormalization, RotaryEmbedding and Attention are standard operators since opset 23. The
weights are the checkpoint's own modules, and the parity check compares with transformers.

B batch, T new tokens, P cached tokens, N tools, Y layers, G query heads, H key/value heads, C head width, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from tomas_router.model.backbone import QwenBackbone

PLACEHOLDER_DOMAIN = "opset23"
"""The exporter stops at opset 20: newer operators get this domain while tracing and the standard one afterwards."""
OPSET = 23
TRACED_OPSET = 20
MASKED = -1e9

KeysValues = tuple[Tensor, Tensor]


class Qwen2Layers(nn.Module):
    """The same function as ``QwenBackbone``, ready to be traced.

    Args:
        backbone: Whose weights are used.
        max_positions: Length of the rotary tables; a later position is an error at run time.
        body: Layers in place of the backbone's own (see ``export.smoothing``).
    """

    def __init__(self, backbone: QwenBackbone, max_positions: int, body: Any = None) -> None:
        super().__init__()
        config = backbone.config
        self.body: Any = backbone.lm.model if body is None else body
        self.query_heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        self.epsilon = float(config.rms_norm_eps)
        positions = torch.arange(max_positions).unsqueeze(0)
        cos, sin = self.body.rotary_emb(torch.zeros(1, dtype=torch.float32), positions)
        # Both halves of a head turn alike, so the operator takes one half; sizes (max_positions, C / 2).
        self.register_buffer("cos", cos[0, :, : self.head_dim // 2].float().contiguous())
        self.register_buffer("sin", sin[0, :, : self.head_dim // 2].float().contiguous())

    def forward(
        self, embeds_BTD: Tensor, mask_BX: Tensor, positions_BT: Tensor, past: list[KeysValues] | None = None
    ) -> tuple[Tensor, list[KeysValues]]:
        """Hidden states (B, T, D) and, per layer, keys and values (B, H, P + T, C); X = P + T, True = real."""
        bias = visible_bias(mask_BX, embeds_BTD.shape[1]).to(embeds_BTD.dtype)
        hidden, present = embeds_BTD, []
        for index, layer in enumerate(self.body.layers):
            attention, normed = layer.self_attn, self._norm(layer.input_layernorm, hidden)
            query = _Rotary.apply(attention.q_proj(normed), self.cos, self.sin, positions_BT, self.query_heads)
            key = _Rotary.apply(attention.k_proj(normed), self.cos, self.sin, positions_BT, self.kv_heads)
            value = attention.v_proj(normed)
            cached = () if past is None else past[index]
            mixed, keys, values = _Attention.apply(query, key, value, bias, self.query_heads, self.kv_heads, *cached)
            hidden = self._feed_forward(layer, hidden + attention.o_proj(mixed))
            present.append((keys, values))
        final = self.body.norm  # text layers end without one
        return (hidden if isinstance(final, nn.Identity) else self._norm(final, hidden)), present

    def alone(self, virtual_ND: Tensor) -> tuple[Tensor, Tensor]:
        """As ``QwenBackbone.encode_alone``: keys and values (N, Y, H, C) of tokens that each stand alone at position 0.

        There the rotation is the identity and attention returns the token's own value.
        """
        hidden, keys, values = virtual_ND, [], []
        group = self.query_heads // self.kv_heads
        own_value = torch.arange(self.kv_heads * self.head_dim).reshape(self.kv_heads, 1, self.head_dim)
        own_value = own_value.expand(-1, group, -1).reshape(-1)  # the value that each query head sees
        for index, layer in enumerate(self.body.layers):
            attention, normed = layer.self_attn, self._norm(layer.input_layernorm, hidden)
            keys.append(attention.k_proj(normed))
            values.append(attention.v_proj(normed))
            if index + 1 < len(self.body.layers):  # nothing reads the last layer's output
                hidden = self._feed_forward(layer, hidden + attention.o_proj(values[-1][:, own_value]))
        shape = (-1, len(keys), self.kv_heads, self.head_dim)
        return torch.stack(keys, dim=1).reshape(shape), torch.stack(values, dim=1).reshape(shape)

    def _feed_forward(self, layer: Any, hidden: Tensor) -> Tensor:
        mlp, normed = layer.mlp, self._norm(layer.post_attention_layernorm, hidden)
        out: Tensor = hidden + mlp.down_proj(mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        return out

    def _norm(self, module: Any, hidden: Tensor) -> Tensor:
        normed: Tensor = _RmsNorm.apply(hidden, module.weight, self.epsilon)
        return normed


def visible_bias(mask_BX: Tensor, new_tokens: int) -> Tensor:
    """0 where a new token sees an earlier one or itself, ``MASKED`` elsewhere: (B, 1, T, X)."""
    total = mask_BX.shape[1]
    column_1X = torch.arange(total).unsqueeze(0)
    row_T1 = (torch.arange(new_tokens) + (total - new_tokens)).unsqueeze(1)
    visible_BTX = (column_1X <= row_T1).unsqueeze(0) & mask_BX.to(torch.bool).unsqueeze(1)
    return torch.where(visible_BTX, 0.0, MASKED).unsqueeze(1)


def standard_rotary(x_BTE: Tensor, cos: Tensor, sin: Tensor, positions_BT: Tensor, heads: int) -> Tensor:
    """Turns every head of (B, T, E) by its position; tables (positions, C / 2)."""
    turned: Tensor = _Rotary.apply(x_BTE, cos, sin, positions_BT, heads)
    return turned


def standard_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, query_heads: int, kv_heads: int, *past: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, G C), twice (B, T, H C), (B, 1, T, X) and a cache to the mixed values (B, T, G C) and the longer cache."""
    mixed, keys, values = _Attention.apply(query, key, value, bias, query_heads, kv_heads, *past)
    return mixed, keys, values


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, query_heads: int, kv_heads: int, *past: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``standard_attention`` computes, written out."""

    def split(x: Tensor, heads: int) -> Tensor:
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    q, k, v = split(query, query_heads), split(key, kv_heads), split(value, kv_heads)
    if past:
        k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    group = query_heads // kv_heads
    score = q @ k.repeat_interleave(group, 1).transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
    mixed = (score.softmax(-1) @ v.repeat_interleave(group, 1)).transpose(1, 2)
    return mixed.reshape(*query.shape), k, v


class _RmsNorm(Function):
    @staticmethod
    def forward(_: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, epsilon: float) -> Any:
        return g.op(f"{PLACEHOLDER_DOMAIN}::RMSNormalization", x, weight, axis_i=-1, epsilon_f=epsilon).setType(
            x.type()
        )


class _Rotary(Function):
    @staticmethod
    def forward(_: Any, x_BTE: Tensor, cos: Tensor, sin: Tensor, positions_BT: Tensor, heads: int) -> Tensor:
        batch, length, _ = x_BTE.shape
        first, second = x_BTE.reshape(batch, length, heads, -1).chunk(2, dim=-1)
        cos_BT1C, sin_BT1C = cos[positions_BT].unsqueeze(2), sin[positions_BT].unsqueeze(2)
        turned = [first * cos_BT1C - second * sin_BT1C, second * cos_BT1C + first * sin_BT1C]
        return torch.cat(turned, dim=-1).reshape(batch, length, -1)

    @staticmethod
    def symbolic(g: Any, x: Any, cos: Any, sin: Any, positions: Any, heads: int) -> Any:
        rotated = g.op(f"{PLACEHOLDER_DOMAIN}::RotaryEmbedding", x, cos, sin, positions, num_heads_i=heads)
        return rotated.setType(x.type())


class _Attention(Function):
    @staticmethod
    def forward(
        _: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, query_heads: int, kv_heads: int, *past: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return plain_attention(query, key, value, bias, query_heads, kv_heads, *past)

    @staticmethod
    def symbolic(
        g: Any, query: Any, key: Any, value: Any, bias: Any, query_heads: int, kv_heads: int, *past: Any
    ) -> Any:
        heads = {"q_num_heads_i": query_heads, "kv_num_heads_i": kv_heads}
        outputs = g.op(f"{PLACEHOLDER_DOMAIN}::Attention", query, key, value, bias, *past, **heads, outputs=3)
        width = key.type().sizes()
        cache = [None, kv_heads, None, None if width is None or width[-1] is None else width[-1] // kv_heads]
        outputs[0].setType(query.type())
        for output in outputs[1:]:
            output.setType(key.type().with_sizes(cache))
        return outputs
