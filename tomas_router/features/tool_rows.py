"""Profile rows as six scaled numbers, and resource targets as five.

Order of the six features: input size (0, 1, 2), cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms.
Targets are the last five. Demands span four orders of magnitude, so all but the size enter as ``log1p``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
SIZE_INDEX = {"small": 0, "medium": 1, "large": 2}


def raw_features(rows: Sequence[Any]) -> Float:
    """(R, 6) float32 in physical units from objects with the fields of a profile row."""
    return np.array(
        [[SIZE_INDEX[r.input_size], r.cpu_core, r.cpu_mem_gb, r.gpu_sm, r.gpu_mem_gb, r.latency_ms] for r in rows],
        dtype=np.float32,
    ).reshape(len(rows), 6)


@dataclass(frozen=True)
class RowScaler:
    """Scales the six features; its statistics travel with the weights."""

    mode: Literal["zscore", "minmax"]
    offset: tuple[float, ...]  # 6: mean or minimum of the logged features
    scale: tuple[float, ...]  # 6: standard deviation or range, > 0

    @classmethod
    def fit(cls, features_R6: Float, mode: Literal["zscore", "minmax"] = "zscore") -> RowScaler:
        """Statistics of a training table."""
        logged = _log(features_R6)
        if mode == "zscore":
            offset, scale = logged.mean(axis=0), logged.std(axis=0)
        else:
            offset, scale = logged.min(axis=0), np.ptp(logged, axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        return cls(mode, tuple(float(v) for v in offset), tuple(float(v) for v in scale))

    def transform(self, features: Float) -> Float:
        """(..., 6) physical units to scaled numbers."""
        scaled: Float = ((_log(features) - np.array(self.offset)) / np.array(self.scale)).astype(np.float32)
        return scaled

    def transform_targets(self, targets: Float) -> Float:
        """(..., 5) cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms to scaled numbers."""
        scaled: Float = ((np.log1p(targets) - np.array(self.offset[1:])) / np.array(self.scale[1:])).astype(np.float32)
        return scaled

    def inverse_targets(self, scaled: Float) -> Float:
        """Scaled numbers back to physical units, never negative, gpu_sm at most 100."""
        logged = scaled * np.array(self.scale[1:], dtype=np.float32) + np.array(self.offset[1:], dtype=np.float32)
        physical = np.expm1(np.clip(logged, 0.0, 25.0)).astype(np.float32)
        physical[..., 2] = np.minimum(physical[..., 2], 100.0)
        return physical


def _log(features: Float) -> Float:
    logged = np.array(features, dtype=np.float32)
    logged[..., 1:] = np.log1p(logged[..., 1:])
    return logged


def pad_rows(rows_per_tool: Sequence[Float], max_rows: int) -> tuple[Float, NDArray[np.bool_]]:
    """(N, R, 6) zero-padded and its mask; tools with more rows keep an even spread of ``max_rows``."""
    kept = [_spread(rows, max_rows) for rows in rows_per_tool]
    width = max((len(rows) for rows in kept), default=1) or 1
    padded = np.zeros((len(kept), width, 6), dtype=np.float32)
    mask = np.zeros((len(kept), width), dtype=bool)
    for index, rows in enumerate(kept):
        padded[index, : len(rows)] = rows
        mask[index, : len(rows)] = True
    return padded, mask


def _spread(rows: Float, max_rows: int) -> Float:
    if len(rows) <= max_rows:
        return rows
    spread: Float = rows[np.linspace(0, len(rows) - 1, max_rows).round().astype(int)]
    return spread
