"""From single tools to a set of candidates.

N tools, D model width = d_tool + d_resource.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ToolAwareEmbedding(nn.Module):
    """Concatenates v_tool and v_resource to v_toolaware, whose width is the backbone's."""

    def __init__(self, d_tool: int, d_resource: int, d_model: int) -> None:
        super().__init__()
        if d_tool + d_resource != d_model:
            raise ValueError(f"d_tool + d_resource must equal the model width {d_model}, got {d_tool} + {d_resource}")
        self.d_tool = d_tool

    def forward(self, v_tool_NE: Tensor, v_resource_NE: Tensor) -> Tensor:
        """(N, d_tool) and (N, d_resource) to v_toolaware (N, D)."""
        return torch.cat([v_tool_NE, v_resource_NE], dim=-1)

    def split(self, v_toolaware_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The exact inverse of ``forward``."""
        return v_toolaware_ND[..., : self.d_tool], v_toolaware_ND[..., self.d_tool :]


class ToolSetAttention(nn.Module):
    """Lets the candidates of one request see each other; order has no influence."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.attention = nn.MultiheadAttention(d_model, num_heads, batch_first=True)

    def forward(self, tools_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """(B, N, D) and mask (True = candidate) to (B, N, D); every request needs at least one candidate.

        Uses the parameters of ``nn.MultiheadAttention`` directly: its own forward bakes traced sizes into ONNX graphs.
        """
        layer = self.attention
        packed = F.linear(self.norm(tools_BND), layer.in_proj_weight, layer.in_proj_bias)
        # (B, N, 3 D) -> three times (B, heads, N, D / heads)
        query, key, value = (x.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for x in packed.chunk(3, dim=-1))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask_BN[:, None, None, :], -1e9).softmax(-1)
        mixed_BND: Tensor = layer.out_proj((weights @ value).transpose(1, 2).flatten(-2))
        return tools_BND + mixed_BND


class ToolSetEncoder(nn.Module):
    """Set attention and a feed-forward block: v_toolaware to h_toolset."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.attention = ToolSetAttention(d_model, num_heads)
        self.norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, d_model))

    def forward(self, v_toolaware_BND: Tensor, mask_BN: Tensor) -> Tensor:
        """(B, N, D) to h_toolset (B, N, D)."""
        h_BND = self.attention(v_toolaware_BND, mask_BN)
        h_toolset_BND: Tensor = h_BND + self.feed_forward(self.norm(h_BND))
        return h_toolset_BND
