"""One weights file for all graphs: identical tensors are stored once.

The tool encoder and the backbone hold the same layers, and the token table is also the LM head. ONNX lets a tensor
point into an external file, so every large tensor goes to ``weights.bin`` under the hash of its bytes. Graph files stay
small and no file has the 2 GB limit of a protocol buffer.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from types import TracebackType
from typing import Self

from onnx import ModelProto, TensorProto, helper, numpy_helper

WEIGHTS = "weights.bin"
MIN_BYTES = 1024
ALIGNMENT = 4096
"""A page: ONNX Runtime maps tensors that begin on one and copies the others."""
SMALL_ALIGNMENT = 64
SMALL_BYTES = 1 << 18


class SharedWeights:
    """Writes tensors of several graphs to one file, each content once."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / WEIGHTS).open("wb")
        self._known: dict[bytes, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def absorb(self, model: ModelProto) -> None:
        """Moves every large initialiser of a graph to the shared file."""
        for tensor in model.graph.initializer:
            packed = tensor.data_type == TensorProto.INT4  # two numbers a byte, which numpy would take apart
            data = tensor.raw_data if packed else numpy_helper.to_array(tensor).tobytes()
            if len(data) >= MIN_BYTES:
                _point(tensor, *self.add(data))

    def fill(self, tensor: TensorProto, data: bytes) -> None:
        """Gives a tensor without content its content, in the shared file.

        Raises:
            ValueError: The content has another size than the tensor's type and dimensions say; names the tensor.
        """
        expected = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if len(data) != expected:
            raise ValueError(f"weight {tensor.name} must have {expected} bytes, got {len(data)}")
        _point(tensor, *self.add(data))

    @staticmethod
    def fill_like(tensor: TensorProto, filled: TensorProto) -> None:
        """Gives a tensor without content the content of one that has it."""
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.extend(filled.external_data)

    def add(self, data: bytes) -> tuple[int, int]:
        """Offset and length of the data in the shared file."""
        key = hashlib.sha256(data).digest()
        if key not in self._known:
            position = self._file.tell()
            padding = -position % (ALIGNMENT if len(data) >= SMALL_BYTES else SMALL_ALIGNMENT)
            self._file.write(bytes(padding))
            self._file.write(data)
            self._known[key] = (position + padding, len(data))
        return self._known[key]


def _point(tensor: TensorProto, offset: int, length: int) -> None:
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
