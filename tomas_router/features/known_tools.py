"""Which tools a network knows by heart from its training, by what it reads of them, and how they were asked for.

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

from tomas_router.features.request_words import RequestWords, ToolWords
from tomas_router.features.tool_text import tool_text
from tomas_router.schema.registry import ToolSpec

DIGEST_BYTES = 8
KNOWN_TOOLS = "known_tools.txt"
"""The file of a checkpoint or a model directory: one digest a line, in hexadecimal digits, sorted."""


class KnownTools:
    """A set of tool texts, kept as digests: the texts themselves belong to whoever wrote them."""

    def __init__(self, digests: Iterable[str] = (), words: RequestWords | None = None) -> None:
        """``words``: how training requests asked for tools; these need not all be known by heart."""
        self._digests = frozenset(digests)
        self.words = words

    @classmethod
    def of(cls, tools: Iterable[ToolSpec], words: RequestWords | None = None) -> KnownTools:
        """These tools."""
        return cls((digest(tool) for tool in tools), words)

    def __len__(self) -> int:
        return len(self._digests)

    def over(self, older: KnownTools) -> KnownTools:
        """With the tools of an older training, whose words count where this one has none."""
        words = older.words if self.words is None else self.words
        if self.words is not None and older.words is not None:
            words = self.words.over(older.words)
        return KnownTools(self._digests | older._digests, words)

    def know(self, tools: Sequence[ToolSpec]) -> NDArray[np.bool_]:
        """(N,) whether training showed each tool, with the same name and description."""
        return np.array([digest(tool) in self._digests for tool in tools], dtype=bool)

    def words_of(self, tools: Sequence[ToolSpec]) -> ToolWords | None:
        """What a request's words say about tools; None where they say nothing."""
        return None if self.words is None else self.words.of([digest(tool) for tool in tools])

    def write(self, directory: Path) -> None:
        """Writes ``known_tools.txt``, and ``request_words.npz`` where there are words."""
        (directory / KNOWN_TOOLS).write_text("".join(f"{d}\n" for d in sorted(self._digests)), encoding="ascii")
        if self.words is not None:
            self.words.write(directory)

    @classmethod
    def read(cls, directory: Path, *, words: bool = True) -> KnownTools | None:
        """What ``write`` wrote, ``words`` or none; None where nothing was."""
        path = directory / KNOWN_TOOLS
        if not path.exists():
            return None
        said = RequestWords.read(directory) if words else None
        return cls(path.read_text(encoding="ascii").split(), said)


def digest(tool: ToolSpec) -> str:
    """What stands for a tool: the first ``DIGEST_BYTES`` bytes of the BLAKE2b of what the network reads of it."""
    return hashlib.blake2b(tool_text(tool.name, tool.desc).encode(), digest_size=DIGEST_BYTES).hexdigest()
