"""Texts as unit vectors, so that a dot product is a cosine: the ground of retrieval, copying and classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomas_router.extras import import_extra
from tomas_router.features.words import words

CHUNK = 256  # query rows compared at once; 256 x 12,000 training rows are 24 MB


class TextVectors(Protocol):
    """Turns texts into unit rows, dense or sparse."""

    label: str

    def fit(self, texts: Sequence[str]) -> TextVectors:
        """Learns from the texts that will be searched; a pre-trained encoder learns nothing."""
        ...

    def rows(self, texts: Sequence[str]) -> Any:
        """(B, D) unit rows."""
        ...


class TfidfVectors:
    """Single words, weighted by sublinear TF and IDF.

    The strongest of the plain settings on MetaTool's validation rows: word pairs cost 3 points, English stop words 6.
    Whether a request needs a tool at all hangs on just those ("what is", "who was"), so the gate keeps them.
    """

    label = "TF-IDF"

    def __init__(self, keep_stop_words: bool = False) -> None:
        text = require_sklearn("feature_extraction.text")
        stop_words = frozenset() if keep_stop_words else text.ENGLISH_STOP_WORDS

        def content_words(document: str) -> list[str]:
            return [word for word in words(document) if word not in stop_words]

        self._vectorizer = text.TfidfVectorizer(
            tokenizer=content_words, token_pattern=None, lowercase=False, sublinear_tf=True, dtype=np.float32
        )

    def fit(self, texts: Sequence[str]) -> TfidfVectors:
        self._vectorizer.fit(texts)
        return self

    def rows(self, texts: Sequence[str]) -> Any:
        return self._vectorizer.transform(texts)


def vector_makers(encoders: Sequence[TextVectors], *, keep_stop_words: bool = False) -> list[Callable[[], TextVectors]]:
    """TF-IDF, made afresh each time because it is fitted, then the pre-trained encoders as they are."""
    return [partial(TfidfVectors, keep_stop_words), *(partial(_itself, encoder) for encoder in encoders)]


def _itself(encoder: TextVectors) -> TextVectors:
    return encoder


def require_sklearn(module: str) -> Any:
    """A module of scikit-learn.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    return import_extra(f"sklearn.{module}", "eval", "the baselines need scikit-learn")


def cosine(queries: Any, documents: Any) -> NDArray[np.float64]:
    """(Q, N) dense cosines of two sets of unit rows."""
    product = queries @ documents.T
    return np.asarray(product.toarray() if hasattr(product, "toarray") else product, dtype=np.float64)


def nearest(queries: Any, documents: Any) -> NDArray[np.int64]:
    """(Q,) index of the nearest document, the first of equals."""
    count = queries.shape[0]
    best = [cosine(queries[i : i + CHUNK], documents).argmax(axis=1) for i in range(0, count, CHUNK)]
    return np.concatenate(best) if best else np.zeros(0, dtype=np.int64)
