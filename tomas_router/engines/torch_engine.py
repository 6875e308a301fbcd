"""Runs a checkpoint in torch: the reference that exported graphs are compared with, and evaluation while training."""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tomas_router.config import ModelConfig
from tomas_router.engines.core import Cache, EngineCore, OpenHeads, SmallTensors, StepHeads
from tomas_router.engines.preparation import Preparation
from tomas_router.features.curve import CurveScaler
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.model.backbone import PrefixCache
from tomas_router.model.tomas_model import TOMASLLMModel
from tomas_router.planner.engine import Calibration, Float, ToolBatch, ToolEncodings


class Layers(Protocol):
    """The lower or the upper part of a backbone."""

    def __call__(
        self,
        embeds_BSD: torch.Tensor,
        mask_BT: torch.Tensor,
        position_ids_BS: torch.Tensor,
        prefix: PrefixCache | None,
        want_cache: bool,
        /,
    ) -> tuple[torch.Tensor, PrefixCache | None]: ...


class FittedNumbers(Protocol):
    """Statistics that belong to the weights."""

    @property
    def rows(self) -> RowScaler: ...
    @property
    def curves(self) -> CurveScaler: ...
    @property
    def calibration(self) -> Calibration: ...


class TrainedModel(Protocol):
    """What the engine needs of a ``training.checkpoint.Checkpoint``."""

    @property
    def model(self) -> TOMASLLMModel: ...
    @property
    def config(self) -> ModelConfig: ...
    @property
    def statistics(self) -> FittedNumbers: ...
    @property
    def tokenizer(self) -> TextTokenizer: ...


class TorchEngine(EngineCore):
    """The network of a checkpoint, in evaluation mode, on any device."""

    name = "torch"

    def __init__(self, checkpoint: TrainedModel) -> None:
        config = checkpoint.config
        super().__init__(
            preparation_of(checkpoint),
            small_tensors(checkpoint.model),
            checkpoint.statistics.calibration,
            config.max_prefix_tools,
            config.temporal.virtual_tokens,
        )
        self.model = checkpoint.model.eval()
        self.device = next(self.model.parameters()).device
        self.fingerprint = _fingerprint(checkpoint.model)
        self.trained_on: tuple[str, ...] | None = getattr(checkpoint, "trained_on", None)
        self.known_tools = getattr(checkpoint, "known_tools", None)

    @classmethod
    def load(cls, directory: str | Path, device: str = "cpu") -> TorchEngine:
        """Reads a checkpoint directory.

        Raises:
            UntrainedModelError: The directory holds no trained heads.
        """
        # By name, because training is a layer above: it evaluates with this engine.
        return cls(import_module("tomas_router.training.checkpoint").load_checkpoint(directory, device))

    @torch.no_grad()
    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """See ``RoutingEngine``."""
        encoded = self.model.encode_tools(
            self._in(batch.token_ids_NL),
            self._in(batch.token_mask_NL),
            self._in(batch.rows_NR6),
            self._in(batch.row_mask_NR),
        )
        return ToolEncodings(
            _out(encoded.v_toolaware_ND),
            _out(self.model.classifier.key_norm(encoded.key_NQ)),
            _out(encoded.retrieval_NE),
            _out(encoded.prefix.keys[:, :, :, 0]),
            _out(encoded.prefix.values[:, :, :, 0]),
        )

    @torch.no_grad()
    def embed(self, token_ids_S: NDArray[np.int64]) -> Float:
        return _out(self.model.backbone.embed(self._in(token_ids_S)))

    @torch.no_grad()
    def continue_text(self, embeds_SD: Float, cache: Cache) -> tuple[Float, Cache]:
        text = self.model.backbone.text
        if text is None:
            return embeds_SD, cache
        return self._run_layers(self.model.backbone.run_text, embeds_SD, cache)

    def empty_text_cache(self) -> Cache:
        backbone = self.model.backbone
        heads = backbone.config.num_key_value_heads
        width = getattr(backbone.config, "head_dim", None) or (
            backbone.config.hidden_size // backbone.config.num_attention_heads
        )
        nothing = torch.zeros(1, heads, 0, width, device=self.device)
        return Cache(((nothing, nothing),) * self.model.config.backbone.text_layers, 0, 0)

    @torch.no_grad()
    def curve_context(self, series_GT4: Float, log_horizon_1: Float) -> tuple[Float, Float]:
        vector, virtual = self.model.curve_context(self._in(series_GT4)[None], self._in(log_horizon_1)[None])
        return _out(vector[0]), _out(virtual[0])

    @torch.no_grad()
    def shortlist_keys(self, v_toolaware_PD: Float) -> Float:
        return _out(set_keys(self.model, self._in(v_toolaware_PD)))

    @torch.no_grad()
    def run_layers(self, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        return self._run_layers(self.model.backbone, embeds_TD, cache)

    def _run_layers(self, part: Layers, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        keys = torch.stack([k for k, _ in cache.layers], dim=1)
        values = torch.stack([v for _, v in cache.layers], dim=1)
        length, past = len(embeds_TD), cache.length
        mask = torch.ones(1, past + length, dtype=torch.bool, device=self.device)
        positions = torch.arange(cache.next_position, cache.next_position + length, device=self.device)[None]
        hidden, longer = part(self._in(embeds_TD)[None], mask, positions, PrefixCache(keys, values), True)
        assert longer is not None
        layers = tuple((longer.keys[:, y], longer.values[:, y]) for y in range(longer.keys.shape[1]))
        return _out(hidden[0]), Cache(layers, past + length, cache.next_position + length)

    @torch.no_grad()
    def read_opening(self, task_SD: Float, slot_D: Float, v_temporal_E: Float) -> OpenHeads:
        heads = open_heads(self.model, self._in(task_SD), self._in(slot_D), self._in(v_temporal_E))
        gate, request, query, end = (_out(t) for t in heads)
        return OpenHeads(float(gate), request, query, float(end))

    @torch.no_grad()
    def read_step(
        self, steps_KD: Float, slot_D: Float, request_Q: Float, v_toolaware_D: Float, v_temporal_E: Float
    ) -> StepHeads:
        heads = step_heads(
            self.model,
            self._in(steps_KD),
            self._in(slot_D),
            self._in(request_Q),
            self._in(v_toolaware_D),
            self._in(v_temporal_E),
        )
        query, end, size, targets, depends = (_out(t) for t in heads)
        return StepHeads(query, float(end), size, targets, depends)

    @torch.no_grad()
    def read_text(self, hidden_D: Float) -> tuple[float, Float]:
        hidden = self._in(hidden_D)
        return float(self.model.gate(self.model.state_norm(hidden))), _out(self.model.backbone.lm_logits(hidden))

    def cache_layer(self, keys_1HPC: Float, values_1HPC: Float) -> tuple[torch.Tensor, torch.Tensor]:
        return self._in(keys_1HPC), self._in(values_1HPC)

    def _in(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def set_keys(model: TOMASLLMModel, v_toolaware_PD: torch.Tensor) -> torch.Tensor:
    """Normalised classifier keys (P, Q) of a shortlist, whose tools see each other."""
    classifier, tools_1PD = model.classifier, v_toolaware_PD[None]
    mask_1P = torch.ones_like(tools_1PD[:, :, 0], dtype=torch.bool)
    keys_1PQ = classifier.base_key(tools_1PD) + classifier.set_delta(model.tools(tools_1PD, mask_1P))
    return classifier.key_norm(keys_1PQ)[0]


def open_heads(
    model: TOMASLLMModel, task_SD: torch.Tensor, slot_D: torch.Tensor, v_temporal_E: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gate logit (), request part of the query (Q), scaled query (Q), END logit ()."""
    classifier = model.classifier
    task_SD, slot_D = model.state_norm(task_SD), model.state_norm(slot_D)
    pooled_D = model.task_pool(task_SD[None], torch.ones_like(task_SD[None, :, 0], dtype=torch.bool))[0]
    request_Q = classifier.task_query(pooled_D) + classifier.curve_query(v_temporal_E)
    query_Q, end = query_and_end(model, slot_D, request_Q)
    return model.gate(task_SD[-1]), request_Q, query_Q, end


def step_heads(
    model: TOMASLLMModel,
    steps_KD: torch.Tensor,
    slot_D: torch.Tensor,
    request_Q: torch.Tensor,
    v_toolaware_D: torch.Tensor,
    v_temporal_E: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scaled query (Q), END logit (), size logits (3), scaled targets (5), dependency logits (K) of the last step."""
    steps_KD, slot_D = model.state_norm(steps_KD), model.state_norm(slot_D)
    query_Q, end = query_and_end(model, slot_D, request_Q)
    size = model.resource.size_logits(steps_KD[-1])
    targets = model.resource(steps_KD[-1], v_toolaware_D, v_temporal_E, size.softmax(-1))
    return query_Q, end, size, targets, model.dependency(steps_KD[None])[0, -1]


def query_and_end(model: TOMASLLMModel, slot: torch.Tensor, request: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised state of a slot (..., D) and request (..., Q) to scaled query (..., Q) and END logit (...)."""
    classifier = model.classifier
    query = classifier.query_norm(classifier.slot_query(slot) + request) * classifier.scale
    return query, (query * classifier.key_norm(classifier.end_Q)).sum(-1) + classifier.end_bias


def preparation_of(checkpoint: TrainedModel) -> Preparation:
    """Tokenizer, scalers and limits of a checkpoint."""
    config = checkpoint.config
    return Preparation(
        checkpoint.tokenizer,
        checkpoint.statistics.rows,
        checkpoint.statistics.curves,
        config.max_task_tokens,
        config.tool.max_tokens,
        config.tool.max_rows,
    )


def small_tensors(model: TOMASLLMModel) -> SmallTensors:
    """Parameters that the request path reads without a graph."""
    return SmallTensors(
        special_4D=_out(model.special.weight),
        links_2D=_out(model.links.weight),
        tool_token_gain_D=_out(model.tool_token_norm.gain),
        prior_weight=float(model.classifier.prior_weight.detach()),
        repeat_bias=float(model.classifier.repeat_bias.detach()),
        retrieval_weight_W=_out(model.retrieval.log_weight.weight[:, 0].exp()),
        retrieval_projection_ED=_out(model.retrieval.project.weight),
        retrieval_states_EX=_states_projection(model),
    )


def _states_projection(model: TOMASLLMModel) -> Float:
    linear = model.retrieval.project_states
    if linear is None:
        return np.zeros((model.retrieval.project.weight.shape[0], 0), dtype=np.float32)
    return _out(torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1))


def _fingerprint(model: TOMASLLMModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return "torch-" + digest.hexdigest()[:16]


def _out(tensor: torch.Tensor) -> Float:
    array: Float = tensor.detach().float().cpu().numpy()
    return array
