"""From a request to a validated plan: encode, decode, allocate.

The network proposes tools, order, sizes and dependencies (``decoding``); the allocator decides configuration and time on
the given curve (``allocator``); this module joins them and writes the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import DEFAULT_LIMITS, Allocation, StepDemand, allocate_plan
from tomas_router.planner.cache import EncodingCache
from tomas_router.planner.decoding import MAX_STEPS, DecodingOptions, RawPlan, StepProposal, ToolChoice, decode
from tomas_router.planner.engine import CurveWindow, RoutingEngine, ToolEncodings
from tomas_router.planner.explain import NO_TOOL, summarise, summarise_infeasible
from tomas_router.planner.input_size import input_size
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.planner.retrieval import shortlist
from tomas_router.planner.step_options import ToolOption, step_options
from tomas_router.runtime.latency import LatencyPredictor
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import Alternative, PlanStep, Shortfall, ToolPlan
from tomas_router.schema.profiling import InputSize, ProfilingTable, load_profiling_matrix
from tomas_router.schema.registry import ToolRegistry, load_tool_registry
from tomas_router.schema.request import PlanRequest, parse_request
from tomas_router.shipped import model_dir, profiling_path, registry_path

TIMEOUT_FACTOR = 2
TIMEOUT_EXTRA_MS = 1000
"""A step is given up after twice its expected latency and a second."""
EXPLANATION_TOKENS = 64
PLAN_LIFETIME_S = 60
"""A plan describes a curve that changes; plan again after this time."""

ENGINE_MODULE = "tomas_router.engines.onnx_engine"


@dataclass(frozen=True)
class _Decoded:
    """What one request came to before allocation."""

    request: PlanRequest
    registry: ToolRegistry
    profiling: ProfilingTable | None
    timeline: SystemTimeline
    window: CurveWindow
    tools: ToolEncodings
    raw: RawPlan
    t_inf_ms: int


class Planner:
    """Plans requests with one engine; safe to share between threads, encodings are kept between calls."""

    def __init__(
        self,
        engine: RoutingEngine,
        *,
        latency: LatencyPredictor | None = None,
        cache_dir: str | Path | None = None,
        limits: SearchLimits = DEFAULT_LIMITS,
        beam_width: int = 1,
    ) -> None:
        """Wraps an engine.

        Args:
            engine: Runs the network.
            latency: Estimates T_inf, the time the decision itself takes; 500 ms by default.
            cache_dir: Keeps tool encodings on disk between processes; None keeps them in memory.
            limits: How long the allocator may look for a better schedule.
            beam_width: Plans that decoding keeps; 1 is greedy.
        """
        self.engine = engine
        self.latency = latency or LatencyPredictor()
        self._limits, self._beam_width = limits, beam_width
        self._encodings = EncodingCache(engine, cache_dir)
        self._shipped: tuple[ToolRegistry, ProfilingTable] | None = None

    @classmethod
    def load(
        cls, directory: str | Path | None = None, provider: Literal["cpu", "cuda"] = "cpu", **options: Any
    ) -> Planner:
        """A planner with an exported model, by default the packaged one; ``options`` go to the constructor.

        Raises:
            UntrainedModelError: The directory holds no exported model.
            ModelArtifactError: A file is missing or altered.
            MissingExtraError: ONNX Runtime is not installed.
        """
        # By name: the planner is below the engines, and another engine needs no ONNX Runtime.
        engine = import_module(ENGINE_MODULE).OnnxEngine.load(model_dir() if directory is None else directory, provider)
        return cls(engine, **options)

    def plan(
        self,
        request: str | PlanRequest | Mapping[str, Any],
        registry: ToolRegistry | None = None,
        profiling: ProfilingTable | None = None,
        timeline: SystemTimeline | None = None,
        *,
        explain: bool = False,
        ledger: Ledger | None = None,
        release_ms: int | None = None,
    ) -> ToolPlan:
        """Decides which tools, with how much, and when.

        Args:
            request: An instruction, or a request with candidates, number of steps, attachments and so on.
            registry: The tools; default: the shipped ones, with their profiles.
            profiling: Measured profiles. A registry without them is planned by predicted demand.
            timeline: Remaining resources; default: an idle machine (``SystemTimeline.default``).
            explain: Let the network write the explanation; otherwise it is a computed summary.
            ledger: Reservations of other plans; this plan is booked in it, whole or not at all.
            release_ms: No step starts earlier; default: T_inf.

        Raises:
            DataValidationError: The request breaks its contract.
            UnknownToolError: A candidate is not in the registry.
        """
        decoded = self._decode(parse_request(request), registry, profiling, timeline, release_ms)
        plan = self._finish(decoded, ledger)
        if explain:
            pieces = self.engine.explain(
                decoded.request.instruction, decoded.tools, decoded.window, EXPLANATION_TOKENS
            )
            plan = plan.model_copy(update={"explanation": "".join(pieces).strip() or plan.explanation})
        return plan

    def plan_batch(
        self,
        requests: Iterable[str | PlanRequest | Mapping[str, Any]],
        registry: ToolRegistry | None = None,
        profiling: ProfilingTable | None = None,
        timeline: SystemTimeline | None = None,
    ) -> Iterator[ToolPlan]:
        """Plans one request after the other over the same tools; each as if it were alone on the curve."""
        for request in requests:
            yield self.plan(request, registry, profiling, timeline)

    def propose(
        self,
        request: str | PlanRequest | Mapping[str, Any],
        registry: ToolRegistry | None = None,
        profiling: ProfilingTable | None = None,
        timeline: SystemTimeline | None = None,
    ) -> RawPlan:
        """The network's answer before allocation, for evaluation."""
        return self._decode(parse_request(request), registry, profiling, timeline, None).raw

    # ---- decoding ---------------------------------------------------------------------------------------------

    def _decode(
        self,
        request: PlanRequest,
        registry: ToolRegistry | None,
        profiling: ProfilingTable | None,
        timeline: SystemTimeline | None,
        release_ms: int | None,
    ) -> _Decoded:
        if registry is None:
            registry, shipped_profiles = self._shipped_tools()
            profiling = shipped_profiles if profiling is None else profiling
        timeline = SystemTimeline.default() if timeline is None else timeline
        t_inf_ms = self.latency.t_inf_ms() if release_ms is None else release_ms
        cut = ResourcePredictor(timeline).window(t_inf_ms)
        window = CurveWindow(cut.series_GT4, cut.log_horizon)
        tools = self._encodings.encodings(registry, profiling)
        candidates = self._candidates(request, registry)
        raw = decode(
            self.engine,
            request.instruction,
            tools,
            shortlist(
                tools.retrieval_ND,
                self.engine.retrieval_vector(request.instruction),
                self.engine.max_prefix_tools,
                candidates,
            ),
            window,
            DecodingOptions(
                num_steps=request.num_steps,
                candidates_N=None if candidates is None else np.isin(np.arange(len(registry)), candidates),
                links=request.links,
                max_steps=max(MAX_STEPS, request.num_steps or 0),
                beam_width=self._beam_width,
            ),
        )
        return _Decoded(request, registry, profiling, timeline, window, tools, raw, t_inf_ms)

    def _candidates(self, request: PlanRequest, registry: ToolRegistry) -> np.ndarray | None:
        if request.candidates is None:
            return None
        return np.array([registry.index(name) for name in request.candidates], dtype=np.int64)

    def _shipped_tools(self) -> tuple[ToolRegistry, ProfilingTable]:
        if self._shipped is None:
            registry = load_tool_registry(registry_path())
            self._shipped = registry, load_profiling_matrix(profiling_path(), registry)
        return self._shipped

    # ---- allocation -------------------------------------------------------------------------------------------

    def _finish(self, decoded: _Decoded, ledger: Ledger | None) -> ToolPlan:
        raw = decoded.raw
        if raw.no_tool is not None:
            return self._write(decoded, "no_tool", raw.no_tool, (), NO_TOOL[raw.no_tool])
        sizes = [input_size(decoded.request, step.size_logits) for step in raw.steps]
        options = [
            step_options(step, size, decoded.registry, decoded.profiling, self.engine.calibration.twin_margin)
            for step, size in zip(raw.steps, sizes, strict=True)
        ]
        demands = [
            StepDemand([o.option for o in offered], step.depends_on)
            for offered, step in zip(options, raw.steps, strict=True)
        ]
        try:
            placed = allocate_plan(
                demands,
                decoded.timeline,
                decoded.t_inf_ms,
                ledger,
                deadline_ms=decoded.request.deadline_ms,
                limits=self._limits,
            )
        except InfeasibleError as error:
            chosen = [
                _step(k, decoded.registry, step, step.choices[0], size)
                for k, (step, size) in enumerate(zip(raw.steps, sizes, strict=True))
            ]
            reason = str(error)
            text = summarise_infeasible(chosen, reason)
            return self._write(decoded, "infeasible", reason, chosen, text, error.shortfalls)
        steps = [
            _placed_step(k, decoded.registry, step, size, offered, allocation)
            for k, (step, size, offered, allocation) in enumerate(
                zip(raw.steps, sizes, options, placed, strict=True)
            )
        ]
        beyond = any(a.beyond_horizon for a in placed)
        return self._write(decoded, "planned", None, steps, summarise(steps), beyond_horizon=beyond)

    def _write(
        self,
        decoded: _Decoded,
        status: Literal["planned", "no_tool", "infeasible"],
        reason: str | None,
        steps: Sequence[PlanStep],
        explanation: str,
        missing: Sequence[Shortfall] = (),
        beyond_horizon: bool = False,
    ) -> ToolPlan:
        now = datetime.now(UTC)
        return ToolPlan(
            status=status,
            reason=reason,
            timeline_id=decoded.timeline.timeline_id,
            created_at=now.isoformat(timespec="milliseconds"),
            expires_at=(now + timedelta(seconds=PLAN_LIFETIME_S)).isoformat(timespec="milliseconds"),
            t_inf_ms=decoded.t_inf_ms,
            explanation=explanation,
            gate_confidence=decoded.raw.gate_confidence,
            steps=tuple(steps),
            missing=tuple(missing),
            beyond_horizon=beyond_horizon,
            model=f"{self.engine.name}@{self.engine.fingerprint}",
        )


def _step(
    position: int, registry: ToolRegistry, proposal: StepProposal, choice: ToolChoice, size: InputSize
) -> PlanStep:
    """A step that is chosen but not placed."""
    others = [c for c in proposal.choices if c.tool != choice.tool]
    return PlanStep(
        id=f"s{position + 1}",
        tool_id=choice.tool,
        tool_name=registry.names[choice.tool],
        input_size=size,
        depends_on=tuple(f"s{d + 1}" for d in proposal.depends_on),
        confidence=choice.confidence,
        alternatives=tuple(Alternative(tool_name=registry.names[c.tool], confidence=c.confidence) for c in others),
    )


def _placed_step(
    position: int,
    registry: ToolRegistry,
    proposal: StepProposal,
    size: InputSize,
    offered: Sequence[ToolOption],
    allocation: Allocation,
) -> PlanStep:
    """A step with configuration and time; its tool is the one whose configuration the allocator took."""
    option = offered[allocation.option_index]
    return _step(position, registry, proposal, option.choice, size).model_copy(
        update={
            "resource_config": allocation.config,
            "expected_latency_ms": allocation.latency_ms,
            "start_ms": allocation.start_ms,
            "timeout_ms": TIMEOUT_FACTOR * allocation.latency_ms + TIMEOUT_EXTRA_MS,
            "source": option.source,
        }
    )
