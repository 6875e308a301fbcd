"""Which tools a network knows by heart from its training, by what it reads of them.

Such a tool answers its requests with larger logits than one that training never or hardly showed, however well both
fit. The planner therefore has to know which is which (``planner.decoding``); names alone would not do, since another
tool may carry the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.tool_text import tool_text
from tomas_router.schema.registry import ToolSpec

DIGEST_BYTES = 8
KNOWN_TOOLS = "known_tools.txt"
"""The file of a checkpoint or a model directory: one digest a line, in hexadecimal digits, sorted."""


class KnownTools:
    """A set of tool texts, kept as digests: the texts themselves belong to whoever wrote them."""

    def __init__(self, digests: Iterable[str] = ()) -> None:
        self._digests = frozenset(digests)

    @classmethod
    def of(cls, tools: Iterable[ToolSpec]) -> KnownTools:
        """These tools."""
        return cls(_digest(tool.name, tool.desc) for tool in tools)

    def __len__(self) -> int:
        return len(self._digests)

    def __or__(self, other: KnownTools) -> KnownTools:
        return KnownTools(self._digests | other._digests)

    def know(self, tools: Sequence[ToolSpec]) -> NDArray[np.bool_]:
        """(N,) whether training showed each tool, with the same name and description."""
        return np.array([_digest(tool.name, tool.desc) in self._digests for tool in tools], dtype=bool)

    def write(self, directory: Path) -> None:
        """Writes ``known_tools.txt``."""
        (directory / KNOWN_TOOLS).write_text("".join(f"{d}\n" for d in sorted(self._digests)), encoding="ascii")

    @classmethod
    def read(cls, directory: Path) -> KnownTools | None:
        """What ``write`` wrote; None where nothing was."""
        path = directory / KNOWN_TOOLS
        return cls(path.read_text(encoding="ascii").split()) if path.exists() else None


def _digest(name: str, desc: str) -> str:
    return hashlib.blake2b(tool_text(name, desc).encode(), digest_size=DIGEST_BYTES).hexdigest()
