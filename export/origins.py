"""Notes where each weight of a checkpoint went, so that exported artifacts can be trained on.

``parameters.json`` names, for every tensor of the checkpoint, the graph and the initialiser that hold it; the few that
no graph holds as they are go to ``parameters.npz``. ``tomas_router.training.artifacts`` reads both.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn

from export.graphs import BackboneParts
from tomas_router.training.artifacts import PARAMETERS, REST, StoredWeights, WeightPlace
from tomas_router.training.checkpoint import Checkpoint, describe_model

TOKEN_TABLES = ("embed_tokens.weight", "lm_head.weight")
"""Read from the manifest's token table."""


class WeightOrigins:
    """Finds a checkpoint's tensors among the initialisers of its graphs, by content."""

    def __init__(self, checkpoint: Checkpoint, parts: BackboneParts) -> None:
        self.checkpoint = checkpoint
        self.state = exported_state(checkpoint.model, parts)
        self.places: dict[str, WeightPlace] = {}
        self._names: dict[bytes, list[str]] = {}
        for name, array in self.state.items():
            for form in (array, array.T) if array.ndim == 2 else (array,):
                self._names.setdefault(_digest(form), []).append(name)

    def sources(self, graph: ModelProto) -> dict[str, str]:
        """Of a graph as traced: the initialiser that holds a tensor, by the tensor's name."""
        found: dict[str, str] = {}
        for tensor in graph.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                for name in self._names.get(_digest(numpy_helper.to_array(tensor)), ()):
                    found.setdefault(name, tensor.name)
        return found

    def settle(self, graph_name: str, graph: ModelProto, sources: dict[str, str]) -> None:
        """Of the same graph as it will be written: in which form and orientation the tensors are stored."""
        stored = StoredWeights.of(graph)
        for name, source in sources.items():
            if name not in self.places:
                kept, array = stored.read(source), self.state[name]
                turned = array.ndim == 2 and _distance(kept.T, array) < _distance(kept, array)
                self.places[name] = WeightPlace(graph=graph_name, initializer=source, transposed=turned)

    def write(self, out: Path) -> None:
        """Both files."""
        rest = {name: array for name, array in self.state.items() if name not in self.places}
        np.savez(out / REST, **rest)  # type: ignore[arg-type]  # numpy's stub takes the names for options
        record: dict[str, Any] = describe_model(self.checkpoint.model, ()) | {
            "tensors": {name: place.model_dump() for name, place in sorted(self.places.items())}
        }
        (out / PARAMETERS).write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def exported_state(model: nn.Module, parts: BackboneParts) -> dict[str, np.ndarray]:
    """The checkpoint's tensors with the layers as they are exported, token tables left out."""
    state = dict(model.state_dict())
    for prefix, layers in (("backbone.text.", parts.text), ("backbone.lm.model.", parts.upper)):
        if layers is not None:
            state |= {prefix + name: tensor for name, tensor in layers.body.state_dict().items()}
    return {name: _numpy(tensor) for name, tensor in state.items() if not name.endswith(TOKEN_TABLES)}


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().to(torch.float32).cpu().numpy()
    return array


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()).digest()


def _distance(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left - right).sum()) if left.shape == right.shape else float("inf")
