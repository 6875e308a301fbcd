"""One weights file for all graphs: identical tensors are stored once.

The tool encoder and the backbone hold the same layers, and the token table is also the LM head. ONNX lets a tensor
point into an external file, so every large tensor goes to ``weights.bin`` under the hash of its bytes. Graph files stay
small and no file has the 2 GB limit of a protocol buffer. Packed layers are in it with 4 bits a number, while graphs
point into ``layers.bin``, which engines compute (``tomas_router.schema.packed_layers``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tomas_router.model.packing import BLOCK, Packed
from tomas_router.schema.manifest import PackedLayersEntry, PackedWeight

WEIGHTS = "weights.bin"
LAYERS = "layers.bin"
"""What graphs read where layers are packed; only the checker of the export ever sees it."""
MIN_BYTES = 1024
ALIGNMENT = 4096
"""A page: ONNX Runtime maps tensors that begin on one and copies the others."""
SMALL_ALIGNMENT = 64
SMALL_BYTES = 1 << 18


class SharedWeights:
    """Writes tensors of several graphs to one file, each content once."""

    def __init__(self, directory: Path) -> None:
        self._stored = _Contents(directory / WEIGHTS)
        self._layers = _Contents(directory / LAYERS)
        self._packed: dict[int, PackedWeight] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stored.file.close()
        self._layers.file.close()

    def absorb(self, model: ModelProto, packed: Mapping[str, Packed] | None = None) -> None:
        """Moves every large initialiser of a graph to the shared file, and every packed one however small."""
        for tensor in model.graph.initializer:
            data = numpy_helper.to_array(tensor).tobytes()
            if packed is not None and tensor.name in packed:
                _point(tensor, LAYERS, *self._add_packed(data, packed[tensor.name]))
            elif len(data) >= MIN_BYTES:
                _point(tensor, WEIGHTS, *self.add(data))

    def packed_layers(self) -> PackedLayersEntry | None:
        """How ``layers.bin`` is computed; None where nothing was packed."""
        if not self._packed:
            return None
        return PackedLayersEntry(
            file=LAYERS,
            bytes=self._layers.size,
            stored_in=WEIGHTS,
            block=BLOCK,
            weights=tuple(self._packed.values()),
        )

    def _add_packed(self, data: bytes, weight: Packed) -> tuple[int, int]:
        place = self._layers.add(data)
        if place[0] not in self._packed:
            numbers_KN = weight.numbers_NK.numpy().T.astype(np.int8, order="C")
            four_bits = numbers_KN.reshape(-1).view(np.uint8) & np.uint8(15)
            numbers_offset, _ = self.add((four_bits[::2] | four_bits[1::2] << np.uint8(4)).tobytes())
            steps_offset, _ = self.add(weight.steps_NB.numpy().T.astype(np.uint8, order="C").tobytes())
            inputs, outputs = numbers_KN.shape
            self._packed[place[0]] = PackedWeight(
                shape=(inputs, outputs), offset=place[0], numbers_offset=numbers_offset, steps_offset=steps_offset
            )
        return place

    def fill(self, tensor: TensorProto, data: bytes) -> None:
        """Gives a tensor without content its content, in the shared file.

        Raises:
            ValueError: The content has another size than the tensor's type and dimensions say; names the tensor.
        """
        expected = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if len(data) != expected:
            raise ValueError(f"weight {tensor.name} must have {expected} bytes, got {len(data)}")
        _point(tensor, WEIGHTS, *self.add(data))

    @staticmethod
    def fill_like(tensor: TensorProto, filled: TensorProto) -> None:
        """Gives a tensor without content the content of one that has it."""
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.extend(filled.external_data)

    def add(self, data: bytes) -> tuple[int, int]:
        """Offset and length of the data in the shared file."""
        return self._stored.add(data)


class _Contents:
    """A file under construction that holds each content once."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("wb")
        self.size = 0
        self._known: dict[bytes, tuple[int, int]] = {}

    def add(self, data: bytes) -> tuple[int, int]:
        """Offset and length of the data."""
        key = hashlib.sha256(data).digest()
        if key not in self._known:
            padding = -self.size % (ALIGNMENT if len(data) >= SMALL_BYTES else SMALL_ALIGNMENT)
            self.file.write(bytes(padding))
            self.file.write(data)
            self._known[key] = (self.size + padding, len(data))
            self.size += padding + len(data)
        return self._known[key]


def _point(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
