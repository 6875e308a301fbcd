"""Reads exported artifacts back into a checkpoint, to go on training a model whose checkpoint nobody has.

Quantised weights come back rounded, which training mends within a few steps. The packaged model is such a directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from tomas_router.errors import MissingExtraError, UntrainedModelError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.known_tools import KnownTools
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.planner.engine import Calibration
from tomas_router.schema.manifest import MANIFEST, ArrayEntry, Manifest, TokenTableEntry, read_manifest
from tomas_router.schema.packed_layers import unpacked_layers
from tomas_router.training.checkpoint import Checkpoint, Statistics, build_model, load_checkpoint, read_trained_on

if TYPE_CHECKING:
    from onnx import ModelProto

PARAMETERS = "parameters.json"
REST = "parameters.npz"
TOKEN_ZERO = 128


class WeightPlace(BaseModel):
    """Where one tensor of a checkpoint is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph: str
    initializer: str
    transposed: bool


@dataclass(frozen=True)
class StoredWeights:
    """The weights of one graph, by the name they had before they were rounded."""

    arrays: dict[str, np.ndarray]
    blocks: dict[str, dict[str, int]]  # attributes of the MatMulNBits that reads a matrix

    @classmethod
    def of(cls, graph: ModelProto) -> StoredWeights:
        """Initialisers of a loaded graph."""
        from onnx import helper, numpy_helper

        blocks = {
            node.input[1].removesuffix("_blocks"): {a.name: helper.get_attribute_value(a) for a in node.attribute}
            for node in graph.graph.node
            if node.op_type == "MatMulNBits"
        }
        return cls({t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}, blocks)

    def read(self, source: str) -> np.ndarray:
        """float32 values as stored: rows are inputs where they were rounded by column, outputs where in blocks.

        Raises:
            KeyError: The graph holds no such weight.
        """
        if source in self.arrays:
            return self.arrays[source].astype(np.float32)
        scale = self.arrays[f"{source}_scale"]
        if f"{source}_int8" in self.arrays:
            return (self.arrays[f"{source}_int8"].astype(np.float32) * scale).astype(np.float32)
        return _from_blocks(self.arrays[f"{source}_blocks"], scale, **self.blocks[source])


def _from_blocks(packed: np.ndarray, scale: np.ndarray, *, K: int, N: int, bits: int, **_: Any) -> np.ndarray:
    numbers = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    values = (numbers.astype(np.float32) - (1 << (bits - 1))) * scale.reshape(N, -1, 1)
    rows: np.ndarray = values.reshape(N, -1)[:, :K]
    return rows


def load_start(directory: str | Path, device: str = "cpu") -> Checkpoint:
    """A checkpoint directory or an exported model directory, whichever it is.

    Raises:
        UntrainedModelError: It is neither, or was exported without ``parameters.json``.
        MissingExtraError: It is an exported model and ``onnx`` is not installed.
    """
    return (load_artifacts if (Path(directory) / MANIFEST).exists() else load_checkpoint)(directory, device)


def trained_on_of(directory: str | Path) -> tuple[str, ...] | None:
    """Which sources a checkpoint or an exported model met in training; None where nobody noted it."""
    if (Path(directory) / MANIFEST).exists():
        return read_manifest(directory).trained_on
    return read_trained_on(Path(directory))


def load_artifacts(directory: str | Path, device: str = "cpu") -> Checkpoint:
    """The checkpoint that an export came from, as exactly as the artifacts hold it.

    Raises:
        UntrainedModelError: No model was exported there, or without what is needed to read it back.
        MissingExtraError: ``onnx`` is not installed.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    table = manifest.token_table
    if manifest.layout != "embedded" or table is None:
        raise UntrainedModelError(
            f"{directory} has layout {manifest.layout!r}, which is not read back; train on with the checkpoint itself"
        )
    if not (directory / PARAMETERS).exists():
        raise UntrainedModelError(
            f"{directory} holds no {PARAMETERS}: it was exported by an older version; export its checkpoint again"
        )
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('reading a model back needs onnx: pip install "tomas-router[export]"') from error
    record = json.loads((directory / PARAMETERS).read_text(encoding="utf-8"))
    if not record["tied"]:
        raise UntrainedModelError(f"{directory} has an LM head of its own, which cannot be read back from artifacts")
    config, model = build_model(record, device)
    graphs = {name: StoredWeights.of(graph) for name, graph in _graphs(directory, manifest)}
    state: dict[str, np.ndarray] = {}
    for name, fields in record["tensors"].items():
        place = WeightPlace(**fields)
        values = graphs[place.graph].read(place.initializer)
        state[name] = values.T if place.transposed else values
    with np.load(directory / REST) as rest:
        state |= {name: rest[name] for name in rest.files}
    tensors = {name: torch.tensor(np.ascontiguousarray(values)) for name, values in state.items()}
    tensors["backbone.lm.model.embed_tokens.weight"] = torch.from_numpy(_token_table(directory, table))
    missing = set(model.state_dict()) - set(tensors) - {"backbone.lm.lm_head.weight"}
    if missing:
        raise UntrainedModelError(f"{directory} lacks {len(missing)} tensors of the model, first {min(missing)}")
    model.load_state_dict(tensors, strict=False)
    model.backbone.lm.tie_weights()
    tokenizer_path = directory / manifest.tokenizer
    tokenizer = TextTokenizer.load(tokenizer_path)
    return Checkpoint(
        model.eval(),
        config,
        _statistics(manifest),
        tokenizer,
        tokenizer_path,
        manifest.trained_on,
        KnownTools.read(directory),
    )


def _graphs(directory: Path, manifest: Manifest) -> Iterator[tuple[str, ModelProto]]:
    """Every graph with its weights, those of packed layers too."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

    packed = manifest.packed_layers
    layers = None if packed is None else unpacked_layers(directory, packed)
    for name, entry in manifest.graphs.items():
        graph = onnx.load(str(directory / entry.file), load_external_data=False)
        for tensor in graph.graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                continue
            place = ExternalDataInfo(tensor)
            if packed is not None and layers is not None and place.location == packed.file:
                tensor.raw_data = layers[place.offset : place.offset + place.length].tobytes()
            else:
                load_external_data_for_tensor(tensor, str(directory))
            tensor.data_location = onnx.TensorProto.DEFAULT
        yield name, graph


def _token_table(directory: Path, table: TokenTableEntry) -> np.ndarray:
    values = _array(directory, table.values).astype(np.float32)
    if table.scales is not None:
        scales = _array(directory, table.scales)
        values = ((values - TOKEN_ZERO).reshape(*scales.shape, -1) * scales[..., None]).reshape(len(values), -1)
    return np.ascontiguousarray(values[:, : table.width])


def _array(directory: Path, entry: ArrayEntry) -> np.ndarray:
    count = int(np.prod(entry.shape))
    return np.fromfile(directory / entry.file, entry.dtype, count, offset=entry.offset).reshape(entry.shape)


def _statistics(manifest: Manifest) -> Statistics:
    rows, curves = manifest.row_scaler, manifest.curve_scaler
    return Statistics(
        RowScaler(rows.mode, rows.offset, rows.scale),
        CurveScaler(curves.mode, curves.offset, curves.scale),
        Calibration(**manifest.calibration),
    )
