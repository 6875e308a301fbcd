"""Trivial planners that ours is printed beside; whoever beats none of them has learned nothing.

N tools, B requests. Each baseline is ready when built and answers a batch with plan shapes. A baseline that scores
tools rather than plans names as many as the request asks for, otherwise as many as training plans most often have,
best first, and links them as a chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tomas_router.evaluation.bm25 import Bm25
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.text_vectors import TextVectors, cosine, nearest, require_sklearn, vector_makers
from tomas_router.features.tool_text import tool_text
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

Scores = NDArray[np.float64]
NO_TOOL = ""  # class of requests that need none; no registry can hold an empty name
LOGISTIC_C = 10.0  # weak regularisation suits sparse text; not tuned further
LOGISTIC_ITERATIONS = 300


@dataclass(frozen=True)
class TrainingPlans:
    """What a baseline may learn from: requests and their plans (``NO_PLAN`` where no tool is needed)."""

    instructions: tuple[str, ...]
    plans: tuple[PlanShape, ...]

    def usual_length(self) -> int:
        """The most frequent number of steps; 1 without training plans."""
        lengths = Counter(len(plan.tools) for plan in self.plans if plan.tools)
        return min(lengths, key=lambda n: (-lengths[n], n)) if lengths else 1


class Baseline(Protocol):
    """Answers a batch of requests."""

    name: str

    def predict(self, requests: Sequence[PlanRequest]) -> list[PlanShape]:
        """One plan shape a request, in order."""
        ...


class MajorityPlan:
    """The most frequent training plan that the candidates allow."""

    name = "majority"

    def __init__(self, training: TrainingPlans) -> None:
        self._ranked = [plan for plan, _ in Counter(training.plans).most_common()]

    def predict(self, requests: Sequence[PlanRequest]) -> list[PlanShape]:
        return [next((plan for plan in self._ranked if _allowed(plan, request)), NO_PLAN) for request in requests]


class ToolRanking:
    """Names the best-scoring tools."""

    def __init__(
        self, name: str, tools: Sequence[str], score: Callable[[Sequence[str]], Scores], usual_length: int
    ) -> None:
        self.name = name
        self._tools = tuple(tools)
        self._score = score
        self._usual_length = usual_length

    def predict(self, requests: Sequence[PlanRequest]) -> list[PlanShape]:
        place = {text: b for b, text in enumerate(dict.fromkeys(request.instruction for request in requests))}
        scores_BN = self._score(list(place))
        return [self._plan(request, scores_BN[place[request.instruction]]) for request in requests]

    def _plan(self, request: PlanRequest, score_N: Scores) -> PlanShape:
        if request.candidates is not None:
            allowed = {*request.candidates, NO_TOOL}
            score_N = np.where([tool in allowed for tool in self._tools], score_N, -np.inf)
        ranked = np.argsort(-score_N, kind="stable")
        if self._tools[ranked[0]] == NO_TOOL:
            return NO_PLAN
        named = [self._tools[i] for i in ranked.tolist() if self._tools[i] != NO_TOOL and np.isfinite(score_N[i])]
        return PlanShape.chain(tuple(named[: request.num_steps or self._usual_length]))


class NearestPlan:
    """Copies the plan of the most similar training request."""

    def __init__(self, vectors: TextVectors, training: TrainingPlans) -> None:
        self.name = f"nearest plan ({vectors.label})"
        self._vectors = vectors.fit(training.instructions)
        self._rows = self._vectors.rows(training.instructions)
        self._training = training

    def predict(self, requests: Sequence[PlanRequest]) -> list[PlanShape]:
        queries = self._vectors.rows([request.instruction for request in requests])
        plans = [self._training.plans[i] for i in nearest(queries, self._rows)]
        for b, request in enumerate(requests):
            if not _allowed(plans[b], request):
                plans[b] = self._nearest_allowed(request, queries[b : b + 1])
        return plans

    def _nearest_allowed(self, request: PlanRequest, query: Any) -> PlanShape:
        order = np.argsort(-cosine(query, self._rows)[0], kind="stable")
        return next((p for i in order if _allowed(p := self._training.plans[i], request)), NO_PLAN)


def retrieval(vectors: TextVectors, registry: ToolRegistry, usual_length: int) -> ToolRanking:
    """Cosine between the request and the tool's text; no training."""
    texts = _tool_texts(registry)
    documents = vectors.fit(texts).rows(texts)
    name = f"retrieval ({vectors.label})"
    return ToolRanking(name, registry.names, lambda asked: cosine(vectors.rows(asked), documents), usual_length)


def bm25_retrieval(registry: ToolRegistry, usual_length: int) -> ToolRanking:
    """BM25 between the request and the tool's text; no training."""
    return ToolRanking("retrieval (BM25)", registry.names, Bm25(_tool_texts(registry)).scores, usual_length)


def logistic_regression(vectors: TextVectors, training: TrainingPlans) -> ToolRanking:
    """Multinomial logistic regression from text to tool; a request of several steps counts once for each of them."""
    pairs = [
        (text, tool)
        for text, plan in zip(training.instructions, training.plans, strict=True)
        for tool in dict.fromkeys(plan.tools or (NO_TOOL,))
    ]
    vectors.fit(training.instructions)
    classifier = fit_logistic(vectors.rows([text for text, _ in pairs]), [tool for _, tool in pairs])
    return ToolRanking(
        f"logistic regression ({vectors.label})",
        [str(tool) for tool in classifier.classes_],
        lambda asked: np.asarray(classifier.predict_proba(vectors.rows(asked))),
        training.usual_length(),
    )


def fit_logistic(rows: Any, labels: Sequence[Any]) -> Any:
    """A fitted scikit-learn classifier; deterministic."""
    model = require_sklearn("linear_model").LogisticRegression(C=LOGISTIC_C, max_iter=LOGISTIC_ITERATIONS)
    return model.fit(rows, labels)


def tool_baselines(
    registry: ToolRegistry, training: TrainingPlans, encoders: Sequence[TextVectors] = ()
) -> list[Callable[[], Baseline]]:
    """Builders of every baseline that the data allow, cheapest first; building one may take a minute.

    Args:
        registry: Tools to retrieve from.
        training: Requests to learn from; the learning baselines are left out where none of them names a tool of the
            registry, because they could only ever name strangers.
        encoders: Pre-trained text encoders beside TF-IDF, for example MiniLM.
    """
    length = training.usual_length()
    makers = vector_makers(encoders)
    builders: list[Callable[[], Baseline]] = [lambda: bm25_retrieval(registry, length)]
    builders += [lambda make=make: retrieval(make(), registry, length) for make in makers]  # type: ignore[misc]
    if any(tool in registry for plan in training.plans for tool in plan.tools):
        builders.insert(0, lambda: MajorityPlan(training))
        builders += [lambda make=make: NearestPlan(make(), training) for make in makers]  # type: ignore[misc]
        if len({tool for plan in training.plans for tool in plan.tools or (NO_TOOL,)}) > 1:
            builders += [lambda make=make: logistic_regression(make(), training) for make in makers]  # type: ignore[misc]
    return builders


def _tool_texts(registry: ToolRegistry) -> list[str]:
    return [tool_text(tool.name, tool.desc) for tool in registry.tools]


def _allowed(plan: PlanShape, request: PlanRequest) -> bool:
    if request.candidates is not None and not set(plan.tools) <= set(request.candidates):
        return False
    return request.num_steps is None or len(plan.tools) == request.num_steps
