"""The remaining-resource curve to one vector.

B requests, G GPUs (one curve each), T points, C = 4 resources, E = d_temporal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tomas_router.config import TemporalConfig

NUM_RESOURCES = 4


class TemporalCNN(nn.Module):
    """Multi-scale 1-D convolutions over time; statistics over time keep it cheap and length-independent."""

    def __init__(self, channels: int, kernels: tuple[int, ...], d_temporal: int) -> None:
        super().__init__()
        self.first = nn.ModuleList([nn.Conv1d(NUM_RESOURCES, channels, k, padding=k // 2) for k in kernels])
        width = channels * len(kernels)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        # Mean, minimum and maximum over time, and the first points: "what is free now" decides most starts.
        self.project = nn.Linear(3 * width + 8 * NUM_RESOURCES, d_temporal)

    def forward(self, series_BTC: Tensor) -> Tensor:
        """Normalised curves (B, T, 4), T >= 8, to (B, E)."""
        series_BCT = series_BTC.transpose(1, 2)
        hidden = torch.cat([nn.functional.gelu(conv(series_BCT)) for conv in self.first], dim=1)
        hidden = nn.functional.gelu(self.second(hidden))
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1), hidden.amin(-1), series_BCT[..., :8].flatten(1)], dim=-1)
        vector_BE: Tensor = self.project(pooled)
        return vector_BE


class TemporalEncoder(nn.Module):
    """TemporalCNN for each GPU's curve, pooled, with the length of the window beside it."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.cnn = TemporalCNN(config.channels, config.kernels, config.d_temporal)
        self.horizon = nn.Linear(1, config.d_temporal)
        self.mix = nn.Sequential(
            nn.LayerNorm(config.d_temporal),
            nn.Linear(config.d_temporal, config.d_temporal),
            nn.GELU(),
            nn.Linear(config.d_temporal, config.d_temporal),
        )

    def forward(self, series_BGTC: Tensor, log_horizon_B1: Tensor) -> Tensor:
        """Curves (B, G, T, 4) and scaled log horizons (B, 1) to (B, E); the order of GPUs has no influence."""
        batch, gpus, points, _ = series_BGTC.shape
        per_gpu = self.cnn(series_BGTC.reshape(batch * gpus, points, NUM_RESOURCES))
        pooled_BE = per_gpu.reshape(batch, gpus, -1).mean(1) + self.horizon(log_horizon_B1)
        vector_BE: Tensor = pooled_BE + self.mix(pooled_BE)
        return vector_BE
