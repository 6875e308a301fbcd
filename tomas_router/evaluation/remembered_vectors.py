"""Text vectors of a pre-trained encoder, kept on disk: MiniLM needs minutes for MetaTool's training requests."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomas_router.evaluation.text_vectors import TextVectors

logger = logging.getLogger(__name__)

DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
WORTH_WRITING = 50  # new texts; fewer are encoded faster than the file is written


class RememberedVectors:
    """An encoder that looks up texts it has seen, in this process or an earlier one."""

    def __init__(self, encoder: TextVectors, folder: Path) -> None:
        """Args: folder: holds one file an encoder, by its label; texts are stored as hashes only."""
        self.label = encoder.label
        self._encoder = encoder
        self._path = folder / f"vectors-{encoder.label.lower()}.npz"
        self._known = self._read()

    def fit(self, texts: Sequence[str]) -> RememberedVectors:  # noqa: ARG002  (pre-trained)
        return self

    def rows(self, texts: Sequence[str]) -> Any:
        """(B, D) unit rows."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._known |= dict(zip(new, self._encoder.rows(list(new.values())), strict=True))
        if len(new) >= WORTH_WRITING:
            self._write()
        return np.stack([self._known[key] for key in keys])

    def _read(self) -> dict[str, NDArray[np.float32]]:
        if not self._path.exists():
            return {}
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                return dict(zip(arrays["keys"].tolist(), arrays["rows"], strict=True))
        except DAMAGE as error:
            logger.warning("ignoring the damaged cache file %s: %s", self._path, error)
            return {}

    def _write(self) -> None:
        """Whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._path.parent, suffix=".part", delete=False) as file:
            np.savez(file, keys=np.array(list(self._known)), rows=np.stack(list(self._known.values())))
        Path(file.name).replace(self._path)
