"""Trivial answers to "does this request need a tool at all?"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tomas_router.evaluation.baselines import fit_logistic
from tomas_router.evaluation.text_vectors import TextVectors, nearest, vector_makers

GateBaseline = Callable[[Sequence[str]], list[bool]]


def majority_gate(labels: Sequence[bool]) -> GateBaseline:
    """Always the more frequent answer."""
    answer = 2 * sum(labels) >= len(labels)
    return lambda asked: [answer] * len(asked)


def nearest_gate(vectors: TextVectors, texts: Sequence[str], labels: Sequence[bool]) -> GateBaseline:
    """The answer of the most similar training request."""
    documents = vectors.fit(texts).rows(texts)
    return lambda asked: [labels[i] for i in nearest(vectors.rows(asked), documents)]


def logistic_gate(vectors: TextVectors, texts: Sequence[str], labels: Sequence[bool]) -> GateBaseline:
    """Binary logistic regression."""
    classifier = fit_logistic(vectors.fit(texts).rows(texts), list(labels))
    return lambda asked: [bool(answer) for answer in classifier.predict(vectors.rows(asked))]


def gate_baselines(
    texts: Sequence[str], labels: Sequence[bool], encoders: Sequence[TextVectors] = ()
) -> dict[str, GateBaseline]:
    """Every gate baseline by name; empty without training rows of both kinds."""
    if len(set(labels)) < 2:
        return {}
    found: dict[str, GateBaseline] = {"majority": majority_gate(labels)}
    for make in vector_makers(encoders, keep_stop_words=True):
        label = make().label
        found[f"nearest request ({label})"] = nearest_gate(make(), texts, labels)
        found[f"logistic regression ({label})"] = logistic_gate(make(), texts, labels)
    return found
