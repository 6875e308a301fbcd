"""Runs exported artifacts with ONNX Runtime alone: the default engine. Needs neither torch nor transformers."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomas_router.engines.core import Cache, EngineCore, OpenHeads, SmallTensors, StepHeads
from tomas_router.engines.preparation import Preparation
from tomas_router.errors import MissingExtraError, ModelArtifactError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.planner.engine import Calibration, Float, ToolBatch, ToolEncodings
from tomas_router.schema.manifest import Manifest, read_manifest

Provider = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
SMALL_TENSORS = "small_tensors.npz"
LM_HEAD_BLOCK = 4096
"""Vocabulary rows that are widened to float at a time."""


class OnnxEngine(EngineCore):
    """One session a graph; rarely used graphs (tool encoder, text gate) load when first needed."""

    def __init__(self, directory: Path, manifest: Manifest, provider: Provider, intra_op_num_threads: int) -> None:
        self._runtime = _onnxruntime()
        self._directory, self.manifest, self._provider = directory, manifest, provider
        self._threads = intra_op_num_threads
        self._sessions: dict[str, Any] = {}
        self._lock = Lock()
        arrays = np.load(directory / SMALL_TENSORS)
        sizes = manifest.sizes
        super().__init__(
            _preparation(directory, manifest),
            SmallTensors(
                arrays["special"],
                arrays["links"],
                arrays["tool_token_gain"],
                float(arrays["prior_weight"]),
                arrays["retrieval_weight"],
                arrays["retrieval_projection"],
            ),
            Calibration(**manifest.calibration),
            sizes["max_prefix_tools"],
            sizes["virtual_tokens"],
        )
        self.name = manifest.name
        self.fingerprint = manifest.fingerprint
        self._scale_W: Float = arrays["embedding_scale"]
        self._table_WD: NDArray[np.int8] = np.memmap(
            directory / "weights.bin",
            dtype=np.int8,
            mode="r",
            offset=sizes["embedding_offset"],
            shape=(sizes["vocab"], sizes["d_model"]),
        )
        layers = range(sizes["layers"])
        self._past = [f"past_key_values.{y}.{kind}" for y in layers for kind in ("key", "value")]
        self._session("backbone")

    @classmethod
    def load(
        cls,
        directory: str | Path,
        provider: Provider = "cpu",
        *,
        intra_op_num_threads: int = 1,
        verify: Literal["size", "full"] = "size",
    ) -> OnnxEngine:
        """Loads a model directory.

        Args:
            directory: What ``python -m export.onnx`` wrote, or the packaged model.
            provider: ``cpu`` or ``cuda``.
            intra_op_num_threads: One by default: a router must not be the noisy neighbour of the tools it places.
            verify: ``size`` or ``full`` (hashes every file).

        Raises:
            UntrainedModelError: The directory holds no exported model.
            ModelArtifactError: A file is missing, altered, or cannot be loaded.
            MissingExtraError: Neither onnxruntime nor onnxruntime-gpu is installed.
        """
        if provider not in PROVIDERS:
            raise ValueError(f"provider must be 'cpu' or 'cuda', got {provider!r}")
        return cls(Path(directory), read_manifest(directory, verify), provider, intra_op_num_threads)

    def encode_tools(self, batch: ToolBatch) -> ToolEncodings:
        """See ``RoutingEngine``."""
        outputs = self._session("tool_encoder").run(
            None,
            {
                "token_ids": batch.token_ids_NL,
                "token_mask": batch.token_mask_NL,
                "rows": batch.rows_NR6,
                "row_mask": batch.row_mask_NR,
            },
        )
        return ToolEncodings(*outputs)

    def _embed(self, token_ids_S: NDArray[np.int64]) -> Float:
        embedded: Float = self._table_WD[token_ids_S].astype(np.float32) * self._scale_W[token_ids_S][:, None]
        return embedded

    def _context(self, series_GT4: Float, log_horizon_1: Float) -> tuple[Float, Float]:
        vector, virtual = self._session("context").run(None, {"series": series_GT4, "log_horizon": log_horizon_1})
        return vector, virtual

    def _short_keys(self, v_toolaware_PD: Float) -> Float:
        keys: Float = self._session("tool_set").run(None, {"v_toolaware": v_toolaware_PD})[0]
        return keys

    def _run(self, embeds_TD: Float, cache: Cache) -> tuple[Float, Cache]:
        length = len(embeds_TD)
        past = cache.layers[0][0].shape[2]
        tensors = [tensor for pair in cache.layers for tensor in pair]
        feeds = dict(zip(self._past, tensors, strict=True)) | {
            "inputs_embeds": embeds_TD[None],
            "attention_mask": np.ones((1, past + length), dtype=np.int64),
            "position_ids": np.arange(cache.next_position, cache.next_position + length, dtype=np.int64)[None],
        }
        hidden, *present = self._session("backbone").run(None, feeds)
        layers = tuple(zip(present[::2], present[1::2], strict=True))
        return hidden[0], Cache(layers, cache.prefix_length, cache.next_position + length)

    def _open_heads(self, task_SD: Float, slot_D: Float, v_temporal_E: Float) -> OpenHeads:
        gate, request, query, end = self._session("open_heads").run(
            None, {"task_hidden": task_SD, "slot_hidden": slot_D, "v_temporal": v_temporal_E}
        )
        return OpenHeads(float(gate), request, query, float(end))

    def _step_heads(
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

    def _text_heads(self, hidden_D: Float) -> tuple[float, int]:
        gate = self._session("text_gate").run(None, {"hidden": hidden_D})[0]
        # The LM head is the token embedding itself; in blocks, so that no float copy of the whole table exists.
        blocks = range(0, len(self._table_WD), LM_HEAD_BLOCK)
        scores = [self._table_WD[b : b + LM_HEAD_BLOCK].astype(np.float32) @ hidden_D for b in blocks]
        return float(gate), int((np.concatenate(scores) * self._scale_W).argmax())

    def _session(self, graph: str) -> Any:
        session = self._sessions.get(graph)
        if session is None:
            with self._lock:  # two threads load a graph once
                session = self._sessions.get(graph) or self._load_session(graph)
                self._sessions[graph] = session
        return session

    def _load_session(self, graph: str) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = self._directory / self.manifest.graphs[graph].file
        try:
            return self._runtime.InferenceSession(str(path), options, providers=PROVIDERS[self._provider])
        except Exception as error:
            raise ModelArtifactError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            'running the router needs ONNX Runtime: pip install "tomas-router[cpu]", or '
            '"tomas-router[gpu]" on a machine with CUDA (exactly one of the two)'
        ) from error
    module: ModuleType = onnxruntime
    return module


def _preparation(directory: Path, manifest: Manifest) -> Preparation:
    rows, curves, sizes = manifest.row_scaler, manifest.curve_scaler, manifest.sizes
    return Preparation(
        TextTokenizer.load(directory / "tokenizer.json"),
        RowScaler(rows["mode"], tuple(rows["offset"]), tuple(rows["scale"])),
        CurveScaler(curves["mode"], tuple(curves["offset"]), tuple(curves["scale"])),
        sizes["max_task_tokens"],
        sizes["max_tool_tokens"],
        sizes["max_rows"],
    )
