"""Writes decisions down as a ``ToolPlan``: plain JSON types, identifiers, times of day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tomas_router.errors import InfeasibleError
from tomas_router.planner.allocator import Allocation
from tomas_router.planner.decoding import RawPlan, StepProposal, ToolChoice
from tomas_router.planner.explain import NO_TOOL, summarise, summarise_infeasible
from tomas_router.planner.step_options import ToolOption
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.schema.plan import Alternative, Optimality, PlanStep, ToolPlan
from tomas_router.schema.profiling import InputSize
from tomas_router.schema.registry import ToolRegistry

TIMEOUT_FACTOR = 2
TIMEOUT_EXTRA_MS = 1000
"""A step is given up after twice its expected latency and a second."""

MAX_LIFETIME_MS = 365 * 24 * 3_600_000


@dataclass(frozen=True)
class PlanWriter:
    """What every plan for one request has in common."""

    registry: ToolRegistry
    timeline: SystemTimeline
    t_inf_ms: int
    model: str
    explanation: str | None
    """What the language model says; None = the one-line summary."""

    def no_tool(self, raw: RawPlan) -> ToolPlan:
        """The answer to a request that no tool should serve."""
        assert raw.no_tool is not None, "decoding says why there are no steps"
        return self._plan(raw, NO_TOOL[raw.no_tool], self.t_inf_ms, status="no_tool", reason=raw.no_tool)

    def planned(
        self, raw: RawPlan, sizes: Sequence[InputSize], chosen: Sequence[ToolOption], placed: Sequence[Allocation]
    ) -> ToolPlan:
        """A plan whose steps all have their place."""
        steps = tuple(
            self._step(number, proposal, size, option.choice).model_copy(
                update={
                    "resource_config": allocation.config,
                    "expected_latency_ms": float(allocation.latency_ms),
                    "start_ms": allocation.start_ms,
                    "timeout_ms": TIMEOUT_FACTOR * allocation.latency_ms + TIMEOUT_EXTRA_MS,
                    "source": option.source,
                }
            )
            for number, (proposal, size, option, allocation) in enumerate(
                zip(raw.steps, sizes, chosen, placed, strict=True)
            )
        )
        return self._plan(
            raw,
            summarise(steps),
            max(a.end_ms for a in placed),
            status="planned",
            steps=steps,
            optimality=_optimality(placed[0]),
            beyond_horizon=any(a.beyond_horizon for a in placed),
            booking_id=placed[0].booking_id,
        )

    def infeasible(self, raw: RawPlan, sizes: Sequence[InputSize], error: InfeasibleError) -> ToolPlan:
        """The tools and dependencies chosen, and why they cannot run."""
        steps = tuple(
            self._step(number, proposal, size, proposal.choices[0])
            for number, (proposal, size) in enumerate(zip(raw.steps, sizes, strict=True))
        )
        return self._plan(
            raw,
            summarise_infeasible(steps, error.reason),
            self.t_inf_ms,
            status="infeasible",
            reason=error.reason,
            steps=steps,
            missing=error.shortfalls,
        )

    def _plan(self, raw: RawPlan, summary: str, last_ms: int, **own: Any) -> ToolPlan:
        """A plan with what all have in common; ``last_ms`` is when it needs nothing any more."""
        created, expires = self._lifetime(last_ms)
        return ToolPlan(
            timeline_id=self.timeline.timeline_id,
            created_at=created,
            expires_at=expires,
            t_inf_ms=self.t_inf_ms,
            explanation=self.explanation or summary,
            gate_confidence=raw.gate_confidence,
            model=self.model,
            **own,
        )

    def _step(self, number: int, proposal: StepProposal, size: InputSize, choice: ToolChoice) -> PlanStep:
        others = (c for c in proposal.choices if c.tool != choice.tool)
        return PlanStep(
            id=step_id(number),
            tool_id=choice.tool,
            tool_name=self.registry.names[choice.tool],
            tool_version=self.registry.tools[choice.tool].version,
            tool_schema_hash=self.registry.tools[choice.tool].schema_hash,
            input_size=size,
            depends_on=tuple(step_id(d) for d in proposal.depends_on),
            confidence=_probability(choice.confidence),
            alternatives=tuple(
                Alternative(tool_name=self.registry.names[c.tool], confidence=_probability(c.confidence))
                for c in others
            ),
        )

    def _lifetime(self, last_ms: int) -> tuple[str, str]:
        """Now, and the end of what the curve says: a plan older than that rests on nothing."""
        created = datetime.now(UTC)
        submitted = created
        if self.timeline.epoch_ms is not None:
            submitted = datetime.fromtimestamp(self.timeline.epoch_ms / 1000, UTC)
        lifetime = timedelta(milliseconds=min(max(self.timeline.end_ms, last_ms), MAX_LIFETIME_MS))
        return _iso(created), _iso(max(submitted + lifetime, created))


def step_id(number: int) -> str:
    """``s1`` for step 0."""
    return f"s{number + 1}"


def _optimality(allocation: Allocation) -> Optimality | None:
    proof = allocation.proof
    return None if proof is None else Optimality(status=proof.status, bound_ms=proof.bound_ms)


def _probability(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
