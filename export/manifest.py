"""Writes ``manifest.json``: everything a reader of the graphs must know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from onnx import ModelProto, ValueInfoProto, helper

import tomas_router
from export.graphs import max_positions
from export.parity import TOLERANCES
from export.qwen_layers import OPSET
from tomas_router.engines.onnx_engine import SMALL_TENSORS
from tomas_router.schema.file_check import file_sha256
from tomas_router.schema.manifest import (
    MANIFEST,
    CurveScalerEntry,
    FileEntry,
    GraphEntry,
    Layout,
    Manifest,
    PackedLayersEntry,
    Precision,
    Quantisation,
    RowScalerEntry,
    Sizes,
    TensorEntry,
    TokenTableEntry,
    Tolerance,
    manifest_text,
)
from tomas_router.training.checkpoint import Checkpoint

TOKENIZER = "tokenizer.json"
LEAST_ONNXRUNTIME = "1.24.1"
"""The first with every operator of opset 23 that the graphs use; the extras `cpu` and `gpu` ask for the same."""
__all__ = [
    "LEAST_ONNXRUNTIME",
    "SMALL_TENSORS",
    "TOKENIZER",
    "file_entry",
    "fingerprint",
    "graph_entry",
    "write_manifest",
]


def graph_entry(name: str, model: ModelProto) -> GraphEntry:
    """Names, types and axes as the graph declares them."""
    return GraphEntry(
        file=f"{name}.onnx",
        inputs=tuple(_tensor(value) for value in model.graph.input),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        opset=None if (opset := _default_opset(model)) == OPSET else opset,
    )


def _default_opset(model: ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def _tensor(value: ValueInfoProto) -> TensorEntry:
    tensor = value.type.tensor_type
    return TensorEntry(
        name=value.name,
        dtype=np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name,
        shape=tuple(d.dim_param or d.dim_value for d in tensor.shape.dim),
    )


def file_entry(path: Path) -> FileEntry:
    """Size and hash of a file."""
    return FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))


def fingerprint(files: Mapping[str, FileEntry]) -> str:
    """Of a model: a hash over its files, in their order."""
    return hashlib.sha256("".join(f"{name}{entry.sha256}" for name, entry in files.items()).encode()).hexdigest()[:24]


def write_manifest(
    checkpoint: Checkpoint,
    training_fingerprint: str,
    quantisation: Quantisation,
    graphs: dict[str, GraphEntry],
    token_table: TokenTableEntry | None,
    out: Path,
    *,
    tolerance: Tolerance | None = None,
    layout: Layout = "embedded",
    precision: Precision = "float32",
    trained: bool = True,
    packed_layers: PackedLayersEntry | None = None,
) -> None:
    """Describes the files that lie in ``out``."""
    if checkpoint.known_tools is not None:
        checkpoint.known_tools.write(out)
    files = {path.name: file_entry(path) for path in sorted(out.iterdir())}
    statistics = checkpoint.statistics
    manifest = Manifest(
        name=checkpoint.config.name,
        fingerprint=fingerprint(files),
        training_fingerprint=training_fingerprint,
        quantisation=quantisation,
        opset=OPSET,
        least_onnxruntime=LEAST_ONNXRUNTIME,
        sizes=_sizes(checkpoint),
        row_scaler=RowScalerEntry(**asdict(statistics.rows)),
        curve_scaler=CurveScalerEntry(**asdict(statistics.curves)),
        calibration=asdict(statistics.calibration),
        tokenizer=TOKENIZER,
        token_table=token_table,
        packed_layers=packed_layers,
        graphs=graphs,
        layout=layout,
        precision=precision,
        trained=trained,
        tolerance=tolerance or TOLERANCES[quantisation],
        files=files,
        versions={
            "tomas-router": tomas_router.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        trained_on=checkpoint.trained_on,
    )
    (out / MANIFEST).write_bytes(manifest_text(manifest).encode())


def _sizes(checkpoint: Checkpoint) -> Sizes:
    config, backbone = checkpoint.config, checkpoint.model.backbone.config
    return Sizes(
        d_model=backbone.hidden_size,
        text_layers=config.backbone.text_layers,
        layers=backbone.num_hidden_layers,
        kv_heads=backbone.num_key_value_heads,
        head_dim=getattr(backbone, "head_dim", None) or backbone.hidden_size // backbone.num_attention_heads,
        vocab=backbone.vocab_size,
        virtual_tokens=config.temporal.virtual_tokens,
        curve_points=config.temporal.points,
        max_prefix_tools=config.max_prefix_tools,
        max_task_tokens=config.max_task_tokens,
        max_tool_tokens=config.tool.max_tokens,
        max_rows=config.tool.max_rows,
        max_steps=config.max_steps,
        max_positions=max_positions(config),
    )
