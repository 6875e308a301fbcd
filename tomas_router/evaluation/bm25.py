"""Okapi BM25 over a small, fixed set of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tomas_router.features.words import words

K1 = 1.5  # customary values; not tuned
B = 0.75


class Bm25:
    """Robertson and Zaragoza's ranking with the always-positive idf ln(1 + (N - n + .5) / (n + .5))."""

    def __init__(self, documents: Sequence[str]) -> None:
        counts = [Counter(words(text)) for text in documents]
        lengths = np.array([max(1, sum(c.values())) for c in counts], dtype=np.float64)
        norm_N = K1 * (1 - B + B * lengths / lengths.mean())
        postings: dict[str, list[tuple[int, int]]] = {}
        for document, count in enumerate(counts):
            for word, times in count.items():
                postings.setdefault(word, []).append((document, times))
        self._size = len(documents)
        self._weights: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
        for word, hits in postings.items():
            index, times = np.array(hits, dtype=np.int64).T
            idf = np.log(1 + (self._size - len(hits) + 0.5) / (len(hits) + 0.5))
            self._weights[word] = index, idf * times * (K1 + 1) / (times + norm_N[index])

    def scores(self, queries: Sequence[str]) -> NDArray[np.float64]:
        """(Q, N) scores; every occurrence of a query word counts."""
        scores_QN = np.zeros((len(queries), self._size))
        for row, query in zip(scores_QN, queries, strict=True):
            for word, times in Counter(words(query)).items():
                if word in self._weights:
                    index, weight = self._weights[word]
                    row[index] += times * weight
        return scores_QN
