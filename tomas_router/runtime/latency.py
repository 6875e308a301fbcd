"""How long a decision takes (T_inf) and how long a step will take.

Three modes, switched by name:

* ``fixed``: one number, 500 ms by default.
* ``rule``: a table of tools (ms at medium size on CPU) times 0.5, 1 or 2 for small, medium, large, less 30 % on a GPU.
* ``learned``: a small network over the same facts, run in numpy from arrays that training produced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tomas_router.schema.profiling import InputSize, ProfilingTable, ResourceConfig

Float = NDArray[np.float32]
LatencyMode = Literal["fixed", "rule", "learned"]

DEFAULT_FIXED_MS = 500.0
SIZE_FACTORS: Mapping[str, float] = MappingProxyType({"small": 0.5, "medium": 1.0, "large": 2.0})
GPU_FACTOR = 0.7
DECISION = "<decision>"
"""The table's entry for the planner's own decision; no tool can have this name."""
NUM_FEATURES = 6


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of each tool at medium size on CPU."""

    medium_cpu_ms: Mapping[str, float]
    unknown_tool_ms: float = DEFAULT_FIXED_MS
    """For tools that the table does not list."""

    def __post_init__(self) -> None:
        for tool, ms in {**self.medium_cpu_ms, "unknown_tool_ms": self.unknown_tool_ms}.items():
            if not (math.isfinite(ms) and ms > 0):
                raise ValueError(f"latency table: {tool} must be a finite number > 0 ms, got {ms}")

    @classmethod
    def from_profiling(cls, profiling: ProfilingTable) -> LatencyTable:
        """Medians of a profiling table, brought to medium size and CPU by the rule's own factors."""
        medians = {}
        for tool in profiling.tools:
            scaled = [row.latency_ms / _factor(row.input_size, row.gpu_sm > 0) for row in profiling.rows(tool)]
            medians[tool] = float(np.median(scaled))
        return cls(medians)

    def updated(self, tool: str, medium_cpu_ms: float) -> LatencyTable:
        """The table with one tool changed or added."""
        return replace(self, medium_cpu_ms={**self.medium_cpu_ms, tool: medium_cpu_ms})

    def observed(
        self, tool: str, size: InputSize, uses_gpu: bool, measured_ms: float, weight: float = 0.2
    ) -> LatencyTable:
        """The table after a measured run: an exponential moving average at medium size on CPU."""
        seen = measured_ms / _factor(size, uses_gpu)
        known = self.medium_cpu_ms.get(tool)
        return self.updated(tool, seen if known is None else (1 - weight) * known + weight * seen)

    def predict_ms(self, tool: str, size: InputSize, uses_gpu: bool) -> float:
        """The rule."""
        return self.medium_cpu_ms.get(tool, self.unknown_tool_ms) * _factor(size, uses_gpu)


@dataclass(frozen=True)
class LatencyMLP:
    """A multilayer perceptron with ReLU from six scaled features to log1p(ms)."""

    weights: tuple[Float, ...]  # each (inputs, outputs)
    biases: tuple[Float, ...]
    offset: Float  # (6,)
    scale: Float  # (6,), > 0

    def __post_init__(self) -> None:
        widths = [NUM_FEATURES, *(w.shape[1] for w in self.weights)]
        shapes = [w.shape for w in self.weights]
        if shapes != list(pairwise(widths)) or widths[-1] != 1:
            raise ValueError(
                f"latency network: weights must lead from {NUM_FEATURES} features to 1 value, got {shapes}"
            )
        if [b.shape for b in self.biases] != [(width,) for width in widths[1:]]:
            raise ValueError(
                f"latency network: biases must match widths {widths[1:]}, got {[b.shape for b in self.biases]}"
            )

    @classmethod
    def from_npz(cls, path: str | Path) -> LatencyMLP:
        """Reads arrays ``weight_0``, ``bias_0``, ..., ``offset``, ``scale``; pickles are refused."""
        with np.load(path, allow_pickle=False) as arrays:
            layers = sum(name.startswith("weight_") for name in arrays)
            return cls(
                tuple(arrays[f"weight_{i}"] for i in range(layers)),
                tuple(arrays[f"bias_{i}"] for i in range(layers)),
                arrays["offset"],
                arrays["scale"],
            )

    def predict_ms(self, features_B6: Float) -> Float:
        """(B,) milliseconds, at least 1."""
        hidden = (features_B6 - self.offset) / self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0)
        log_ms = (hidden @ self.weights[-1] + self.biases[-1])[:, 0]
        milliseconds: Float = np.maximum(np.expm1(np.clip(log_ms, 0, 25)), 1).astype(np.float32)
        return milliseconds


def latency_features(table_ms: float, size: InputSize, config: ResourceConfig | None) -> Float:
    """(6,) what the network reads: size 0..2, then log1p of cores, GiB, SM percent, GPU GiB and the table's ms."""
    demand = (config.cpu_core, config.cpu_mem_gb, config.gpu_sm, config.gpu_mem_gb) if config else (0.0,) * 4
    return np.array([list(SIZE_FACTORS).index(size), *np.log1p([*demand, table_ms])], dtype=np.float32)


@dataclass(frozen=True)
class LatencyPredictor:
    """Answers in one of the three modes; ``with_mode`` and ``with_table`` give changed copies."""

    mode: LatencyMode = "fixed"
    fixed_ms: float = DEFAULT_FIXED_MS
    table: LatencyTable = LatencyTable({})
    network: LatencyMLP | None = None
    measured_p95_ms: float | None = None
    """95th percentile of the engine's own decision time, where it was measured."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fixed_ms) and self.fixed_ms > 0):
            raise ValueError(f"fixed_ms must be a finite number > 0, got {self.fixed_ms}")
        if self.mode not in ("fixed", "rule", "learned"):
            raise ValueError(f"mode must be 'fixed', 'rule' or 'learned', got {self.mode!r}")
        if self.mode == "learned" and self.network is None:
            raise ValueError("mode 'learned' needs a network; load one with LatencyMLP.from_npz")

    def with_mode(self, mode: LatencyMode) -> LatencyPredictor:
        return replace(self, mode=mode)

    def with_table(self, table: LatencyTable) -> LatencyPredictor:
        return replace(self, table=table)

    def t_inf_ms(self, size: InputSize = "medium") -> int:
        """Time of the decision itself, whole milliseconds.

        ``fixed``: the engine's measured p95 when known, else the fixed value. ``rule`` and ``learned``: as for a step,
        under the table's entry ``DECISION``; ``size`` then says how long the request is.
        """
        if self.mode == "fixed":
            return math.ceil(self.fixed_ms if self.measured_p95_ms is None else self.measured_p95_ms)
        return self.step_ms(DECISION, size)

    def step_ms(self, tool: str, size: InputSize = "medium", config: ResourceConfig | None = None) -> int:
        """Expected run time of one step, whole milliseconds, at least 1."""
        if self.mode == "fixed":
            return math.ceil(self.fixed_ms)
        uses_gpu = config is not None and config.gpu_sm > 0
        rule_ms = self.table.predict_ms(tool, size, uses_gpu)
        if self.mode == "rule" or self.network is None:
            return max(math.ceil(rule_ms), 1)
        features = latency_features(rule_ms, size, config)
        return math.ceil(float(self.network.predict_ms(features[None])[0]))

    def steps_ms(self, queries: Sequence[tuple[str, InputSize, ResourceConfig | None]]) -> list[int]:
        """``step_ms`` for many steps."""
        return [self.step_ms(*query) for query in queries]


def _factor(size: str, uses_gpu: bool) -> float:
    return SIZE_FACTORS[size] * (GPU_FACTOR if uses_gpu else 1.0)
