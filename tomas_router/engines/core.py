"""The request path of every engine: which piece runs when, in numpy.

A subclass only says how each network piece is computed. The text layers read the task alone; above them the sequence is
``[curve V][task S][<TOOL_PLAN>][<TOOL_ID>]``, then ``[tool][<RESOURCE_CFG>][<TOOL_ID>]`` a step; the tool prefix is at
position 0, everything else counts from 1.

P prefix tools, S task tokens, V virtual tokens, T tokens of a pass, D width, N tools, Q key width, K steps so far,
Y layers, H key/value heads, C head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomas_router.engines.preparation import Preparation
from tomas_router.engines.text_stream import TextStream
from tomas_router.features.known_tools import KnownTools
from tomas_router.features.special_tokens import EXPLANATION_CUE, RESOURCE_CFG, SPECIAL_TOKENS, TOOL_ID, TOOL_PLAN
from tomas_router.planner.engine import (
    Calibration,
    CurveWindow,
    Float,
    Int,
    Opening,
    StepOutcome,
    ToolBatch,
    ToolEncodings,
)
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolSpec

LINKS = ("dataflow", "order")
"""As ``model.tomas_model.LINKS``; a test keeps them equal, because this side cannot import that one."""
RETRIEVAL_SCALE = 20.0
"""As ``model.tomas_model.RETRIEVAL_SCALE``."""
MIN_EXPLANATION_TOKENS = 8
SENTENCE_END = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True)
class SmallTensors:
    """Parameters that are read directly, without a graph."""

    special_4D: Float
    links_2D: Float
    tool_token_gain_D: Float
    prior_weight: float
    repeat_bias: float
    retrieval_weight_W: Float  # exp of the learned log weight of every vocabulary entry
    retrieval_projection_ED: Float
    retrieval_states_EX: Float  # X = D and a last column for the bias; X = 0 without text layers


@dataclass(frozen=True)
class Cache:
    """Keys and values of one request so far, one (1, H, P, C) pair a layer, in the engine's own array type."""

    layers: tuple[Any, ...]
    length: int  # tokens in the cache, the tool prefix included
    next_position: int


@dataclass(frozen=True, eq=False)
class Task:
    """What a task costs once, whatever tools and curve it meets."""

    instruction: str
    states_SD: Float
    cache: Cache  # of the text layers, to go on with text
    retrieval_E: Float


@dataclass(frozen=True, eq=False)
class Shortlisted:
    """What a shortlist costs once, however many requests share it."""

    tools: ToolEncodings
    shortlist: Int
    prefix: Cache
    keys_PQ: Float

    def matches(self, tools: ToolEncodings, shortlist: Int) -> bool:
        """Whether this is the same shortlist of the same tools."""
        return self.tools is tools and np.array_equal(self.shortlist, shortlist)


@dataclass(frozen=True, eq=False)
class State:
    """Everything a branch of a plan has seen; never mutated."""

    cache: Cache
    shortlisted: Shortlisted
    prior_N: Float
    request_Q: Float
    v_temporal_E: Float
    steps_KD: Float
    used: tuple[int, ...]  # tools chosen so far


@dataclass(frozen=True)
class OpenHeads:
    """Read after the task."""

    gate_logit: float
    request_Q: Float
    query_Q: Float  # already multiplied by the classifier's scale
    end_logit: float


@dataclass(frozen=True)
class StepHeads:
    """Read after a chosen tool."""

    query_Q: Float
    end_logit: float
    size_logits_3: Float
    targets_5: Float  # scaled
    depends_K: Float  # the last entry, a step on itself, means nothing


class EngineCore(ABC):
    """Implements ``planner.engine.RoutingEngine`` on top of the pieces below."""

    name: str
    fingerprint: str
    known_tools: KnownTools | None = None

    def __init__(
        self,
        preparation: Preparation,
        small: SmallTensors,
        calibration: Calibration,
        max_prefix_tools: int,
        virtual_tokens: int,
    ) -> None:
        self.preparation, self.small, self.calibration = preparation, small, calibration
        self.max_prefix_tools, self.virtual_tokens = max_prefix_tools, virtual_tokens
        self._last_shortlisted: Shortlisted | None = None  # agents ask again and again over the same few tools
        self._last_task: Task | None = None  # asked for the shortlist and again to open a plan

    # ---- pieces of the network --------------------------------------------------------------------------------

    @abstractmethod
    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """Tool texts and rows to vectors, normalised classifier keys, retrieval vectors and prefix keys/values."""

    @abstractmethod
    def embed(self, token_ids_S: NDArray[np.int64]) -> Float:
        """(S,) to (S, D)."""

    @abstractmethod
    def continue_text(self, embeds_SD: Float, cache: Cache) -> tuple[Float, Cache]:
        """States (S, D) of further text tokens after the text layers, and the longer cache."""

    @abstractmethod
    def curve_context(self, series_GT4: Float, log_horizon_1: Float) -> tuple[Float, Float]:
        """v_temporal (E,) and virtual tokens (V, D)."""

    @abstractmethod
    def shortlist_keys(self, v_toolaware_PD: Float) -> Float:
        """Normalised classifier keys (P, Q) of the shortlist after set attention."""

    @abstractmethod
    def empty_text_cache(self) -> Cache:
        """The text layers' cache before the first token."""

    @abstractmethod
    def run_layers(self, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        """Hidden states (T, D) of new tokens behind a cache, and the longer cache; the layers above the text layers."""

    @abstractmethod
    def read_opening(self, task_SD: Float, slot_D: Float, v_temporal_E: Float) -> OpenHeads:
        """Gate at the last task token, first query at ``<TOOL_ID>``."""

    @abstractmethod
    def read_step(
        self, steps_KD: Float, slot_D: Float, request_Q: Float, v_toolaware_D: Float, v_temporal_E: Float
    ) -> StepHeads:
        """Size, resources and dependencies at the last ``<RESOURCE_CFG>``, next query at ``<TOOL_ID>``."""

    @abstractmethod
    def read_text(self, hidden_D: Float) -> tuple[float, Float]:
        """Gate logit and the next token's logits (W,)."""

    # ---- RoutingEngine ----------------------------------------------------------------------------------------

    def prepare_tools(self, tools: Sequence[ToolSpec], profiling: ProfilingTable | None) -> ToolBatch:
        """See ``RoutingEngine``."""
        return self.preparation.tools(tools, profiling)

    def retrieval_vector(self, instruction: str) -> Float:
        """What ranks tools before they meet the task; on the unit sphere."""
        return self._task(instruction).retrieval_E

    def _task(self, instruction: str) -> Task:
        """The task after the text layers; the last one is kept."""
        last = self._last_task
        if last is not None and last.instruction == instruction:
            return last
        ids_S = self.preparation.task(instruction)
        embeds_SD = self.embed(ids_S)
        states_SD, cache = self.continue_text(embeds_SD, self.empty_text_cache())
        made = Task(instruction, states_SD, cache, self._retrieval(ids_S, embeds_SD, states_SD))
        self._last_task = made
        return made

    def _retrieval(self, ids_S: NDArray[np.int64], embeds_SD: Float, states_SD: Float) -> Float:
        """As ``encoders.task_encoder.RetrievalEncoder``."""
        weight_S = self.small.retrieval_weight_W[ids_S]
        weight_S = weight_S / max(float(weight_S.sum()), 1e-6)
        vector_E = self.small.retrieval_projection_ED @ (weight_S @ embeds_SD)
        if self.small.retrieval_states_EX.size:
            unit_SD = states_SD / np.sqrt(np.mean(np.square(states_SD), axis=-1, keepdims=True) + 1e-6)
            vector_E = vector_E + self.small.retrieval_states_EX @ np.append(weight_S @ unit_SD, np.float32(1.0))
        unit: Float = (vector_E / max(float(np.linalg.norm(vector_E)), 1e-12)).astype(np.float32)
        return unit

    def open(self, instruction: str, tools: ToolEncodings, shortlist: Int, window: CurveWindow, links: str) -> Opening:
        """See ``RoutingEngine``.

        Raises:
            ValueError: The shortlist is empty, or ``links`` is unknown.
        """
        if links not in LINKS:
            raise ValueError(f"links must be one of {LINKS}, got {links!r}")
        task = self._task(instruction)
        v_temporal_E, virtual_VD = self.curve_context(*self.preparation.window(window))
        plan_token = self.small.special_4D[SPECIAL_TOKENS.index(TOOL_PLAN)] + self.small.links_2D[LINKS.index(links)]
        embeds_TD = np.concatenate(
            [virtual_VD, task.states_SD, plan_token[None], self._special(TOOL_ID)[None]], dtype=np.float32
        )
        shortlisted = self._shortlisted(tools, shortlist)
        hidden_TD, cache = self.run_layers(embeds_TD, shortlisted.prefix)
        task_SD = hidden_TD[self.virtual_tokens : self.virtual_tokens + len(task.states_SD)]
        heads = self.read_opening(task_SD, hidden_TD[-1], v_temporal_E)
        state = State(
            cache=cache,
            shortlisted=shortlisted,
            prior_N=self._prior(tools, instruction),
            request_Q=heads.request_Q,
            v_temporal_E=v_temporal_E,
            steps_KD=np.zeros((0, hidden_TD.shape[1]), dtype=np.float32),
            used=(),
        )
        return Opening(state, heads.gate_logit, self._tool_logits(state, heads.query_Q, heads.end_logit))

    def step(self, state: State, tool_index: int) -> StepOutcome:
        """See ``RoutingEngine``."""
        v_toolaware_D = state.shortlisted.tools.v_toolaware_ND[tool_index]
        embeds_3D = np.stack([self._tool_token(v_toolaware_D), self._special(RESOURCE_CFG), self._special(TOOL_ID)])
        hidden_3D, cache = self.run_layers(embeds_3D.astype(np.float32), state.cache)
        steps_KD = np.concatenate([state.steps_KD, hidden_3D[1:2]])
        heads = self.read_step(steps_KD, hidden_3D[2], state.request_Q, v_toolaware_D, state.v_temporal_E)
        after = replace(state, cache=cache, steps_KD=steps_KD, used=(*state.used, tool_index))
        return StepOutcome(
            state=after,
            tool_logits=self._tool_logits(after, heads.query_Q, heads.end_logit),
            size_logits=heads.size_logits_3,
            resources=self.preparation.rows.inverse_targets(heads.targets_5),
            depends_logits=heads.depends_K[:-1],
        )

    def explain(self, instruction: str, tools: ToolEncodings, window: CurveWindow, max_tokens: int) -> Iterator[str]:
        """Greedy text after the cue, until the gate says that the plan should begin.

        The last quarter of ``max_tokens`` also ends with a sentence, so that most texts are whole.
        """
        retrieval_N = tools.retrieval_ND @ self.retrieval_vector(instruction)
        shortlist = np.sort(np.argsort(-retrieval_N, kind="stable")[: self.max_prefix_tools])
        _, virtual_VD = self.curve_context(*self.preparation.window(window))
        cue = np.array(self.preparation.tokenizer.encode(EXPLANATION_CUE), dtype=np.int64)
        task = self._task(instruction)
        states_SD, text_cache = self.continue_text(self.embed(cue), task.cache)
        embeds_TD = np.concatenate([virtual_VD, task.states_SD, states_SD], dtype=np.float32)
        cache = self._shortlisted(tools, shortlist).prefix
        text = TextStream(self.preparation.tokenizer)
        for count in range(max_tokens):
            hidden_TD, cache = self.run_layers(embeds_TD, cache)
            gate, logits_W = self.read_text(hidden_TD[-1])
            token = int(logits_W.argmax())
            if count >= MIN_EXPLANATION_TOKENS and gate > self.calibration.gate_threshold:
                break
            yield from text.push(token)
            if text.ended or (4 * count >= 3 * max_tokens and text.text.endswith(SENTENCE_END)):
                break
            embeds_TD, text_cache = self.continue_text(self.embed(np.array([token], dtype=np.int64)), text_cache)
        yield from text.rest()

    # ---- shared arithmetic ------------------------------------------------------------------------------------

    def _shortlisted(self, tools: ToolEncodings, shortlist: Int) -> Shortlisted:
        """Prefix and keys of a shortlist; the last one is kept."""
        last = self._last_shortlisted
        if last is not None and last.matches(tools, shortlist):
            return last
        if not len(shortlist):
            raise ValueError("the shortlist must hold at least one tool, got none")
        keys_PQ = self.shortlist_keys(tools.v_toolaware_ND[shortlist])
        made = Shortlisted(tools, shortlist.copy(), self._prefix(tools, shortlist), keys_PQ)
        self._last_shortlisted = made
        return made

    def _prefix(self, tools: ToolEncodings, shortlist: Int) -> Cache:
        """The shortlist's keys and values as a cache of P tokens, all at position 0."""
        keys_YHPC = np.ascontiguousarray(tools.prefix_keys[shortlist].transpose(1, 2, 0, 3))
        values_YHPC = np.ascontiguousarray(tools.prefix_values[shortlist].transpose(1, 2, 0, 3))
        layers = tuple(self.cache_layer(k[None], v[None]) for k, v in zip(keys_YHPC, values_YHPC, strict=True))
        return Cache(layers, len(shortlist), 1)

    def cache_layer(self, keys_1HPC: Float, values_1HPC: Float) -> Any:
        """One layer of a cache in the engine's own form."""
        return keys_1HPC, values_1HPC

    def _prior(self, tools: ToolEncodings, instruction: str) -> Float:
        similarity_N = tools.retrieval_ND @ self.retrieval_vector(instruction)
        prior: Float = (self.small.prior_weight * RETRIEVAL_SCALE * similarity_N).astype(np.float32)
        return prior

    def _tool_logits(self, state: State, query_Q: Float, end_logit: float) -> Float:
        shortlisted = state.shortlisted
        logits_N = shortlisted.tools.key_ND @ query_Q
        logits_N[shortlisted.shortlist] = shortlisted.keys_PQ @ query_Q
        logits_N[list(set(state.used))] += self.small.repeat_bias
        return np.append(logits_N + state.prior_N, np.float32(end_logit)).astype(np.float32)

    def _special(self, token: str) -> Float:
        vector: Float = self.small.special_4D[SPECIAL_TOKENS.index(token)]
        return vector

    def _tool_token(self, v_toolaware_D: Float) -> Float:
        """As ``model.context_projector.VirtualTokenNorm``."""
        rms = np.sqrt(np.mean(np.square(v_toolaware_D)) + 1e-6)
        token: Float = v_toolaware_D / rms * self.small.tool_token_gain_D
        return token
