"""What the evaluation asks of a planner: its raw proposals and its final plan for one request under one curve."""

from __future__ import annotations

from typing import Protocol

from tomas_router.planner.decoding import RawPlan
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest


class Router(Protocol):
    """A planner over one registry; encodings are kept between calls."""

    def propose(self, request: PlanRequest, timeline: SystemTimeline | None) -> RawPlan:
        """The heads' answer before allocation."""
        ...

    def plan(self, request: PlanRequest, timeline: SystemTimeline | None) -> ToolPlan:
        """The finished plan."""
        ...


class MakeRouter(Protocol):
    """Opens a planner on a registry."""

    name: str

    def __call__(self, registry: ToolRegistry, profiling: ProfilingTable | None) -> Router:
        """A router over this registry."""
        ...
