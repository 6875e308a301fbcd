"""One weights file for all graphs: identical tensors are stored once.

The tool encoder and the backbone hold the same layers, and the token embedding is also the LM head. ONNX lets a tensor
point into an external file, so every large tensor goes to ``weights.bin`` under the hash of its bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

WEIGHTS = "weights.bin"
MIN_BYTES = 1024
ALIGNMENT = 64


class SharedWeights:
    """Collects tensors of several graphs."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._offset = 0
        self._known: dict[str, tuple[int, int]] = {}

    def absorb(self, model: onnx.ModelProto) -> None:
        """Moves every large initialiser of a graph to the shared file."""
        for tensor in model.graph.initializer:
            data = numpy_helper.to_array(tensor).tobytes()
            if len(data) >= MIN_BYTES:
                offset, length = self.add(data)
                _point(tensor, offset, length)

    def add(self, data: bytes) -> tuple[int, int]:
        """Offset and length of the data in the shared file."""
        key = hashlib.sha256(data).hexdigest()
        if key not in self._known:
            padding = -self._offset % ALIGNMENT
            self._parts += [bytes(padding), data]
            self._known[key] = (self._offset + padding, len(data))
            self._offset += padding + len(data)
        return self._known[key]

    def write(self, directory: Path) -> None:
        """Writes ``weights.bin``."""
        with (directory / WEIGHTS).open("wb") as file:
            file.writelines(self._parts)


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
