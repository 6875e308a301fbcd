"""Vectors of other panels as virtual tokens of the backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VirtualTokenNorm(nn.Module):
    """RMS-normalises to the size of the backbone's own token embeddings, so that a virtual token looks like one."""

    def __init__(self, d_model: int, embedding_rms: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((d_model,), embedding_rms))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        scaled: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain
        return scaled


class ContextProjector(nn.Module):
    """The curve's vector (B, E) to V virtual tokens (B, V, D)."""

    def __init__(self, d_temporal: int, virtual_tokens: int, d_model: int, embedding_rms: float) -> None:
        super().__init__()
        self.virtual_tokens = virtual_tokens
        self.project = nn.Linear(d_temporal, virtual_tokens * d_model)
        self.norm = VirtualTokenNorm(d_model, embedding_rms)

    def forward(self, v_temporal_BE: Tensor) -> Tensor:
        """(B, E) to (B, V, D)."""
        tokens = self.project(v_temporal_BE).reshape(v_temporal_BE.shape[0], self.virtual_tokens, -1)
        virtual_BVD: Tensor = self.norm(tokens)
        return virtual_BVD
