"""Puts rows to a planner, one after the other, with a progress bar; an error is an answer too, namely none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from pydantic import ValidationError

from tomas_router.datasets.rows import Row
from tomas_router.errors import TomasRouterError
from tomas_router.evaluation.plan_shape import PlanShape
from tomas_router.evaluation.resource_scores import RawStep, size_of
from tomas_router.evaluation.router import Router
from tomas_router.evaluation.sources import EvalSource
from tomas_router.evaluation.text_vectors import TextVectors
from tomas_router.planner.decoding import RawPlan
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.request import PlanRequest

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Progress = Callable[[Iterable[object], str, int], Iterator[object]]
"""(items, what is being done, how many) -> the same items, with a bar drawn."""


@dataclass(frozen=True)
class Settings:
    """How to score."""

    seed: int = 0
    baselines: bool = True
    lists: bool = False
    """Also ask every row over lists of candidates: similar tools, the right tool absent, few and many tools.

    Likeness of tools needs an encoder or the extra ``eval``.
    """
    encoders: tuple[TextVectors, ...] = ()
    progress: Progress | None = None

    def bar(self, items: Sequence[Item], text: str) -> Iterator[Item]:
        """The items, with a bar where one is wanted."""
        if self.progress is None:
            return iter(items)
        return cast("Iterator[Item]", self.progress(items, text, len(items)))


@dataclass(frozen=True)
class Asked:
    """What the planner said to one row; None where it raised."""

    plan: ToolPlan | None
    steps: tuple[RawStep, ...]  # the heads' proposals; empty where they were not asked for

    @property
    def tools(self) -> list[str]:
        """Tools of the final plan."""
        return [] if self.plan is None else [step.tool_name for step in self.plan.steps]


def ask(source: EvalSource, router: Router, row: Row, timeline: SystemTimeline | None) -> Asked:
    """The final plan and, for sources with profiles, the proposals behind it."""
    try:
        plan, raw = router.plan_with_proposals(source.request(row), source.registry, source.profiling, timeline)
    except (TomasRouterError, ValidationError) as error:
        logger.warning("%s %s: %s", source.name, row.id, error)
        return Asked(None, ())
    return Asked(plan, _raw_steps(source, raw) if source.profiling is not None else ())


def ask_shape(
    source: EvalSource, router: Router, row: Row, request: PlanRequest, timeline: SystemTimeline
) -> PlanShape | None:
    """The heads' tools and dependencies for a request that is not the row's own; None where the planner raised."""
    try:
        raw: RawPlan = router.propose(request, source.registry, source.profiling, timeline)
    except (TomasRouterError, ValidationError) as error:
        logger.warning("%s %s: %s", source.name, row.id, error)
        return None
    names = source.registry.names
    return PlanShape(tuple(names[step.tool] for step in raw.steps), tuple(step.depends_on for step in raw.steps))


def propose(source: EvalSource, router: Router, row: Row, timeline: SystemTimeline | None) -> tuple[RawStep, ...]:
    """The heads' proposals with tools by name; none where the planner raised or saw no tool."""
    try:
        raw: RawPlan = router.propose(source.request(row), source.registry, source.profiling, timeline)
    except TomasRouterError as error:
        logger.warning("%s %s: %s", source.name, row.id, error)
        return ()
    return _raw_steps(source, raw)


def _raw_steps(source: EvalSource, raw: RawPlan) -> tuple[RawStep, ...]:
    names = source.registry.names
    return tuple(RawStep(names[s.tool], s.resources, size_of(s.size_logits), s.depends_on) for s in raw.steps)
