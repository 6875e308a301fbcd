"""From a request to a validated plan: encode, decode, allocate.

The network proposes tools, order, sizes and dependencies (``decoding``); the allocator decides configuration and time
on the given curve (``allocator``); this module joins them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from tomas_router import shipped
from tomas_router.errors import InfeasibleError, UntrainedModelError
from tomas_router.planner.allocator import DEFAULT_LIMITS, StepDemand, allocate_plan
from tomas_router.planner.cache import EncodingCache
from tomas_router.planner.decoding import MAX_STEPS, DecodingOptions, RawPlan, decode, decode_batch
from tomas_router.planner.engine import BatchEngine, CurveWindow, OpenRequest, RoutingEngine, ToolEncodings
from tomas_router.planner.input_size import input_size
from tomas_router.planner.margins import NO_MARGINS, PredictionMargins
from tomas_router.planner.novelty import Novelty
from tomas_router.planner.plan_search import SearchLimits
from tomas_router.planner.plan_writer import PlanWriter, step_id
from tomas_router.planner.retrieval import shortlist
from tomas_router.planner.smaller_sizes import advise_smaller_sizes
from tomas_router.planner.step_options import ToolOption, step_options
from tomas_router.runtime.latency import LatencyPredictor
from tomas_router.runtime.ledger import NO_TERMS, BookingTerms, Ledger
from tomas_router.runtime.online_profile import OnlineProfile
from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.runtime.timeline import SystemTimeline, Tail
from tomas_router.schema.manifest import Verification
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.profiling import InputSize, ProfilingTable
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.request import PlanRequest, parse_request

EXPLANATION_TOKENS = 64

AnyRequest = str | Mapping[str, Any] | PlanRequest
AnyProfile = ProfilingTable | OnlineProfile | None


@dataclass(frozen=True)
class _Situation:
    """Everything one decision depends on."""

    request: PlanRequest
    registry: ToolRegistry
    profiling: ProfilingTable | None
    timeline: SystemTimeline
    release_ms: int
    tools: ToolEncodings
    window: CurveWindow


class Planner:
    """Plans requests with one engine; encoded registries are kept between calls.

    One planner may serve several threads.
    """

    def __init__(
        self,
        engine: RoutingEngine,
        *,
        latency: LatencyPredictor | None = None,
        limits: SearchLimits = DEFAULT_LIMITS,
        max_steps: int = MAX_STEPS,
        beam_width: int = 1,
        cache_dir: str | Path | None = None,
        margins: PredictionMargins = NO_MARGINS,
    ) -> None:
        """Wraps an engine.

        Args:
            engine: a trained network behind the protocol.
            latency: says T_inf; by default the engine's measured p95 when it has one, else 500 ms.
            limits: how long better schedules are looked for, and whether by CP-SAT up to a proof (``EXACT``).
            max_steps: longest plan; a request's ``num_steps`` may go beyond.
            beam_width: plans followed at once while decoding.
            cache_dir: keeps encoded tools on disk, for a quick start of the next process.
            margins: room above the demand that is predicted for tools without profile rows.

        Raises:
            UntrainedModelError: the engine says that its heads are not trained.
        """
        if not getattr(engine, "trained", True):
            raise UntrainedModelError(
                f"{engine.name} has no trained heads, so it cannot plan; train them with `tomas train --config ...`"
            )
        self.engine = engine
        self.latency = latency or LatencyPredictor(measured_p95_ms=getattr(engine, "measured_p95_ms", None))
        self.limits = limits
        self.max_steps = max_steps
        self.beam_width = beam_width
        self.margins = margins
        self._encodings = EncodingCache(engine, cache_dir)
        self._novelty = Novelty(engine.known_tools)

    @classmethod
    def load(
        cls,
        model_dir: str | Path | None = None,
        provider: Literal["cpu", "cuda"] = "cpu",
        *,
        verify: Verification = "once",
        cache_dir: str | Path | None = None,
        **options: Any,
    ) -> Planner:
        """A planner on an exported model, run by ONNX Runtime, or through Optimum; by default the packaged one.

        Args:
            model_dir: what ``python -m export.onnx`` wrote.
            provider: ``cpu`` or ``cuda``.
            verify: ``once`` hashes large files only where ``cache_dir`` does not remember them; ``always`` does so at
                every start.
            cache_dir: keeps encoded tools, and the memory of verified files, for a quick start of the next process.
            **options: as for ``Planner``.

        Raises:
            UntrainedModelError: the directory holds no trained model.
            ArtifactMismatchError: a file is missing, altered or for another version; says file, expected and found.
            MissingExtraError: ONNX Runtime is not installed.
        """
        # By name, because engines are a layer above: they implement this package's protocol.
        engines = import_module("tomas_router.engines.load")
        directory = model_dir or shipped.model_dir()
        engine = engines.load_engine(directory, provider, verify=verify, cache_dir=cache_dir)
        return cls(engine, cache_dir=cache_dir, **options)

    def plan(
        self,
        request: AnyRequest,
        registry: ToolRegistry | None = None,
        profiling: AnyProfile = None,
        timeline: SystemTimeline | None = None,
        *,
        tail: Tail | None = None,
        horizon_ms: int | None = None,
        explain: bool = False,
        ledger: Ledger | None = None,
        terms: BookingTerms = NO_TERMS,
        release_ms: int | None = None,
    ) -> ToolPlan:
        """Plans one request.

        Args:
            request: an instruction, or a request with its options.
            registry: the tools; by default the shipped ones with the shipped profile.
            profiling: measured profiles, or a profile that learns from runs; None with a registry of your own means
                predicted demand, marked so.
            timeline: remaining resources; by default ``SystemTimeline.default()``, an idle machine.
            tail: replaces the timeline's tail policy.
            horizon_ms: replaces the timeline's horizon.
            explain: lets the language model write the explanation, which takes many times longer than the plan;
                without it the explanation is a one-line summary.
            ledger: reservations of other plans; a feasible plan is booked in it, whole, and says its ``booking_id``.
            terms: for whom it is booked, and its lease.
            release_ms: no step starts earlier; by default T_inf, the time the decision takes.

        Raises:
            DataValidationError: the request breaks its contract.
            UnknownToolError: a candidate is not in the registry.
            EpochMissingError: the ledger is in epoch time and the timeline has no epoch.
        """
        situation = self._situation(request, registry, profiling, timeline, tail, horizon_ms, release_ms)
        return self._finish(situation, self._decode(situation), explain=explain, ledger=ledger, terms=terms)

    def plan_with_proposals(
        self,
        request: AnyRequest,
        registry: ToolRegistry | None = None,
        profiling: AnyProfile = None,
        timeline: SystemTimeline | None = None,
    ) -> tuple[ToolPlan, RawPlan]:
        """``plan`` and ``propose`` at the price of one; for those who look at both."""
        situation = self._situation(request, registry, profiling, timeline, None, None, None)
        raw = self._decode(situation)
        return self._finish(situation, raw), raw

    def _finish(
        self,
        situation: _Situation,
        raw: RawPlan,
        *,
        explain: bool = False,
        ledger: Ledger | None = None,
        terms: BookingTerms = NO_TERMS,
    ) -> ToolPlan:
        writer = PlanWriter(
            registry=situation.registry,
            timeline=situation.timeline,
            t_inf_ms=situation.release_ms,
            model=f"{self.engine.name}@{self.engine.fingerprint[:12]}",
            explanation=self._explanation(situation) if explain else None,
        )
        return writer.no_tool(raw) if raw.no_tool else self._allocate(situation, raw, writer, ledger, terms)

    def plan_batch(
        self,
        requests: Iterable[AnyRequest],
        registry: ToolRegistry | None = None,
        profiling: AnyProfile = None,
        timeline: SystemTimeline | None = None,
        **options: Any,
    ) -> Iterator[ToolPlan]:
        """Plans requests one by one on the same tools, which are encoded once; arguments as for ``plan``.

        Without a ledger every plan has the machine to itself; with one they share it in the order given.
        """
        for request in requests:
            yield self.plan(request, registry, profiling, timeline, **options)

    def plan_together(
        self,
        requests: Sequence[AnyRequest],
        timelines: Sequence[SystemTimeline | None],
        registry: ToolRegistry | None = None,
        profiling: AnyProfile = None,
    ) -> list[ToolPlan]:
        """Plans several requests over the same tools, each on its own timeline, in passes that they share.

        With an engine that takes no batches, one after the other. Every plan has its machine to itself; requests that
        share one belong in ``plan_batch`` with a ledger.

        Raises:
            ValueError: There are not as many timelines as requests.
            DataValidationError: a request breaks its contract.
            UnknownToolError: a candidate is not in the registry.
        """
        if len(timelines) != len(requests):
            raise ValueError(f"each request needs its timeline (or None), got {len(requests)} and {len(timelines)}")
        situations = [
            self._situation(request, registry, profiling, timeline, None, None, None)
            for request, timeline in zip(requests, timelines, strict=True)
        ]
        if not situations or not hasattr(self.engine, "open_batch"):
            raws = [self._decode(situation) for situation in situations]
        else:
            asked = [self._asked(situation) for situation in situations]
            engine = cast(BatchEngine, self.engine)
            raws = decode_batch(engine, [one for one, _ in asked], situations[0].tools, [own for _, own in asked])
        return [self._finish(situation, raw) for situation, raw in zip(situations, raws, strict=True)]

    def propose(
        self,
        request: AnyRequest,
        registry: ToolRegistry | None = None,
        profiling: AnyProfile = None,
        timeline: SystemTimeline | None = None,
        *,
        tail: Tail | None = None,
        horizon_ms: int | None = None,
        release_ms: int | None = None,
    ) -> RawPlan:
        """What the network says before anything is allocated; arguments as for ``plan``."""
        return self._decode(self._situation(request, registry, profiling, timeline, tail, horizon_ms, release_ms))

    def decoding_options(
        self, request: AnyRequest, registry: ToolRegistry | None = None, profiling: AnyProfile = None
    ) -> DecodingOptions:
        """How ``propose`` reads the network's answers to a request; for those who read recorded answers again."""
        return self._asked(self._situation(request, registry, profiling, None, None, None, None))[1]

    def encode(self, registry: ToolRegistry | None = None, profiling: AnyProfile = None) -> ToolEncodings:
        """Encodes the tools ahead of the first request."""
        return self._encodings.encodings(*self._tools(registry, profiling))

    def _situation(
        self,
        request: AnyRequest,
        registry: ToolRegistry | None,
        profiling: AnyProfile,
        timeline: SystemTimeline | None,
        tail: Tail | None,
        horizon_ms: int | None,
        release_ms: int | None,
    ) -> _Situation:
        registry, profiling = self._tools(registry, profiling)
        timeline = timeline or SystemTimeline.default()
        if tail is not None or horizon_ms is not None:
            timeline = timeline.with_tail(tail, horizon_ms)
        release = self.latency.t_inf_ms() if release_ms is None else release_ms
        window = ResourcePredictor(timeline).window(release)
        return _Situation(
            request=parse_request(request),
            registry=registry,
            profiling=profiling,
            timeline=timeline,
            release_ms=release,
            tools=self._encodings.encodings(registry, profiling),
            window=CurveWindow(window.series_GT4, window.log_horizon),
        )

    def _tools(
        self, registry: ToolRegistry | None, profiling: AnyProfile
    ) -> tuple[ToolRegistry, ProfilingTable | None]:
        """The shipped profile belongs to the shipped tools and to no others."""
        if isinstance(profiling, OnlineProfile):
            profiling = profiling.table()
        if registry is not None:
            return registry, profiling
        return self._shipped_registry, profiling or self._shipped_profiling

    @cached_property
    def _shipped_registry(self) -> ToolRegistry:
        return ToolRegistry.from_json(shipped.registry_path())

    @cached_property
    def _shipped_profiling(self) -> ProfilingTable:
        return ProfilingTable.from_csv(shipped.profiling_path(), self._shipped_registry)

    def _decode(self, situation: _Situation) -> RawPlan:
        asked, options = self._asked(situation)
        return decode(self.engine, asked.instruction, situation.tools, asked.shortlist, asked.window, options)

    def _asked(self, situation: _Situation) -> tuple[OpenRequest, DecodingOptions]:
        """What the network is asked, and how its answers are read."""
        request, tools = situation.request, situation.tools
        candidates = mask = None
        if request.candidates is not None:
            candidates = np.array([situation.registry.index(name) for name in request.candidates], dtype=np.int64)
            mask = np.zeros(len(situation.registry), dtype=bool)
            mask[candidates] = True
        vector = self.engine.retrieval_vector(request.instruction)
        chosen = shortlist(tools.retrieval_ND, vector, self.engine.max_prefix_tools, candidates)
        novelty = self._novelty.of(situation.registry)
        options = DecodingOptions(
            num_steps=request.num_steps,
            candidates_N=mask,
            novel_N=None if novelty is None else novelty.novel_N,
            overlap_N=None if novelty is None else novelty.overlap(request.instruction),
            undescribed_N=None if novelty is None else novelty.undescribed_N,
            word_logits_N=None if novelty is None else novelty.word_logits(request.instruction),
            word_source_N=None if novelty is None else novelty.word_source_N,
            links=request.links,
            max_steps=max(self.max_steps, request.num_steps or 0),
            beam_width=self.beam_width,
        )
        return OpenRequest(request.instruction, chosen, situation.window, request.links), options

    def _allocate(
        self, situation: _Situation, raw: RawPlan, writer: PlanWriter, ledger: Ledger | None, terms: BookingTerms
    ) -> ToolPlan:
        sizes = [input_size(situation.request, proposal.size_logits) for proposal in raw.steps]
        offered = self._offered(situation, raw, sizes)
        try:
            placed = allocate_plan(
                _demands(situation, raw, offered),
                situation.timeline,
                situation.release_ms,
                ledger,
                deadline_ms=situation.request.deadline_ms,
                limits=self.limits,
                terms=terms,
            )
        except InfeasibleError as error:
            advice = advise_smaller_sizes(
                sizes,
                lambda trial: _demands(situation, raw, self._offered(situation, raw, trial)),
                situation.timeline,
                situation.release_ms,
                ledger,
                deadline_ms=situation.request.deadline_ms,
                tenant=terms.tenant,
            )
            return writer.infeasible(raw, sizes, InfeasibleError(error.reason + advice, error.shortfalls))
        chosen = [options[a.option_index] for options, a in zip(offered, placed, strict=True)]
        return writer.planned(raw, sizes, chosen, placed)

    def _offered(self, situation: _Situation, raw: RawPlan, sizes: Sequence[InputSize]) -> list[tuple[ToolOption, ...]]:
        margin = self.engine.calibration.twin_margin
        return [
            step_options(proposal, size, situation.registry, situation.profiling, margin, self.margins)
            for proposal, size in zip(raw.steps, sizes, strict=True)
        ]

    def _explanation(self, situation: _Situation) -> str | None:
        text = "".join(
            self.engine.explain(situation.request.instruction, situation.tools, situation.window, EXPLANATION_TOKENS)
        )
        return text.strip() or None


def _demands(situation: _Situation, raw: RawPlan, offered: Sequence[Sequence[ToolOption]]) -> list[StepDemand]:
    return [
        StepDemand(
            options=[o.option for o in options],
            depends_on=proposal.depends_on,
            name=f"{step_id(number)} ({situation.registry.names[proposal.tool]})",
            tools=[situation.registry.tools[o.choice.tool].identity for o in options],
        )
        for number, (proposal, options) in enumerate(zip(raw.steps, offered, strict=True))
    ]
