"""Profile rows to ``v_resource``.

N tools, R profile rows, F = 6 features, E = d_resource.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_FEATURES = 6


class ResourceMLP(nn.Module):
    """Encodes each row, then pools to one vector a tool; tools without rows share a learned vector."""

    def __init__(self, d_resource: int, d_hidden: int = 128) -> None:
        super().__init__()
        self.row = nn.Sequential(nn.Linear(NUM_FEATURES, d_hidden), nn.GELU(), nn.Linear(d_hidden, d_hidden))
        self.pooled = nn.Linear(2 * d_hidden, d_resource)
        self.no_profile_E = nn.Parameter(torch.zeros(d_resource))

    def forward(self, rows_NRF: Tensor, mask_NR: Tensor) -> Tensor:
        """Scaled rows (N, R, 6) and their mask (True = real) to v_resource (N, E)."""
        hidden_NRH = self.row(rows_NRF)
        weight_NR1 = mask_NR.to(hidden_NRH.dtype).unsqueeze(-1)
        mean_NH = (hidden_NRH * weight_NR1).sum(1) / weight_NR1.sum(1).clamp(min=1.0)
        # -1e4 instead of -inf: a tool without rows must not produce NaN before it is replaced below.
        peak_NH = (hidden_NRH * weight_NR1 + (weight_NR1 - 1.0) * 1e4).amax(1)
        pooled_NE = self.pooled(torch.cat([mean_NH, peak_NH.clamp(min=-1e2)], dim=-1))
        has_rows_N1 = mask_NR.any(dim=1, keepdim=True)
        return torch.where(has_rows_N1, pooled_NE, self.no_profile_E.to(pooled_NE.dtype))
