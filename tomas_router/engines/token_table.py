"""The token embedding as it lies in the weights file: looked up row by row, never loaded as a whole.

W vocabulary, D width, M blocks a row, S tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomas_router.planner.engine import Float
from tomas_router.schema.manifest import ArrayEntry, TokenTableEntry

ZERO_POINT = 128
"""The stored byte that means 0."""


class TokenTable:
    """Rows of the embedding table; one byte a number and a scale a block, or plain floats."""

    def __init__(self, directory: Path, entry: TokenTableEntry) -> None:
        self._width = entry.width
        self._values = _mapped(directory, entry.values)
        self._scales = None if entry.scales is None else _mapped(directory, entry.scales)

    def __call__(self, token_ids_S: NDArray[np.int64]) -> Float:
        """(S,) ids to (S, D)."""
        rows = self._values[token_ids_S]
        if self._scales is None:
            return rows.astype(np.float32)
        scales_SM = self._scales[token_ids_S]
        numbers = (rows.astype(np.float32) - ZERO_POINT).reshape(*scales_SM.shape, -1)
        embedded: Float = (numbers * scales_SM[..., None]).reshape(len(rows), -1)[:, : self._width]
        return embedded


def _mapped(directory: Path, entry: ArrayEntry) -> NDArray[Any]:
    return np.memmap(directory / entry.file, dtype=entry.dtype, mode="r", offset=entry.offset, shape=entry.shape)
