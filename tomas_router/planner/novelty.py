"""What decoding must know of a registry's tools beside the network: which are new, and what words say; N tools."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.known_tools import KnownTools
from tomas_router.features.words import content_stems
from tomas_router.planner.word_overlap import WordOverlap
from tomas_router.schema.registry import ToolRegistry


class NovelTools:
    """A registry's tools, those that training never showed apart."""

    def __init__(self, registry: ToolRegistry, known: KnownTools) -> None:
        self.registry = registry
        self.texts = _texts(registry)
        self.novel_N: NDArray[np.bool_] = ~known.know(registry.tools)
        self.undescribed_N: NDArray[np.bool_] = np.array(
            [_says_its_name_alone(*text) for text in self.texts], dtype=bool
        )
        self._words = known.words_of(registry.tools)
        self.word_source_N = None if self._words is None else self._words.source_N
        """(N,) which of the word logits may be compared: those of the same number."""

    def word_logits(self, instruction: str) -> NDArray[np.float64] | None:
        """(N,) what the words of training requests say, NaN for tools that none asked for; None where none did."""
        return None if self._words is None else self._words.log_odds(instruction)

    def overlap(self, instruction: str) -> NDArray[np.float64] | None:
        """(N,) words in common with a request; None where no tool is new."""
        return self._overlap.of(instruction) if self.novel_N.any() else None

    @cached_property
    def _overlap(self) -> WordOverlap:
        return WordOverlap([f"{name} {desc}" for name, desc in self.texts])


class Novelty:
    """Remembers the last tools, since agents ask over the same ones again and again; threads may share it.

    Live sources make a registry anew for every request, so it is the texts that count.
    """

    def __init__(self, known: KnownTools | None) -> None:
        """``known``: tools that training showed; None where nobody noted them, and then nothing is new."""
        self._known = known
        self._last: NovelTools | None = None

    def of(self, registry: ToolRegistry) -> NovelTools | None:
        """None where nobody noted which tools training showed."""
        if self._known is None:
            return None
        last = self._last
        if last is None or not (last.registry is registry or last.texts == _texts(registry)):
            last = self._last = NovelTools(registry, self._known)
        return last


def _says_its_name_alone(name: str, desc: str) -> bool:
    return set(content_stems(desc)) <= set(content_stems(name))


def _texts(registry: ToolRegistry) -> list[tuple[str, str]]:
    return [(tool.name, tool.desc) for tool in registry]
