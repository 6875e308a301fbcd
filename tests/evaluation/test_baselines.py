from __future__ import annotations

import pytest

from tomas_router.evaluation.baselines import (
    MajorityPlan,
    NearestPlan,
    TrainingPlans,
    bm25_retrieval,
    logistic_regression,
    retrieval,
    tool_baselines,
)
from tomas_router.evaluation.gate_baselines import gate_baselines
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

pytest.importorskip("sklearn")
from tomas_router.evaluation.text_vectors import TfidfVectors

pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools(
    [
        {"name": "WeatherForecast", "desc": "Tells rain and temperature of the coming days."},
        {"name": "speech_to_text", "desc": "Writes down what is said in an audio recording."},
        {"name": "translate", "desc": "Turns text into another language."},
    ]
)
TRAINING = TrainingPlans(
    (
        "Will it rain tomorrow?",
        "Is it cold outside?",
        "Transcribe this interview and put it into French.",
        "How are you today?",
        "How hot will it get?",
        "Write down the recording, then translate it.",
    ),
    (
        PlanShape.chain(("WeatherForecast",)),
        PlanShape.chain(("WeatherForecast",)),
        PlanShape.chain(("speech_to_text", "translate")),
        NO_PLAN,
        PlanShape.chain(("WeatherForecast",)),
        PlanShape.chain(("speech_to_text", "translate")),
    ),
)


def ask(text: str, candidates: tuple[str, ...] | None = None, num_steps: int | None = None) -> PlanRequest:
    return PlanRequest(instruction=text, candidates=candidates, num_steps=num_steps)


def test_usual_length_when_no_training_is_one() -> None:
    assert TrainingPlans((), ()).usual_length() == 1
    assert TRAINING.usual_length() == 1


def test_majority_when_candidates_exclude_it_takes_the_next_plan() -> None:
    plans = MajorityPlan(TRAINING).predict([ask("x"), ask("x", ("speech_to_text", "translate"), 2)])
    assert plans == [TRAINING.plans[0], TRAINING.plans[2]]


def test_retrieval_when_words_match_the_description_finds_the_tool() -> None:
    for baseline in (retrieval(TfidfVectors(), REGISTRY, 1), bm25_retrieval(REGISTRY, 1)):
        plans = baseline.predict([ask("what about rain and temperature"), ask("an audio recording")])
        assert [plan.tools for plan in plans] == [("WeatherForecast",), ("speech_to_text",)]


def test_retrieval_when_candidates_and_length_are_given_keeps_to_them() -> None:
    found = bm25_retrieval(REGISTRY, 1).predict([ask("rain in another language", ("translate", "speech_to_text"), 2)])
    assert found == [PlanShape.chain(("translate", "speech_to_text"))]


def test_nearest_plan_when_request_resembles_a_training_request_copies_its_plan() -> None:
    copy = NearestPlan(TfidfVectors(), TRAINING)
    plans = copy.predict([ask("transcribe the interview"), ask("will it rain"), ask("will it rain", ("translate",))])
    assert plans == [TRAINING.plans[2], TRAINING.plans[0], NO_PLAN]


def test_logistic_regression_when_trained_answers_with_tools_and_with_none() -> None:
    model = logistic_regression(TfidfVectors(), TRAINING)
    plans = model.predict([ask("rain tomorrow"), ask("the interview", num_steps=2), ask("rain", ("translate",))])
    assert plans[0].tools == ("WeatherForecast",)
    assert set(plans[1].tools) == {"speech_to_text", "translate"}
    assert plans[2].tools in {("translate",), ()}


def test_tool_baselines_when_there_is_no_training_offers_retrieval_only() -> None:
    names = [build().name for build in tool_baselines(REGISTRY, TrainingPlans((), ()))]
    assert names == ["retrieval (BM25)", "retrieval (TF-IDF)"]


def test_tool_baselines_when_trained_offers_all_and_each_answers() -> None:
    built = [build() for build in tool_baselines(REGISTRY, TRAINING)]
    assert [b.name for b in built] == [
        "majority",
        "retrieval (BM25)",
        "retrieval (TF-IDF)",
        "nearest plan (TF-IDF)",
        "logistic regression (TF-IDF)",
    ]
    assert all(len(b.predict([ask("rain"), ask("text")])) == 2 for b in built)


def test_gate_baselines_when_both_answers_occur_learn_them() -> None:
    texts = ["play the song now", "book the hotel now", "who was Plato", "what is love"]
    gates = gate_baselines(texts, [True, True, False, False])
    assert list(gates) == ["majority", "nearest request (TF-IDF)", "logistic regression (TF-IDF)"]
    assert gates["nearest request (TF-IDF)"](["book the flight", "who was Kant"]) == [True, False]
    assert gates["majority"](["anything"]) == [True]
    assert gate_baselines(texts, [True] * 4) == {}


def test_tool_baselines_when_training_knows_no_tool_of_the_registry_leaves_out_those_that_learn() -> None:
    strangers = ToolRegistry.from_tools([{"name": "other", "desc": "Does something else."}])
    names = [build().name for build in tool_baselines(strangers, TRAINING)]
    assert names == ["retrieval (BM25)", "retrieval (TF-IDF)"]
    assert "majority" in [build().name for build in tool_baselines(REGISTRY, TRAINING)]
