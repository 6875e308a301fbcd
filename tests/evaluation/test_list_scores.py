from __future__ import annotations

from collections.abc import Callable

import pytest

from tomas_router.datasets.rows import Row, Step
from tomas_router.errors import TomasRouterError
from tomas_router.evaluation.asking import Settings
from tomas_router.evaluation.baselines import bm25_retrieval
from tomas_router.evaluation.list_scores import ListScores, score_lists
from tomas_router.evaluation.plan_shape import NO_PLAN, PlanShape
from tomas_router.evaluation.scores import Answer
from tomas_router.evaluation.sources import EvalSource
from tomas_router.planner.decoding import RawPlan, StepProposal, ToolChoice
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

pytest.importorskip("sklearn")
pytestmark = pytest.mark.m4

REGISTRY = ToolRegistry.from_tools([{"name": f"tool{k}", "desc": f"Does job number n{k}."} for k in range(40)])
ROWS = tuple(Row(id=f"r{k}", instruction=f"job n{k}", steps=(Step(f"tool{k}"),), split="val") for k in range(4))
UNSEEN = frozenset({"tool0", "tool1"})
SOURCE = EvalSource("s", ROWS, (), REGISTRY, None, edges_known=True, call_order=False, unseen=UNSEEN)
RIGHT = [Answer(PlanShape.chain((f"tool{k}",)), needs_tool=True) for k in range(4)]

Choose = Callable[[PlanRequest], str | None]


class ListRouter:
    """Names what ``choose`` says among the candidates."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose

    def propose(self, request: PlanRequest, registry: ToolRegistry, profiling: object, timeline: object) -> RawPlan:
        tool = self._choose(request)
        if tool is None:
            return RawPlan((), "no_match", 0.9, 0.0)
        choice = ToolChoice(registry.index(tool), 0.9, 0.0)
        return RawPlan((StepProposal((choice,), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0, 1.0), ()),), None, 0.9, 0.0)

    def plan_with_proposals(self, *_: object) -> tuple[ToolPlan, RawPlan]:
        raise AssertionError("lists need no allocation")


def wanted(request: PlanRequest) -> str | None:
    tool = "tool" + request.instruction.removeprefix("job n")
    return tool if request.candidates is not None and tool in request.candidates else None


def first(request: PlanRequest) -> str:
    assert request.candidates is not None
    return next(name for name in request.candidates if name != wanted(request))


def scored(choose: Choose, answers: list[Answer] = RIGHT) -> ListScores:
    baseline = bm25_retrieval(REGISTRY, 1)
    said = baseline.predict([SOURCE.request(row) for row in ROWS])
    given = [SystemTimeline.default()] * len(ROWS)
    return score_lists(SOURCE, ListRouter(choose), answers, given, {"bm25": (baseline, said)}, "ours", Settings())


def value(found: ListScores, measure: str, method: str = "ours") -> float:
    interval = found.lists[method][measure].interval()
    assert interval is not None
    return interval.value


def test_score_lists_when_the_planner_is_perfect_refuses_only_what_is_absent() -> None:
    found = scored(wanted)
    assert value(found, "similar_10") == 1.0
    assert (value(found, "absent_10"), value(found, "absent_all")) == (1.0, 1.0)
    assert (value(found, "present_10"), value(found, "present_all")) == (0.0, 0.0)
    assert (value(found, "unseen_among"), value(found, "unseen_all")) == (pytest.approx(1), pytest.approx(1))
    assert found.lists["ours"]["unseen_among"].rows == ["r0", "r1"]


def test_score_lists_when_the_planner_always_names_a_wrong_tool_scores_nothing() -> None:
    found = scored(first)
    for measure in ("similar_10", "absent_10", "absent_all", "unseen_among"):
        assert value(found, measure) == 0.0, measure


def test_score_lists_when_the_planner_always_refuses_pays_where_the_tool_is_there() -> None:
    found = scored(lambda request: None, [Answer(NO_PLAN, needs_tool=False)] * 4)
    assert (value(found, "absent_10"), value(found, "present_10"), value(found, "present_all")) == (1.0, 1.0, 1.0)
    assert value(found, "similar_10") == 0.0


def test_score_lists_when_the_planner_raises_counts_neither_as_refused_nor_as_right() -> None:
    def fail(request: PlanRequest) -> str:
        raise TomasRouterError("out of order")

    found = scored(fail)
    assert value(found, "absent_10") == value(found, "similar_10") == 0.0


def test_score_lists_when_a_baseline_ranks_answers_the_same_lists() -> None:
    found = scored(wanted)
    assert value(found, "similar_10", "bm25") == 1.0  # the number in the text is the tool's
    assert value(found, "absent_10", "bm25") == 0.0
    assert set(found.by_candidates["bm25"]) == set(found.by_candidates["ours"]) == {"5", "10", "20", "40"}
    assert found.likeness == "TF-IDF"
