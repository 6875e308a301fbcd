"""Lists of candidates that a request is asked over once more: similar tools, the right tool absent, few or many tools.

The lists of ten follow the construction of MetaTool (arXiv 2310.03128): ``similar_10`` holds the ten tools whose
descriptions are most like the right one's, itself included; ``absent_10`` draws ten at random from those that are not
among the twenty most alike, so no tool of the list does the job. Their encoder is not public, so likeness is MiniLM's
where it is installed, else TF-IDF's. Draws depend on the row's id and the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tomas_router.datasets.oracle import twins
from tomas_router.datasets.rows import Row
from tomas_router.evaluation.sources import EvalSource
from tomas_router.evaluation.text_vectors import TextVectors, TfidfVectors, cosine
from tomas_router.schema.registry import ToolRegistry

TEN = 10
ALIKE = 20  # tools so near to the right one that they may do its job
COUNTS = (5, 10, 20, 50, 100, 200, 500, 1000)

SIMILAR, UNSEEN = "similar_10", "unseen_among"
ABSENT_10, PRESENT_10, ABSENT_ALL = "absent_10", "present_10", "absent_all"
OF = "of_"
"""Before a number: so many candidates, the right ones among them."""


@dataclass(frozen=True)
class Likeness:
    """How alike the tools of a registry are."""

    label: str  # of the text vectors
    cosine_NN: NDArray[np.float64]

    def ranked(self, tool: int) -> NDArray[np.int64]:
        """All tools, the most alike first; the tool itself leads."""
        row = self.cosine_NN[tool].copy()
        row[tool] = np.inf
        return np.argsort(-row, kind="stable")


def likeness(registry: ToolRegistry, encoders: Sequence[TextVectors]) -> Likeness:
    """Cosines of the descriptions, by the first encoder, else by TF-IDF.

    Raises:
        MissingExtraError: There is no encoder and scikit-learn is not installed.
    """
    texts = [tool.desc for tool in registry]
    vectors = encoders[0] if encoders else TfidfVectors()
    rows = vectors.fit(texts).rows(texts)
    return Likeness(vectors.label, cosine(rows, rows))


def candidate_lists(source: EvalSource, row: Row, alike: Likeness, seed: int) -> dict[str, tuple[str, ...]]:
    """The lists of a row by name; those that its registry is too small for are left out.

    So are lists of ten for rows that want several tools, and all but few or many tools and the right one absent for
    rows that bring candidates of their own.
    """
    base = row.candidates or source.registry.names
    right = dict.fromkeys(tool for step in row.steps for tool in twins(step, source.registry))
    rng = np.random.default_rng([seed, crc32(row.id.encode())])
    others = [base[i] for i in rng.permutation(len(base)).tolist() if base[i] not in right]
    found = {f"{OF}{n}": (*right, *others[: n - len(right)]) for n in COUNTS if len(right) < n < len(base)}
    if len(others) > 1:
        found[ABSENT_ALL] = tuple(others)
    if row.candidates is not None:
        return found
    if 1 < len(source.unseen) < len(source.registry) and all(step.tool in source.unseen for step in row.steps):
        found[UNSEEN] = tuple(name for name in source.registry.names if name in source.unseen)
    return found | (_lists_of_ten(source, row.steps[0].tool, right, others, alike) if len(row.steps) == 1 else {})


def _lists_of_ten(
    source: EvalSource, tool: str, right: dict[str, None], others: Sequence[str], alike: Likeness
) -> dict[str, tuple[str, ...]]:
    names = source.registry.names
    ranked = [names[i] for i in alike.ranked(source.registry.index(tool)).tolist()]
    similar = [tool, *(name for name in ranked if name not in right)][:TEN]
    near = {*right, *ranked[:ALIKE]}
    unlike = [name for name in others if name not in near][:TEN]
    found = {SIMILAR: tuple(similar)} if len(names) > 2 * TEN else {}
    if len(unlike) == TEN:
        found |= {ABSENT_10: tuple(unlike), PRESENT_10: (tool, *unlike[:-1])}
    return found
