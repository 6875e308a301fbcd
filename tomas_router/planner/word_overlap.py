"""How many telling words a request shares with each tool: TF-IDF cosines, without a weight that was trained.

It knows nothing, and so nothing of training's tools either. N tools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.words import content_stems, unit_length

Float = NDArray[np.float64]


class WordOverlap:
    """An index of tool texts; a word's weight grows with its rarity among them, and with the logarithm of its count."""

    def __init__(self, texts: Sequence[str]) -> None:
        """``texts``: name and description of each tool."""
        counts = [Counter(content_stems(text)) for text in texts]
        tools_with = Counter(word for count in counts for word in count)
        self._rarity = {word: float(np.log((1 + len(texts)) / (1 + n)) + 1.0) for word, n in tools_with.items()}
        self._size = len(texts)
        places: dict[str, list[int]] = {}
        weights: dict[str, list[float]] = {}
        for tool, count in enumerate(counts):
            for word, weight in self._unit(count).items():
                places.setdefault(word, []).append(tool)
                weights.setdefault(word, []).append(weight)
        self._postings = {w: (np.array(places[w], dtype=np.int64), np.array(weights[w])) for w in places}

    def of(self, request: str) -> Float:
        """(N,) cosines of the request and the tools, 0 to 1; words that no tool has do not count."""
        found_N = np.zeros(self._size)
        for word, weight in self._unit(Counter(content_stems(request))).items():
            tools, weights = self._postings[word]
            found_N[tools] += weight * weights
        return found_N

    def _unit(self, count: Counter[str]) -> dict[str, float]:
        rarity = self._rarity
        return unit_length({w: (1.0 + np.log(times)) * rarity[w] for w, times in count.items() if w in rarity})
