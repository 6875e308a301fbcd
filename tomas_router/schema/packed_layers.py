"""The weights file of packed layers: stored with 4 bits a weight, read by the graphs with 8.

Graphs point into a file that no model directory holds (``manifest.packed_layers.file``). Whoever runs them computes its
bytes once from the stored numbers and steps, and hands them to ONNX Runtime by that name, as all of its languages can;
or writes the file beside the graphs (``tomas artifacts unpack``). How layers are rounded: ``model.packing``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomas_router.schema.manifest import PackedLayersEntry

SIGNED = np.array([*range(8), *range(-8, 0)], dtype=np.int8)
"""What four bits mean in two's complement."""
PAIRS = np.stack([np.tile(SIGNED, 16), SIGNED.repeat(16)], axis=-1).view(np.int16)[:, 0]
"""Both numbers of a byte at once: the first is in its lower half."""


def unpacked_layers(directory: Path, layers: PackedLayersEntry) -> NDArray[np.uint8]:
    """(``layers.bytes``,) the file that the graphs read: each weight is its number times the step of its block."""
    stored = np.memmap(directory / layers.stored_in, dtype=np.uint8, mode="r")
    unpacked = np.zeros(layers.bytes, dtype=np.int8)
    for weight in layers.weights:
        inputs, outputs = weight.shape
        blocks, size = inputs // layers.block, inputs * outputs
        pairs = stored[weight.numbers_offset : weight.numbers_offset + size // 2]
        steps = stored[weight.steps_offset : weight.steps_offset + blocks * outputs].view(np.int8)
        numbers = PAIRS[pairs].view(np.int8).reshape(blocks, layers.block, outputs)
        target = unpacked[weight.offset : weight.offset + size].reshape(numbers.shape)
        np.multiply(numbers, steps.reshape(blocks, 1, outputs), out=target)
    return unpacked.view(np.uint8)
