"""How far copying goes: the plan of the most similar training instruction, by TF-IDF cosine over one and two words."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from tomas_router.datasets.rows import Row

WORD = re.compile(r"\w+")


def nearest_rows(train: Sequence[Row], queries: Sequence[Row]) -> list[Row]:
    """The most similar training row of every query; ties go to the earlier row."""
    documents = [Counter(_terms(row.instruction)) for row in train]
    frequency = Counter(term for document in documents for term in document)
    weight = {term: math.log((1 + len(train)) / (1 + count)) + 1 for term, count in frequency.items()}
    postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for index, document in enumerate(documents):
        vector = {term: count * weight[term] for term, count in document.items()}
        norm = math.sqrt(sum(value * value for value in vector.values())) or 1.0
        for term, value in vector.items():
            postings[term].append((index, value / norm))
    return [train[_best(_terms(row.instruction), weight, postings)] for row in queries]


def copied_plan_share(train: Sequence[Row], queries: Sequence[Row]) -> float:
    """Share of queries whose plan equals the copied one: tools up to their group, order and edges."""
    copied = nearest_rows(train, queries)
    return sum(_plan(row) == _plan(near) for row, near in zip(queries, copied, strict=True)) / len(queries)


def _best(terms: list[str], weight: dict[str, float], postings: dict[str, list[tuple[int, float]]]) -> int:
    scores: dict[int, float] = defaultdict(float)
    for term, count in Counter(terms).items():
        for index, value in postings.get(term, ()):
            scores[index] += count * weight[term] * value
    return min(scores, key=lambda index: (-scores[index], index), default=0)


def _terms(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def _plan(row: Row) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((step.group or step.tool, step.depends_on) for step in row.steps)
