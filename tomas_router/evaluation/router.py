"""What the evaluation asks of a planner; ``planner.Planner`` is one."""

from __future__ import annotations

from typing import Protocol

from tomas_router.planner.decoding import RawPlan
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest


class Router(Protocol):
    """Keeps the encodings of a registry between calls, so that asking row by row is a batch."""

    def propose(
        self,
        request: PlanRequest,
        registry: ToolRegistry,
        profiling: ProfilingTable | None,
        timeline: SystemTimeline | None,
    ) -> RawPlan:
        """The heads' answer before allocation."""
        ...

    def plan_with_proposals(
        self,
        request: PlanRequest,
        registry: ToolRegistry,
        profiling: ProfilingTable | None,
        timeline: SystemTimeline | None,
    ) -> tuple[ToolPlan, RawPlan]:
        """The finished plan, and the heads' answer that it was made of."""
        ...
