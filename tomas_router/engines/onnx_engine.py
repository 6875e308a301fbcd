"""Runs exported artifacts with ONNX Runtime alone: the default engine. Needs neither torch nor transformers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tomas_router.engines.core import Cache, EngineCore, OpenHeads, SmallTensors, StepHeads
from tomas_router.engines.preparation import Preparation
from tomas_router.engines.token_table import TokenTable
from tomas_router.errors import ArtifactMismatchError, MissingExtraError, ModelArtifactError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.known_tools import KNOWN_TOOLS, KnownTools
from tomas_router.features.request_words import REQUEST_WORDS
from tomas_router.features.special_tokens import SPECIAL_TOKENS
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.planner.engine import Calibration, Float, ToolBatch, ToolEncodings
from tomas_router.schema.manifest import MANIFEST, Manifest, PackedLayersEntry, TensorEntry, Verification, read_manifest
from tomas_router.schema.packed_layers import unpacked_layers

Provider = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
ONNX_DTYPES = {"float": "float32", "double": "float64"}
SMALL_TENSORS = "small_tensors.npz"
TEXT = "text"
"""The graph of the text layers; a model without such layers lacks it."""
LOADED_AT_START = (TEXT, "backbone", "context", "tool_set", "open_heads", "step_heads")
"""The rest loads when first needed: a registry that is encoded already needs no tool encoder, routing no LM head."""

THREADED = (TEXT, "backbone", "tool_encoder", "lm_head")
"""Graphs large enough to gain from several threads."""
WITH_LAYERS = (TEXT, "backbone", "tool_encoder", "tool_set")
"""Graphs whose layers may be packed."""


@dataclass(frozen=True)
class InterfaceDifference:
    """An input or output of a graph; None where one side has no more of them."""

    graph: str
    kind: str
    seen: TensorEntry | None
    written: TensorEntry | None


class OnnxEngine(EngineCore):
    """One session a graph. Safe to share between threads."""

    def __init__(self, directory: Path, manifest: Manifest, provider: Provider, intra_op_num_threads: int) -> None:
        self._runtime = import_onnxruntime(provider)
        check_runtime(directory, manifest, self._runtime.__version__)
        self._directory, self.manifest, self._provider = directory, manifest, provider
        self._threads = intra_op_num_threads
        self._sessions: dict[str, Any] = {}
        self._lock = Lock()
        super().__init__(
            preparation_of(directory, manifest),
            small_tensors_of(directory / SMALL_TENSORS, manifest),
            calibration_of(directory, manifest),
            manifest.sizes.max_prefix_tools,
            manifest.sizes.virtual_tokens,
        )
        self.name = manifest.name
        self.fingerprint = manifest.fingerprint
        self.trained_on = manifest.trained_on
        self.known_tools = known_tools_of(directory, manifest)
        if manifest.token_table is None:
            raise ArtifactMismatchError(directory / MANIFEST, "token_table", "a table", "none")
        self._tokens = TokenTable(directory, manifest.token_table)
        packed = manifest.packed_layers
        self._layers = None if packed is None else unpacked_layers(directory, packed)
        for graph in LOADED_AT_START:
            if graph in manifest.graphs:
                self._session(graph)
        self._layers = None  # ONNX Runtime has what it needs of them

    @classmethod
    def load(
        cls,
        directory: str | Path,
        provider: Provider = "cpu",
        *,
        intra_op_num_threads: int = 1,
        verify: Verification = "once",
        cache_dir: str | Path | None = None,
    ) -> OnnxEngine:
        """Loads a model directory.

        Args:
            directory: What ``python -m export.onnx`` wrote, or the packaged model.
            provider: ``cpu`` or ``cuda``.
            intra_op_num_threads: One by default: a router must not be the noisy neighbour of the tools it places.
            verify: When files above 8 MB are hashed: ``once``, unless ``cache_dir`` remembers it, or ``always``. Sizes
                and small files are checked every time.
            cache_dir: Where it is remembered that a file was hashed and found right.

        Raises:
            UntrainedModelError: The directory holds no exported model.
            ArtifactMismatchError: A file is missing, altered, or made for another version of this package or of ONNX
                Runtime; says file, expected and found.
            ModelArtifactError: ONNX Runtime cannot load a graph; names the file.
            MissingExtraError: ONNX Runtime is not installed, or not the one for ``provider``.
            ValueError: ``provider`` or ``verify`` is unknown, or the thread count is negative.
        """
        if provider not in PROVIDERS:
            raise ValueError(f"provider must be 'cpu' or 'cuda', got {provider!r}")
        if intra_op_num_threads < 0:
            raise ValueError(f"intra_op_num_threads must be >= 0 (0 = all cores), got {intra_op_num_threads}")
        directory = Path(directory)
        manifest = read_manifest(directory, verify, cache_dir)
        if manifest.layout != "embedded":
            raise ArtifactMismatchError(directory / MANIFEST, "layout", "embedded", manifest.layout)
        return cls(directory, manifest, provider, intra_op_num_threads)

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """See ``RoutingEngine``."""
        feeds = {
            "token_ids": batch.token_ids_NL,
            "token_mask": batch.token_mask_NL,
            "rows": batch.rows_NR6,
            "row_mask": batch.row_mask_NR,
        }
        return ToolEncodings(*self._session("tool_encoder").run(None, feeds))

    def embed(self, token_ids_S: NDArray[np.int64]) -> Float:
        return self._tokens(token_ids_S)

    def curve_context(self, series_GT4: Float, log_horizon_1: Float) -> tuple[Float, Float]:
        vector, virtual = self._session("context").run(None, {"series": series_GT4, "log_horizon": log_horizon_1})
        return vector, virtual

    def shortlist_keys(self, v_toolaware_PD: Float) -> Float:
        keys: Float = self._session("tool_set").run(None, {"v_toolaware": v_toolaware_PD})[0]
        return keys

    def continue_text(self, embeds_SD: Float, cache: Cache) -> tuple[Float, Cache]:
        return self._run_layers(TEXT, embeds_SD, cache) if TEXT in self.manifest.graphs else (embeds_SD, cache)

    def empty_text_cache(self) -> Cache:
        sizes = self.manifest.sizes
        nothing = np.zeros((1, sizes.kv_heads, 0, sizes.head_dim), dtype=np.float32)
        return Cache(((nothing, nothing),) * sizes.text_layers, 0, 0)

    def run_layers(self, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        return self._run_layers("backbone", embeds_TD, cache)

    def _run_layers(self, graph: str, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        new, total = len(embeds_TD), cache.length + len(embeds_TD)
        positions = np.arange(cache.next_position, cache.next_position + new, dtype=np.int64)
        feeds = {
            f"past_key_values.{layer}.{kind}": tensor
            for layer, pair in enumerate(cache.layers)
            for kind, tensor in zip(("key", "value"), pair, strict=True)
        } | {
            "inputs_embeds": embeds_TD[None],
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": positions[None],
        }
        hidden, *present = self._session(graph).run(None, feeds)
        layers = tuple(zip(present[::2], present[1::2], strict=True))
        return hidden[0], Cache(layers, total, cache.next_position + new)

    def read_opening(self, task_SD: Float, slot_D: Float, v_temporal_E: Float) -> OpenHeads:
        gate, request, query, end = self._session("open_heads").run(
            None, {"task_hidden": task_SD, "slot_hidden": slot_D, "v_temporal": v_temporal_E}
        )
        return OpenHeads(float(gate), request, query, float(end))

    def read_step(
        self, steps_KD: Float, slot_D: Float, request_Q: Float, v_toolaware_D: Float, v_temporal_E: Float
    ) -> StepHeads:
        query, end, size, targets, depends = self._session("step_heads").run(
            None,
            {
                "steps": steps_KD,
                "slot_hidden": slot_D,
                "request": request_Q,
                "v_toolaware": v_toolaware_D,
                "v_temporal": v_temporal_E,
            },
        )
        return StepHeads(query, float(end), size, targets, depends)

    def read_text(self, hidden_D: Float) -> tuple[float, Float]:
        gate, logits_1W = self._session("lm_head").run(None, {"hidden": hidden_D[None]})
        return float(gate[0]), logits_1W[0]

    def interface(self, graph: str) -> tuple[tuple[TensorEntry, ...], tuple[TensorEntry, ...]]:
        """Inputs and outputs of a graph as ONNX Runtime sees them."""
        session = self._session(graph)
        return tuple(map(_seen, session.get_inputs())), tuple(map(_seen, session.get_outputs()))

    def interface_difference(self) -> InterfaceDifference | None:
        """The first input or output that ONNX Runtime sees otherwise than the manifest says; loads every graph."""
        for graph, entry in self.manifest.graphs.items():
            inputs, outputs = self.interface(graph)
            for kind, seen, written in (("input", inputs, entry.inputs), ("output", outputs, entry.outputs)):
                pairs = zip_longest(seen, written)
                different = next(((s, w) for s, w in pairs if s != w), None)
                if different is not None:
                    return InterfaceDifference(graph, kind, *different)
        return None

    def _session(self, graph: str) -> Any:
        session = self._sessions.get(graph)
        if session is None:
            with self._lock:  # two threads load a graph once
                session = self._sessions.get(graph) or self._load_session(graph)
                self._sessions[graph] = session
        return session

    def _load_session(self, graph: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads if graph in THREADED else 1
        options.inter_op_num_threads = 1
        # Idle threads of one graph would otherwise spin on the cores that the next graph needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        path = self._directory / self.manifest.graphs[graph].file
        if self.manifest.packed_layers is not None and graph in WITH_LAYERS:
            files = self._weight_files(self.manifest.packed_layers)
            names, sizes = list(files), [len(content) for content in files.values()]
            options.add_external_initializers_from_files_in_memory(names, list(files.values()), sizes)
        try:
            return self._runtime.InferenceSession(str(path), options, providers=PROVIDERS[self._provider])
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise ModelArtifactError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error

    def _weight_files(self, layers: PackedLayersEntry) -> dict[str, NDArray[np.uint8]]:
        """Content by name: ONNX Runtime takes all weights of a graph from memory or none."""
        unpacked = unpacked_layers(self._directory, layers) if self._layers is None else self._layers
        return {layers.file: unpacked, layers.stored_in: np.memmap(self._directory / layers.stored_in, np.uint8, "r")}


def import_onnxruntime(provider: Provider) -> ModuleType:
    """ONNX Runtime, if it is there and can run on ``provider``.

    Raises:
        MissingExtraError: It is missing, or is the other of the two packages; says what to install.
    """
    try:
        onnxruntime: ModuleType = import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError(
            'running the router needs ONNX Runtime: pip install "tomas-router[cpu]", or '
            '"tomas-router[gpu]" on a machine with CUDA (exactly one of the two)'
        ) from error
    wanted = PROVIDERS[provider][0]
    if wanted not in onnxruntime.get_available_providers():
        raise MissingExtraError(
            f"provider {provider!r} needs {wanted}, which this onnxruntime lacks: pip uninstall onnxruntime, then "
            'pip install "tomas-router[gpu]"'
        )
    return onnxruntime


def _seen(tensor: Any) -> TensorEntry:
    dtype = tensor.type.removeprefix("tensor(").removesuffix(")")
    return TensorEntry(name=tensor.name, dtype=ONNX_DTYPES.get(dtype, dtype), shape=tuple(tensor.shape))


def check_runtime(directory: Path, manifest: Manifest, version: str) -> None:
    """Refuses an ONNX Runtime older than the graphs need.

    Raises:
        ArtifactMismatchError: It is older; says which is needed.
    """
    least = manifest.least_onnxruntime
    if least is not None and _numbers(version) < _numbers(least):
        raise ArtifactMismatchError(directory / MANIFEST, "onnxruntime", f"{least} or newer", version)


def _numbers(version: str) -> tuple[int, ...]:
    """``1.24.1`` or ``1.24.1.dev20260114`` as (1, 24, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def small_tensors_of(path: Path, manifest: Manifest) -> SmallTensors:
    """The parameters that engines read without a graph.

    Raises:
        ArtifactMismatchError: The file is unreadable, or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            small = SmallTensors(
                arrays["special"],
                arrays["links"],
                arrays["tool_token_gain"],
                float(arrays["prior_weight"]),
                float(arrays["repeat_bias"]),
                arrays["retrieval_weight"],
                arrays["retrieval_projection"],
                arrays["retrieval_states"],
            )
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ArtifactMismatchError(path, "content", "the arrays of this version", str(error)) from error
    expected, found = (len(SPECIAL_TOKENS), manifest.sizes.d_model), small.special_4D.shape
    if found != expected:
        raise ArtifactMismatchError(path, "shape of 'special'", str(expected), str(found))
    return small


def calibration_of(directory: Path, manifest: Manifest) -> Calibration:
    """The manifest's fitted numbers.

    Raises:
        ArtifactMismatchError: They are those of another version.
    """
    try:
        return Calibration(**manifest.calibration)
    except TypeError as error:
        expected = ", ".join(Calibration.__dataclass_fields__)
        raise ArtifactMismatchError(
            directory / MANIFEST, "calibration", expected, ", ".join(manifest.calibration)
        ) from error


def known_tools_of(directory: Path, manifest: Manifest) -> KnownTools | None:
    """Tools that training showed, with the words of their requests; None where the manifest names no such file."""
    return KnownTools.read(directory, words=REQUEST_WORDS in manifest.files) if KNOWN_TOOLS in manifest.files else None


def _tokenizer(path: Path, manifest: Manifest) -> TextTokenizer:
    try:
        tokenizer = TextTokenizer.load(path)
    except Exception as error:  # tokenizers raises bare exceptions
        raise ArtifactMismatchError(path, "content", "a tokenizer", str(error)) from error
    if tokenizer.vocab_size > manifest.sizes.vocab:
        raise ArtifactMismatchError(
            path, "vocabulary", f"at most {manifest.sizes.vocab} tokens", f"{tokenizer.vocab_size} tokens"
        )
    return tokenizer


def preparation_of(directory: Path, manifest: Manifest) -> Preparation:
    """Tokenizer, scalers and limits of exported artifacts."""
    rows, curves, sizes = manifest.row_scaler, manifest.curve_scaler, manifest.sizes
    return Preparation(
        _tokenizer(directory / manifest.tokenizer, manifest),
        RowScaler(rows.mode, rows.offset, rows.scale),
        CurveScaler(curves.mode, curves.offset, curves.scale),
        sizes.max_task_tokens,
        sizes.max_tool_tokens,
        sizes.max_rows,
    )
