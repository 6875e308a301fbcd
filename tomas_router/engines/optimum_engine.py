"""Runs the production artifacts through Optimum and ONNX Runtime, on a GPU or, with the same results, on a processor.

Everything between the token ids and the decision stays on the device: embeddings, virtual tokens, the tool prefix's
keys and values, hidden states, heads. What comes back for a slot is one vector of logits. Several requests, each with
its own curve and shortlist, share one pass (``open_batch``, ``step_batch``).

B requests, S task tokens, V virtual tokens, T tokens of a pass, P prefix tools, N tools, K steps, D width, Q key width,
E curve width, G GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2Config

from tomas_router.engines.bound_session import BoundSession, Place
from tomas_router.engines.core import LINKS, MIN_EXPLANATION_TOKENS, RETRIEVAL_SCALE, SENTENCE_END
from tomas_router.engines.onnx_engine import (
    PROVIDERS,
    SMALL_TENSORS,
    Provider,
    calibration_of,
    check_runtime,
    import_onnxruntime,
    known_tools_of,
    preparation_of,
    small_tensors_of,
)
from tomas_router.engines.ort_backbone import DeviceCache, OrtBackbone
from tomas_router.engines.preparation import Preparation
from tomas_router.engines.text_stream import TextStream
from tomas_router.engines.widened import widened
from tomas_router.errors import ArtifactMismatchError
from tomas_router.features.special_tokens import EXPLANATION_CUE, RESOURCE_CFG, SPECIAL_TOKENS, TOOL_ID, TOOL_PLAN
from tomas_router.planner.engine import (
    Calibration,
    CurveWindow,
    Float,
    Int,
    Opening,
    OpenRequest,
    StepOutcome,
    ToolBatch,
    ToolEncodings,
)
from tomas_router.schema.manifest import MANIFEST, Manifest, Verification, read_manifest
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolSpec

BACKBONE_CONFIG = "config.json"
ENCODED_AT_ONCE = 64
"""Tools encoded in one pass."""


@dataclass(frozen=True, eq=False)
class DeviceTools:
    """A registry's encodings on the device; keys and values of the prefix are gathered from the host's."""

    encodings: ToolEncodings
    v_toolaware_ND: Tensor
    key_NQ: Tensor
    retrieval_NE: Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """What a shortlist costs once, however many requests share it."""

    tools: DeviceTools
    shortlist: Int
    index_P: Tensor  # the shortlist on the device
    cache: DeviceCache  # of one request
    keys_PQ: Tensor


@dataclass(frozen=True, eq=False)
class State:
    """Everything one request's branch of a plan has seen; never mutated. ``row`` is its place in the shared cache."""

    cache: DeviceCache
    row: int
    prefix: Prefix
    prior_N: Tensor
    request_Q: Tensor
    v_temporal_E: Tensor
    steps_KD: Tensor
    used: tuple[int, ...]


class OptimumEngine:
    """Implements ``planner.engine.BatchEngine``; threads take turns."""

    def __init__(self, directory: Path, manifest: Manifest, provider: Provider, threads: int, buckets: bool) -> None:
        self.manifest, self.name, self.fingerprint = manifest, manifest.name, manifest.fingerprint
        self.trained, self.trained_on = manifest.trained, manifest.trained_on
        self.known_tools = known_tools_of(directory, manifest)
        self.calibration: Calibration = calibration_of(directory, manifest)
        self.max_prefix_tools = manifest.sizes.max_prefix_tools
        self.preparation: Preparation = preparation_of(directory, manifest)
        check_runtime(directory, manifest, import_onnxruntime(provider).__version__)
        self.place = Place.of(provider)
        self._directory, self._threads = directory, threads
        self._lock = RLock()
        self._sessions: dict[str, BoundSession] = {}
        small = small_tensors_of(directory / SMALL_TENSORS, manifest)
        self._prior_weight, self._repeat_bias = small.prior_weight, small.repeat_bias
        self._special_4D, self._links_2D = self._up(small.special_4D), self._up(small.links_2D)
        self._gain_D = self._up(small.tool_token_gain_D)
        self._last_tools: DeviceTools | None = None
        self._last_prefix: Prefix | None = None
        self._last_vector: tuple[str, Float] | None = None
        config = Qwen2Config.from_json_file(directory / BACKBONE_CONFIG)
        self.backbone = OrtBackbone(
            config,
            self._load("backbone", cuda_graph=buckets and provider == "cuda"),
            self._session("token_embedding"),
            lambda: self._session("lm_head"),
            buckets=buckets,
        )

    @classmethod
    def load(
        cls,
        directory: str | Path,
        provider: Provider = "cpu",
        *,
        intra_op_num_threads: int = 1,
        verify: Verification = "once",
        cache_dir: str | Path | None = None,
        buckets: bool | None = None,
    ) -> OptimumEngine:
        """Loads a model directory of layout ``optimum``.

        Args:
            directory: What ``python -m export.onnx --config configs/default.yaml`` wrote.
            provider: ``cpu`` or ``cuda``. On a processor, half precision is widened to float32 at load.
            intra_op_num_threads: Of the processor.
            verify: As for ``OnnxEngine.load``.
            cache_dir: Likewise.
            buckets: Round lengths up, so that a GPU can record the kernels of each length once and replay them; by
                default on a GPU.

        Raises:
            UntrainedModelError: The directory holds no exported model.
            ArtifactMismatchError: A file is missing, altered, of another layout or version; says expected and found.
            ModelArtifactError: ONNX Runtime cannot load a graph; names the file.
            MissingExtraError: ONNX Runtime is not installed, or not the one for ``provider``.
            ValueError: ``provider`` is unknown.
        """
        if provider not in PROVIDERS:
            raise ValueError(f"provider must be 'cpu' or 'cuda', got {provider!r}")
        directory = Path(directory)
        manifest = read_manifest(directory, verify, cache_dir)
        if manifest.layout != "optimum":
            raise ArtifactMismatchError(directory / MANIFEST, "layout", "optimum", manifest.layout)
        rounded = provider == "cuda" if buckets is None else buckets
        return cls(directory, manifest, provider, intra_op_num_threads, rounded)

    # ---- RoutingEngine ----------------------------------------------------------------------------------------

    def prepare_tools(self, tools: Sequence[ToolSpec], profiling: ProfilingTable | None) -> ToolBatch:
        """See ``RoutingEngine``."""
        return self.preparation.tools(tools, profiling)

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """See ``RoutingEngine``. The backbone's own graph reads the texts, and then each tool's token alone."""
        with self._turn():
            order_N = np.argsort(batch.token_mask_NL.sum(1), kind="stable")  # tools of like length: little padding
            parts = [
                self._encode_some(batch, order_N[start : start + ENCODED_AT_ONCE])
                for start in range(0, len(order_N), ENCODED_AT_ONCE)
            ]
            joined = ToolEncodings(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        return joined.take(np.argsort(order_N, kind="stable"))

    def retrieval_vector(self, instruction: str) -> Float:
        """See ``RoutingEngine``; the last one is kept."""
        last = self._last_vector
        if last is not None and last[0] == instruction:
            return last[1]
        with self._turn():
            ids_1S = self._up(self.preparation.task(instruction)[None])
            vector = self._down(self._task_vectors(ids_1S, torch.ones_like(ids_1S, dtype=torch.bool))[0])
        self._last_vector = instruction, vector
        return vector

    def open(self, instruction: str, tools: ToolEncodings, shortlist: Int, window: CurveWindow, links: str) -> Opening:
        """See ``RoutingEngine``."""
        return self.open_batch([OpenRequest(instruction, shortlist, window, links)], tools)[0]

    def step(self, state: State, tool_index: int) -> StepOutcome:
        """See ``RoutingEngine``."""
        return self.step_batch([state], [tool_index])[0]

    def open_batch(self, requests: Sequence[OpenRequest], tools: ToolEncodings) -> list[Opening]:
        """Prefills several requests in one pass; each has its own task, shortlist, curve and links.

        Raises:
            ValueError: There is no request, a shortlist is empty, or ``links`` is unknown.
        """
        _check(requests)
        with self._turn():
            return self._open(requests, self._device_tools(tools))

    def step_batch(self, states: Sequence[State], tool_indices: Sequence[int]) -> list[StepOutcome]:
        """Feeds one tool back to each request, in one pass for those that are equally far."""
        outcomes: dict[int, StepOutcome] = {}
        with self._turn():
            for steps in sorted({len(state.used) for state in states}):
                places = [place for place, state in enumerate(states) if len(state.used) == steps]
                found = self._step([states[p] for p in places], [tool_indices[p] for p in places])
                outcomes |= dict(zip(places, found, strict=True))
        return [outcomes[place] for place in range(len(states))]

    def explain(self, instruction: str, tools: ToolEncodings, window: CurveWindow, max_tokens: int) -> Iterator[str]:
        """Greedy text after the cue, until the gate says that the plan should begin; see ``EngineCore.explain``."""
        retrieval_N = tools.retrieval_ND @ self.retrieval_vector(instruction)
        shortlist = np.sort(np.argsort(-retrieval_N, kind="stable")[: self.max_prefix_tools])
        text = TextStream(self.preparation.tokenizer)
        with self._turn():
            embeds, cache = self._before_text(instruction, self._device_tools(tools), shortlist, window)
        for count in range(max_tokens):
            with self._turn():
                hidden, cache = self.backbone.hidden(embeds, cache)
                last_1D = hidden[:, -1]
                token_11 = self.backbone.logits(last_1D).argmax(-1, keepdim=True)
                gate = self._run("text_gate", {"hidden": last_1D}, {"gate_logit": (1,)})["gate_logit"]
                read = self._down(torch.cat([gate, token_11[0].float()]))
                embeds = self.backbone.embed(token_11)
            if count >= MIN_EXPLANATION_TOKENS and read[0] > self.calibration.gate_threshold:
                break
            yield from text.push(int(read[1]))
            if text.ended or (4 * count >= 3 * max_tokens and text.text.endswith(SENTENCE_END)):
                break
        yield from text.rest()

    # ---- tools ------------------------------------------------------------------------------------------------

    def _encode_some(self, batch: ToolBatch, chosen: Int) -> tuple[Float, ...]:
        mask_NL = batch.token_mask_NL[chosen]
        longest = max(int(mask_NL.sum(1).max()), 1)
        ids, mask = self._up(batch.token_ids_NL[chosen, :longest]), self._up(mask_NL[:, :longest])
        embeds = self.backbone.embed(ids)
        nothing, lengths = self.backbone.empty_cache(len(chosen)), mask_NL.sum(1).tolist()
        hidden, _ = self.backbone.hidden(embeds, nothing, lengths, recorded=False)
        feeds = {
            "token_ids": ids,
            "token_mask": mask,
            "embeds": embeds.float(),
            "hidden": hidden,
            "rows": self._up(batch.rows_NR6[chosen]),
            "row_mask": self._up(batch.row_mask_NR[chosen]),
        }
        names = ("v_toolaware", "key", "retrieval")
        outputs = self._run("tool_heads", feeds, dict.fromkeys(names, (len(chosen),)))
        tokens_N1D = self._tool_token(outputs["v_toolaware"]).unsqueeze(1)
        _, alone = self.backbone.hidden(tokens_N1D, nothing, recorded=False)
        keys, values = (self._down(alone.kv_ZBHPC[kind::2, :, :, 0].transpose(0, 1).contiguous()) for kind in range(2))
        return (*(self._down(outputs[name]) for name in names), keys, values)

    def _device_tools(self, tools: ToolEncodings) -> DeviceTools:
        """A registry on the device; the last one is kept."""
        if self._last_tools is None or self._last_tools.encodings is not tools:
            self._last_tools = DeviceTools(
                tools, self._up(tools.v_toolaware_ND), self._up(tools.key_ND), self._up(tools.retrieval_ND)
            )
        return self._last_tools

    def _prefix(self, tools: DeviceTools, shortlist: Int) -> Prefix:
        """Cache and classifier keys of a shortlist; the last one is kept."""
        last = self._last_prefix
        if last is not None and last.tools is tools and np.array_equal(last.shortlist, shortlist):
            return last
        keys, values = (
            self._up(prefix[shortlist].transpose(1, 2, 0, 3)).unsqueeze(0)
            for prefix in (tools.encodings.prefix_keys, tools.encodings.prefix_values)
        )
        cache, count = self.backbone.cache_of(keys, values), len(shortlist)
        index_P = self._up(shortlist)
        chosen = {"v_toolaware": tools.v_toolaware_ND[index_P]}
        keys_PQ = self._run("tool_set", chosen, {"keys": (count,)})["keys"]
        self._last_prefix = Prefix(tools, shortlist.copy(), index_P, cache, keys_PQ)
        return self._last_prefix

    # ---- requests ---------------------------------------------------------------------------------------------

    def _open(self, requests: Sequence[OpenRequest], tools: DeviceTools) -> list[Opening]:
        ids = [self.preparation.task(request.instruction) for request in requests]
        lengths = [len(one) for one in ids]
        ids_BS, mask_BS = self._padded(ids)
        embeds_BSD = self.backbone.embed(ids_BS).float()
        v_temporal_BE, virtual_BVD = self._contexts([request.window for request in requests])
        prefixes = [self._prefix(tools, request.shortlist) for request in requests]
        embeds_BTD, end_B = self._laid_out(virtual_BVD, embeds_BSD, mask_BS, lengths, [r.links for r in requests])
        count = virtual_BVD.shape[1]
        hidden_BTD, cache = self.backbone.hidden(
            embeds_BTD, joined([prefix.cache for prefix in prefixes]), [count + length + 2 for length in lengths]
        )
        # From here on a GPU still computes the layers while the rest is being launched.
        retrieval_BE = self._task_vectors(ids_BS, mask_BS, embeds_BSD)
        rows = torch.arange(len(requests), device=self.place.device)
        heads = self._run(
            "open_heads",
            {
                "task_hidden": hidden_BTD[:, count : count + mask_BS.shape[1]],
                "task_mask": mask_BS,
                "gate_hidden": hidden_BTD[rows, end_B - 1],
                "slot_hidden": hidden_BTD[rows, end_B + 1],
                "v_temporal": v_temporal_BE,
            },
            dict.fromkeys(("gate_logit", "request", "query", "end_logit"), (len(requests),)),
        )
        prior_BN = self._prior_weight * RETRIEVAL_SCALE * retrieval_BE @ tools.retrieval_NE.T
        nothing_0D = hidden_BTD.new_zeros(0, hidden_BTD.shape[-1])
        states = [
            State(cache, b, prefixes[b], prior_BN[b], heads["request"][b], v_temporal_BE[b], nothing_0D, ())
            for b in range(len(requests))
        ]
        logits = self._tool_logits(states, heads["query"], heads["end_logit"])
        decision = self._down(torch.cat([heads["gate_logit"].unsqueeze(1), logits], dim=1))
        return [Opening(state, float(row[0]), row[1:]) for state, row in zip(states, decision, strict=True)]

    def _step(self, states: Sequence[State], chosen: Sequence[int]) -> list[StepOutcome]:
        v_toolaware_BD = torch.stack(
            [state.prefix.tools.v_toolaware_ND[tool] for state, tool in zip(states, chosen, strict=True)]
        )
        special = [self._special(token).expand(len(states), -1) for token in (RESOURCE_CFG, TOOL_ID)]
        embeds_B3D = torch.stack([self._tool_token(v_toolaware_BD), *special], dim=1)
        hidden_B3D, cache = self.backbone.hidden(embeds_B3D, gathered(states))
        steps_BKD = torch.cat([torch.stack([s.steps_KD for s in states]), hidden_B3D[:, 1:2]], dim=1)
        heads = self._run(
            "step_heads",
            {
                "steps": steps_BKD,
                "slot_hidden": hidden_B3D[:, 2],
                "request": torch.stack([state.request_Q for state in states]),
                "v_toolaware": v_toolaware_BD,
                "v_temporal": torch.stack([state.v_temporal_E for state in states]),
            },
            dict.fromkeys(("query", "end_logit", "size_logits", "targets"), (len(states),))
            | {"depends_logits": tuple(steps_BKD.shape[:2])},
        )
        after = [
            replace(state, cache=cache, row=row, steps_KD=steps_BKD[row], used=(*state.used, tool))
            for row, (state, tool) in enumerate(zip(states, chosen, strict=True))
        ]
        logits = self._tool_logits(after, heads["query"], heads["end_logit"])
        decision = self._down(torch.cat([heads["size_logits"], heads["targets"], heads["depends_logits"], logits], 1))
        earlier = steps_BKD.shape[1] - 1
        return [
            StepOutcome(
                state=state,
                tool_logits=row[8 + earlier + 1 :],
                size_logits=row[:3],
                resources=self.preparation.rows.inverse_targets(row[3:8]),
                depends_logits=row[8 : 8 + earlier],
            )
            for state, row in zip(after, decision, strict=True)
        ]

    def _laid_out(
        self, virtual_BVD: Tensor, embeds_BSD: Tensor, mask_BS: Tensor, lengths: Sequence[int], links: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """``[curve][task][<TOOL_PLAN>][<TOOL_ID>]`` padded on the right, and where ``<TOOL_PLAN>`` stands (B)."""
        batch, count = virtual_BVD.shape[:2]
        end_B = self._up(np.array(lengths, dtype=np.int64)) + count
        rows = torch.arange(batch, device=self.place.device)
        which_B = self._up(np.array([LINKS.index(name) for name in links], dtype=np.int64))
        room = embeds_BSD.new_zeros(batch, 2, embeds_BSD.shape[2])
        embeds_BTD = torch.cat([virtual_BVD, embeds_BSD * mask_BS.unsqueeze(-1), room], dim=1)
        embeds_BTD[rows, end_B] = self._special(TOOL_PLAN) + self._links_2D[which_B]
        embeds_BTD[rows, end_B + 1] = self._special(TOOL_ID).expand(batch, -1)
        return embeds_BTD, end_B

    def _before_text(
        self, instruction: str, tools: DeviceTools, shortlist: Int, window: CurveWindow
    ) -> tuple[Tensor, DeviceCache]:
        cue = self.preparation.tokenizer.encode(EXPLANATION_CUE)
        ids_1S = self._up(np.array([[*self.preparation.task(instruction), *cue]], dtype=np.int64))
        _, virtual_1VD = self._contexts([window])
        embeds = torch.cat([virtual_1VD, self.backbone.embed(ids_1S).float()], dim=1)
        return embeds, self._prefix(tools, shortlist).cache

    def _contexts(self, windows: Sequence[CurveWindow]) -> tuple[Tensor, Tensor]:
        """v_temporal (B, E) and virtual tokens (B, V, D); requests with equally many GPUs in one run."""
        features = [self.preparation.window(window) for window in windows]
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for gpus in sorted({len(series) for series, _ in features}):
            places = [place for place, (series, _) in enumerate(features) if len(series) == gpus]
            outputs = self._run(
                "context",
                {
                    "series": self._up(np.stack([features[place][0] for place in places])),
                    "log_horizon": self._up(np.stack([features[place][1] for place in places])),
                },
                dict.fromkeys(("v_temporal", "virtual_tokens"), (len(places),)),
            )
            pairs = zip(outputs["v_temporal"], outputs["virtual_tokens"], strict=True)
            found |= dict(zip(places, pairs, strict=True))
        vectors, virtual = zip(*(found[place] for place in range(len(windows))), strict=True)
        return torch.stack(vectors), torch.stack(virtual)

    def _task_vectors(self, ids_BS: Tensor, mask_BS: Tensor, embeds_BSD: Tensor | None = None) -> Tensor:
        embeds_BSD = self.backbone.embed(ids_BS).float() if embeds_BSD is None else embeds_BSD
        feeds = {"token_ids": ids_BS, "token_mask": mask_BS, "embeds": embeds_BSD}
        return self._run("task_vector", feeds, {"retrieval": (len(ids_BS),)})["retrieval"]

    def _tool_logits(self, states: Sequence[State], query_BQ: Tensor, end_B: Tensor) -> Tensor:
        """As ``EngineCore._tool_logits``, for several requests: (B, N + 1)."""
        rows = []
        for row, state in enumerate(states):
            logits_N = state.prefix.tools.key_NQ @ query_BQ[row]
            logits_N[state.prefix.index_P] = state.prefix.keys_PQ @ query_BQ[row]
            if state.used:
                logits_N[self._up(np.array(sorted(set(state.used)), dtype=np.int64))] += self._repeat_bias
            rows.append(torch.cat([logits_N + state.prior_N, end_B[row : row + 1]]))
        return torch.stack(rows)

    def _padded(self, ids: Sequence[Int]) -> tuple[Tensor, Tensor]:
        longest = max(len(one) for one in ids)
        ids_BS = np.zeros((len(ids), longest), dtype=np.int64)
        mask_BS = np.zeros((len(ids), longest), dtype=bool)
        for row, one in enumerate(ids):
            ids_BS[row, : len(one)] = one
            mask_BS[row, : len(one)] = True
        return self._up(ids_BS), self._up(mask_BS)

    def _special(self, token: str) -> Tensor:
        return self._special_4D[SPECIAL_TOKENS.index(token)]

    def _tool_token(self, v_toolaware_BD: Tensor) -> Tensor:
        """As ``model.context_projector.VirtualTokenNorm``."""
        return v_toolaware_BD * torch.rsqrt(v_toolaware_BD.pow(2).mean(-1, keepdim=True) + 1e-6) * self._gain_D

    # ---- sessions ---------------------------------------------------------------------------------------------

    def _run(self, graph: str, inputs: dict[str, Tensor], leading: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Runs a graph of heads; ``leading`` gives the sizes of each output's dynamic axes."""
        session, entry = self._session(graph), self.manifest.graphs[graph]
        outputs = {}
        for tensor in entry.outputs:
            dynamic = iter(leading[tensor.name])
            shape = [axis if isinstance(axis, int) else next(dynamic) for axis in tensor.shape]
            outputs[tensor.name] = torch.empty(shape, dtype=torch.float32, device=self.place.device)
        wanted = {tensor.name: inputs[tensor.name].contiguous() for tensor in entry.inputs}
        session.run(wanted, outputs)
        return outputs

    def _session(self, graph: str) -> BoundSession:
        if graph not in self._sessions:
            self._sessions[graph] = self._load(graph)
        return self._sessions[graph]

    def _load(self, graph: str, *, cuda_graph: bool = False) -> BoundSession:
        path = self._directory / self.manifest.graphs[graph].file
        wide = widened(path) if self.place.provider == "cpu" and self.manifest.precision != "float32" else None
        return BoundSession(path, self.place, threads=self._threads, cuda_graph=cuda_graph, model=wide)

    def _turn(self) -> AbstractContextManager[Any]:
        """One request at a time, on the engine's stream."""
        return _Turn(self._lock, self.place.stream)

    def _up(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.place.device)

    def _down(self, tensor: Tensor) -> Float:
        array: Float = tensor.float().cpu().numpy()
        return array


class _Turn:
    def __init__(self, lock: Any, stream: Any) -> None:
        self._lock = lock
        self._stream: AbstractContextManager[Any] = nullcontext() if stream is None else torch.cuda.stream(stream)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(*error)
        self._lock.release()


def joined(caches: Sequence[DeviceCache]) -> DeviceCache:
    """Caches of single requests as one of several, the shorter ones with holes behind them."""
    if len(caches) == 1:
        return caches[0]
    if all(cache is caches[0] for cache in caches):
        one, count = caches[0], len(caches)
        kv = one.kv_ZBHPC.expand(-1, count, -1, -1, -1)
        return DeviceCache(kv, one.mask_BP.expand(count, -1), one.next_position_B1.expand(count, -1))
    longest = max(cache.length for cache in caches)

    def filled(tensor: Tensor, axis: int) -> Tensor:
        missing = longest - tensor.shape[axis]
        return torch.cat([tensor, tensor.new_zeros(*tensor.shape[:axis], missing, *tensor.shape[axis + 1 :])], axis)

    return DeviceCache(
        torch.cat([filled(cache.kv_ZBHPC, 3) for cache in caches], dim=1),
        torch.cat([filled(cache.mask_BP, 1) for cache in caches]),
        torch.cat([cache.next_position_B1 for cache in caches]),
    )


def gathered(states: Sequence[State]) -> DeviceCache:
    """The cache of some requests; as it is where they are all requests of one pass, in order."""
    shared = states[0].cache
    if len(shared.mask_BP) == len(states) and all(s.cache is shared and s.row == b for b, s in enumerate(states)):
        return shared
    if all(state.cache is shared for state in states):
        return shared.rows([state.row for state in states])
    return joined([state.cache.rows([state.row]) for state in states])


def _check(requests: Sequence[OpenRequest]) -> None:
    if not requests:
        raise ValueError("a batch must hold at least one request, got none")
    for request in requests:
        if request.links not in LINKS:
            raise ValueError(f"links must be one of {LINKS}, got {request.links!r}")
        if not len(request.shortlist):
            raise ValueError("the shortlist must hold at least one tool, got none")
