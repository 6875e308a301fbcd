"""Short lists of candidates for training requests: tools that are alike, tools that are not, the right one missing.

Over a whole registry a plan can nearly always be made. Agents often offer a handful of tools instead; the model must
then tell like ones apart or see that none will do, and both are rare in lists drawn at random. Likeness is that of
words, weighted by how few tools of the source use them; it only has to make lists hard or easy, not right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.words import unit_length
from tomas_router.schema.registry import ToolRegistry

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_\u2e80-\uffff]+|\d+|[\u2e80-\uffff]")
SHORTEST, USUAL, LONGEST = 5, 10, 20
"""Tools of a list; half of all have the usual number, the others any from the shortest to the longest."""
HARD_SHARES = (0.0, 0.5, 1.0)
"""Of a list's wrong tools, those that are the most alike to the right ones."""
ALIKE_SHARE = 0.25
"""Of a pool, the tools so near to the right one that they may do its job: not in a list that lacks it."""


class WordLikeness:
    """How alike tools are by the words of their names and descriptions."""

    def __init__(self, registry: ToolRegistry) -> None:
        words = {tool.name: _words(f"{tool.name} {tool.desc}") for tool in registry}
        tools_with = Counter(word for found in words.values() for word in found)
        rarity = {word: float(np.log(len(words) / count)) for word, count in tools_with.items()}
        self._weights = {name: unit_length({word: rarity[word] for word in found}) for name, found in words.items()}

    def among(self, pool: Sequence[str]) -> NDArray[np.float64]:
        """(N, N) cosines of the tools of a pool, in its order."""
        column = {word: i for i, word in enumerate({word for name in pool for word in self._weights[name]})}
        rows_NW = np.zeros((len(pool), len(column) + 1))
        for row, name in zip(rows_NW, pool, strict=True):
            for word, weight in self._weights[name].items():
                row[column[word]] = weight
        cosine_NN: NDArray[np.float64] = rows_NW @ rows_NW.T
        return cosine_NN


def short_list(
    right: Sequence[int],
    twins: Sequence[int],
    lacks_tool: bool,
    likeness_NN: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Indices of the candidates of one request.

    Args:
        right: Tools that the request needs, of a pool of N.
        twins: Tools that do the same job; the right ones may be among them. A list that lacks the tool lacks them as
            well; in others, which twin is right depends on the curve.
        lacks_tool: None of the list may do the job.
        likeness_NN: How alike the tools of the pool are.
        rng: Where chance comes from.
    """
    count = USUAL if rng.random() < 0.5 else int(rng.integers(SHORTEST, LONGEST + 1))
    alike_N = likeness_NN[list(right)].max(axis=0) + 1e-6 * rng.random(len(likeness_NN))  # ties in any order
    taken = {*right, *twins} if lacks_tool else set(right)
    others = np.array([i for i in np.argsort(-alike_N) if i not in taken], dtype=np.int64)
    if lacks_tool:
        unlike = others[round(ALIKE_SHARE * len(others)) :]
        return rng.permutation(unlike)[:count]
    wrong = max(0, count - len(right))
    hard = round(float(rng.choice(HARD_SHARES)) * wrong)
    return np.concatenate(
        [np.array(right, dtype=np.int64), others[:hard], rng.permutation(others[hard:])[: wrong - hard]]
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in WORD.findall(text))
