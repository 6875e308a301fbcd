"""The seam between the planner and whatever runs the network.

Every engine (torch, ONNX Runtime, Optimum) offers the same four calls. Everything above this line (decoding,
allocation, plans) and below it (tokenisation, scaling) is numpy and exists once.

Shape legend: N tools in the registry, P tools in the prefix (the shortlist), S task tokens, L tool-text tokens,
R profile rows a tool, T curve samples, G GPUs (one curve each), V virtual tokens, D model width, K steps so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.known_tools import KnownTools

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class ToolBatch:
    """Tools as the network reads them: tokenised text and scaled profile rows."""

    token_ids_NL: Int
    token_mask_NL: Bool  # True = real token
    rows_NR6: Float  # scaled; see features.tool_rows
    row_mask_NR: Bool  # a row of False = tool without profile


@dataclass(frozen=True)
class ToolEncodings:
    """What is cached per tool, keyed by content hash; every array has N as its first axis."""

    v_toolaware_ND: Float
    key_ND: Float  # classifier key before set attention
    retrieval_ND: Float  # unit-norm; one matrix product with the task's retrieval vector ranks all tools
    prefix_keys: Float  # (N, layers, kv_heads, head_dim), encoded alone at position 0
    prefix_values: Float  # (N, layers, kv_heads, head_dim)

    def take(self, index: Int) -> ToolEncodings:
        """The same encodings for the tools at ``index``, in that order."""
        return ToolEncodings(
            self.v_toolaware_ND[index],
            self.key_ND[index],
            self.retrieval_ND[index],
            self.prefix_keys[index],
            self.prefix_values[index],
        )


@dataclass(frozen=True)
class CurveWindow:
    """The remaining-resource curve from T_inf to the horizon, one series per GPU."""

    series_GT4: Float  # physical units, lower envelope, order cpu_cores, cpu_mem_gb, gpu_sm, gpu_mem_gb
    log_horizon: float  # natural log of the window's length in seconds


@dataclass(frozen=True)
class Opening:
    """The network's first answer to a task."""

    state: Any  # engine-private: key/value cache and step states; never mutated, so branches may share it
    gate_logit: float  # > 0: a tool plan; < 0: plain text
    tool_logits: Float  # (N + 1,), over all tools; the last entry is END


@dataclass(frozen=True)
class StepOutcome:
    """What the network says after tool ``k`` was chosen."""

    state: Any
    tool_logits: Float  # (N + 1,) for the next step; the last entry is END
    size_logits: Float  # (3,) small, medium, large
    resources: Float  # (5,) cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms in physical units, >= 0
    depends_logits: Float  # (K - 1,), > 0: this step depends on the earlier step


@dataclass(frozen=True)
class Calibration:
    """Numbers fitted on validation data and stored in the manifest."""

    temperature: float = 1.0  # tool_logits / temperature before softmax
    min_confidence: float = 0.0  # below: no_tool with reason no_match
    gate_threshold: float = 0.0  # gate_logit above: plan
    depends_threshold: float = 0.0
    twin_margin: float = 2.0  # logits; tools this close to the best may be swapped by the allocator
    end_margin: float = 0.0  # taken off END's logit after the first step: a plan ends where END wins by more than this
    match_margin: float = 0.0  # logits; a best first tool that leads END by less: no_tool with reason no_match
    overlap_weight: float = 6.0  # logits that a word overlap of 1 is worth to a tool which training never showed
    words_weight: float = 1.0  # of the logits by which words of training requests put a tool behind the best one
    novelty_bonus: float = 2.0  # logits that such a tool gets against those that training showed

    def ranking(self) -> Calibration:
        """What orders tools, with all that decides about plans left at its defaults.

        Other answers would follow another order, so it cannot be fitted on answers that were recorded.
        """
        return Calibration(
            overlap_weight=self.overlap_weight, words_weight=self.words_weight, novelty_bonus=self.novelty_bonus
        )


class RoutingEngine(Protocol):
    """Runs the trained network; implemented by ``engines.OnnxEngine`` and ``engines.TorchEngine``."""

    name: str
    fingerprint: str  # changes whenever weights change; part of every cache key
    calibration: Calibration
    max_prefix_tools: int
    known_tools: KnownTools | None  # those that training knows by heart; None: nobody noted them

    def prepare_tools(self, tools: Any, profiling: Any | None) -> ToolBatch:
        """Tokenises and scales tools (``Sequence[ToolSpec]``, ``ProfilingTable | None``)."""
        ...

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """Encodes tools; independent of order and of each other."""
        ...

    def retrieval_vector(self, instruction: str) -> Float:
        """(D,) unit vector to rank ``retrieval_ND`` with; cheap, no backbone pass."""
        ...

    def open(self, instruction: str, tools: ToolEncodings, shortlist: Int, window: CurveWindow, links: str) -> Opening:
        """Prefills prefix, curve and task. ``shortlist`` (P,) indexes the tools whose keys/values go first."""
        ...

    def step(self, state: Any, tool_index: int) -> StepOutcome:
        """Feeds back the chosen tool and reads the resource and next-tool slots in one short pass."""
        ...

    def explain(self, instruction: str, tools: ToolEncodings, window: CurveWindow, max_tokens: int) -> Iterator[str]:
        """Streams a short explanation from the LM head (loaded only when called)."""
        ...


@dataclass(frozen=True)
class OpenRequest:
    """One request of a batch."""

    instruction: str
    shortlist: Int
    window: CurveWindow
    links: str = "dataflow"


class BatchEngine(RoutingEngine, Protocol):
    """An engine that answers several requests in one pass, each with its own task, shortlist and curve."""

    def open_batch(self, requests: Sequence[OpenRequest], tools: ToolEncodings) -> list[Opening]:
        """As ``open``."""
        ...

    def step_batch(self, states: Sequence[Any], tool_indices: Sequence[int]) -> list[StepOutcome]:
        """As ``step``."""
        ...
