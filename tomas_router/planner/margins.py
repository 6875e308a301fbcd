"""Room above a predicted demand: what a prediction is multiplied with, so that it is rarely too small.

A prediction of the mean is too small half of the time. A step that gets too little memory dies and is run again, which
costs more than memory that lies idle, so the memory of tools without profile is reserved at an upper quantile. The
quantile is conformal: it is taken of the ratios of true to predicted need over tools that the network had never met,
so it holds for the next such tool as far as that tool is like them.

What the shipped margins rest on, and what they cost: docs/resource_prediction.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PredictionMargins:
    """Factors for the predicted fields; 1 leaves a prediction as it is.

    Cores and the share of a GPU have none: a tool that gets fewer of them is slower, and its latency says so.

    Raises:
        ValueError: A factor is below 1 or not finite.
    """

    cpu_mem_gb: float = 1.0
    gpu_mem_gb: float = 1.0
    latency_ms: float = 1.0

    def __post_init__(self) -> None:
        for name in ("cpu_mem_gb", "gpu_mem_gb", "latency_ms"):
            factor = getattr(self, name)
            if not (math.isfinite(factor) and factor >= 1):
                raise ValueError(f"prediction margins: {name} must be a finite factor >= 1, got {factor}")

    def over(self, resources: Sequence[float]) -> tuple[float, float, float, float, float]:
        """cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb and latency_ms with the room added."""
        cpu, memory, sm, gpu_memory, latency = (float(value) for value in resources)
        return cpu, memory * self.cpu_mem_gb, sm, gpu_memory * self.gpu_mem_gb, latency * self.latency_ms


NO_MARGINS = PredictionMargins()


def conformal_factor(ratios: Sequence[float], quantile: float) -> float:
    """The least factor that covers the next ratio with this probability, if it is like the others; at least 1.

    Args:
        ratios: true over predicted need, each > 0; one a tool, or all sizes of a tool together.
        quantile: from 0 to 1. With few ratios the largest is as far as they can tell.

    Raises:
        ValueError: There is no ratio, or one is not a finite number > 0.
    """
    if not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
        raise ValueError(f"ratios must be finite numbers > 0, and at least one, got {list(ratios)[:5]}")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, got {quantile}")
    rank = min(math.ceil(quantile * (len(ratios) + 1)), len(ratios))
    return max(sorted(ratios)[rank - 1], 1.0)
