"""What the network says to a request, written down once, so that any calibration can be tried without asking again.

A calibration never changes which tool is best at a slot, only whether the plan begins, where it ends and which links
it has. So one walk along the best tools, past the first END, holds every answer that a calibration may lead to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomas_router.planner.decoding import DecodingOptions, RawPlan, decode
from tomas_router.planner.engine import (
    Calibration,
    CurveWindow,
    Float,
    Int,
    Opening,
    RoutingEngine,
    StepOutcome,
    ToolEncodings,
)
from tomas_router.planner.planner import Planner
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest

LARGEST_MARGIN = 6.0
"""Logits by which END may win and the walk still goes on: no larger ``end_margin`` can be tried."""


@dataclass(frozen=True)
class Trace:
    """The slots of one request in the order in which they were read; the state of a slot is its place, from 0."""

    opening: Opening
    outcomes: tuple[StepOutcome, ...]
    options: DecodingOptions

    def plan(self, calibration: Calibration) -> RawPlan:
        """What this calibration makes of the request.

        Raises:
            ValueError: It leads beyond what was walked.
        """
        engine: Any = _Told(self, calibration)  # nothing but its slots is asked for
        nothing: Any = None
        return decode(engine, "", nothing, np.zeros(0, dtype=np.int64), nothing, self.options)


class TraceRecorder:
    """Asks an engine through a planner, as a user would, and keeps what it says."""

    def __init__(self, engine: RoutingEngine, cache_dir: str | Path | None = None) -> None:
        """One engine for all requests; its own calibration has no say. ``cache_dir`` keeps encoded tools."""
        self._engine = _Recorded(engine)
        self.planner = Planner(self._engine, cache_dir=cache_dir)
        self.ranking = self._engine.ranking

    def record(
        self,
        request: PlanRequest,
        registry: ToolRegistry,
        profiling: ProfilingTable | None = None,
        timeline: SystemTimeline | None = None,
    ) -> Trace:
        """One walk; arguments as for ``Planner.propose``."""
        self.planner.propose(request, registry, profiling, timeline)
        options = self.planner.decoding_options(request, registry, profiling)
        return Trace(self._engine.opening, tuple(self._engine.outcomes), options)

    def final_plan(
        self,
        trace: Trace,
        calibration: Calibration,
        request: PlanRequest,
        registry: ToolRegistry,
        profiling: ProfilingTable | None,
        timeline: SystemTimeline,
    ) -> ToolPlan:
        """The allocated plan that a calibration makes of a trace; the network is not asked."""
        self._engine.told = _Told(trace, calibration)
        try:
            return self.planner.plan(request, registry, profiling, timeline)
        finally:
            self._engine.told = None


@dataclass(frozen=True)
class _Told:
    """Answers from a trace."""

    trace: Trace
    calibration: Calibration

    def open(self, *_: object) -> Opening:
        return self.trace.opening

    def step(self, state: int, _: int) -> StepOutcome:
        if state >= len(self.trace.outcomes):
            raise ValueError(f"end_margin must be <= {LARGEST_MARGIN:g}, got {self.calibration.end_margin:g}")
        return self.trace.outcomes[state]


class _Recorded:
    """An engine that plans at any price, so that walks go on where a calibration might; or one that is told a trace."""

    def __init__(self, engine: RoutingEngine) -> None:
        self._engine = engine
        self.name, self.fingerprint = engine.name, engine.fingerprint
        self.max_prefix_tools, self.known_tools = engine.max_prefix_tools, engine.known_tools
        self.ranking = engine.calibration.ranking()
        self.told: _Told | None = None
        self.opening = Opening(0, 0.0, np.zeros(1, dtype=np.float32))
        self.outcomes: list[StepOutcome] = []
        # An engine as the planner sees it: what has no part in the walk stays the engine's own.
        self.prepare_tools, self.encode_tools = engine.prepare_tools, engine.encode_tools
        self.retrieval_vector, self.explain = engine.retrieval_vector, engine.explain

    @property
    def calibration(self) -> Calibration:
        return replace(self.ranking, end_margin=LARGEST_MARGIN) if self.told is None else self.told.calibration

    @calibration.setter
    def calibration(self, _: Calibration) -> None:
        raise AttributeError("the calibration is the trace's")

    def open(self, instruction: str, tools: ToolEncodings, shortlist: Int, window: CurveWindow, links: str) -> Opening:
        if self.told is not None:
            return self.told.open()
        said = self._engine.open(instruction, tools, shortlist, window, links)
        self.opening, self.outcomes = replace(said, state=0), []
        logits: Float = np.array(said.tool_logits)
        logits[-1] = -math.inf
        return replace(said, gate_logit=math.inf, tool_logits=logits)

    def step(self, state: Any, tool_index: int) -> StepOutcome:
        if self.told is not None:
            return self.told.step(state, tool_index)
        said = self._engine.step(state, tool_index)
        self.outcomes.append(replace(said, state=len(self.outcomes) + 1))
        return said
