"""The remaining-resource curve as the temporal encoder reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
CURVE_POINTS = 96


@dataclass(frozen=True)
class CurveScaler:
    """Normalises a curve (..., T, 4); CPU and memory are logged first because machines differ in size."""

    mode: Literal["minmax", "standard", "none"]
    offset: tuple[float, float, float, float]
    scale: tuple[float, float, float, float]

    @classmethod
    def fit(cls, curves: Float, mode: Literal["minmax", "standard", "none"]) -> CurveScaler:
        """Statistics over every point of the training curves."""
        logged = np.log1p(curves.reshape(-1, 4).astype(np.float64))
        if mode == "none":
            return cls(mode, (0.0,) * 4, (1.0,) * 4)
        if mode == "standard":
            offset, scale = logged.mean(axis=0), logged.std(axis=0)
        else:
            offset, scale = logged.min(axis=0), np.ptp(logged, axis=0)
        scale = np.where(scale > 1e-6, scale, 1.0)
        return cls(mode, tuple(map(float, offset)), tuple(map(float, scale)))  # type: ignore[arg-type]

    def transform(self, curves: Float) -> Float:
        """Normalised float32 curves of the same shape; ``none`` passes physical units through."""
        if self.mode == "none":
            return curves.astype(np.float32)
        scaled: Float = ((np.log1p(curves) - np.array(self.offset)) / np.array(self.scale)).astype(np.float32)
        return scaled


def window_features(series_GT4: Float, log_horizon: float, scaler: CurveScaler) -> tuple[Float, Float]:
    """Network inputs for one window: (G, T, 4) normalised curves and (1,) log horizon in seconds, about unit size."""
    return scaler.transform(series_GT4), np.array([log_horizon / 8.0], dtype=np.float32)
