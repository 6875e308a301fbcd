"""Asking a person before a plan takes much: how much it takes, when to ask, and what the answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import AMOUNTS, ProfilingTable, ResourceConfig

ANSWERS = ("approve", "smaller", "reject")


@dataclass(frozen=True)
class Footprint:
    """The most that a plan takes at any moment, and for how long it holds anything."""

    cpu_core: float  # vCPU
    cpu_mem_gb: float  # GiB
    gpu_sm: float  # percent of one GPU
    gpu_mem_gb: float  # GiB
    seconds: float  # from the first start to the last end

    def as_json(self) -> dict[str, float]:
        """Plain JSON."""
        return asdict(self)

    def within(self, other: Mapping[str, float]) -> bool:
        """Whether no amount is larger than in the other; so an approval of that one covers this one."""
        return all(getattr(self, name) <= other.get(name, 0.0) for name in (*AMOUNTS, "seconds"))


def footprint(plan: ToolPlan) -> Footprint:
    """Of a planned plan; zero where nothing is placed."""
    placed = [_Placed.of(step) for step in plan.steps if step.resource_config is not None]
    if not placed:
        return Footprint(0, 0, 0, 0, 0)
    peaks = {
        name: max(
            round(sum(getattr(p.config, name) for p in placed if p.start_ms <= at.start_ms < p.end_ms), 6)
            for at in placed
        )
        for name in AMOUNTS
    }
    return Footprint(**peaks, seconds=(max(p.end_ms for p in placed) - min(p.start_ms for p in placed)) / 1000)


class FootprintOver:
    """Says whether something takes more than a limit: a plan, or one call of a planned tool."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits = dict(limits)

    def __call__(self, subject: Any) -> bool:
        """Whether to ask.

        Args:
            subject: a ``ToolPlan``, one as plain JSON, or LangChain's ``ToolCallRequest``, whose state holds the
                plan. A call that is not in the plan is asked about: nobody knows what it takes.
        """
        call = getattr(subject, "tool_call", None)
        if call is None:
            return self.asks_about(footprint(ToolPlan.model_validate(subject)))
        state = subject.state
        found = state.get("tool_plan") if isinstance(state, Mapping) else getattr(state, "tool_plan", None)
        if not found:
            return True
        plan = ToolPlan.model_validate(found)
        steps = tuple(step for step in plan.steps if step.tool_name == call["name"])
        if not steps or plan.status != "planned":
            return True
        return any(self.asks_about(footprint(plan.model_copy(update={"steps": (step,)}))) for step in steps)

    def asks_about(self, taken: Footprint) -> bool:
        """Whether any amount is over its limit."""
        return any(getattr(taken, name) > limit for name, limit in self.limits.items())


def footprint_over(
    *,
    cpu_core: float | None = None,
    cpu_mem_gb: float | None = None,
    gpu_sm: float | None = None,
    gpu_mem_gb: float | None = None,
    seconds: float | None = None,
) -> FootprintOver:
    """When to ask a person: as ``approve=`` of ``ToolRouterNode``, or ``when=`` of ``HumanInTheLoopMiddleware``.

    It reads the stored plan and never the machine, so it answers the same when a graph is resumed.

    Args:
        cpu_core: ask above so many vCPU.
        cpu_mem_gb: ask above so many GiB.
        gpu_sm: ask above so many percent of a GPU.
        gpu_mem_gb: ask above so many GiB on the GPU.
        seconds: ask when it takes longer.

    Raises:
        ValueError: no limit is given.
    """
    given = {"cpu_core": cpu_core, "cpu_mem_gb": cpu_mem_gb, "gpu_sm": gpu_sm, "gpu_mem_gb": gpu_mem_gb}
    limits = {name: limit for name, limit in (given | {"seconds": seconds}).items() if limit is not None}
    if not limits:
        raise ValueError("footprint_over needs at least one limit, for example cpu_core=8")
    return FootprintOver(limits)


def footprint_text(tool_call: Mapping[str, Any], state: Any, runtime: Any = None) -> str:  # noqa: ARG001 - LangChain's
    """What a call will take, for people: ``description=`` of ``HumanInTheLoopMiddleware``."""
    name = tool_call["name"]
    found = state.get("tool_plan") if isinstance(state, Mapping) else getattr(state, "tool_plan", None)
    steps = [s for s in ToolPlan.model_validate(found).steps if s.tool_name == name] if found else []
    placed = [s for s in steps if s.resource_config is not None]
    if not placed:
        return f"{name} is not in the plan; nobody knows what it takes."
    config, latency_ms = placed[0].resource_config, placed[0].expected_latency_ms
    assert config is not None, "it is placed"
    gpu = f", {config.gpu_sm:g} % of a GPU and {config.gpu_mem_gb:g} GiB on it" if config.gpu_sm else ""
    lasts = "" if latency_ms is None else f", for about {latency_ms / 1000:.1f} s"
    return f"{name} will take {config.cpu_core:g} cores and {config.cpu_mem_gb:g} GiB{gpu}{lasts}."


def smaller_profiles(profiling: ProfilingTable, plan: ToolPlan) -> ProfilingTable:
    """The table without configurations of the planned tools that are not smaller than what was planned.

    Smaller means: nothing more, and something less. Tools that are not in the plan keep all rows.
    """
    taken = {step.tool_name: step.resource_config for step in plan.steps if step.resource_config is not None}
    kept = (row for row in profiling.all_rows if row.tool not in taken or _is_smaller(row.config, taken[row.tool]))
    return ProfilingTable(kept)


@dataclass(frozen=True)
class _Placed:
    config: ResourceConfig
    start_ms: int
    end_ms: int

    @classmethod
    def of(cls, step: PlanStep) -> _Placed:
        assert step.resource_config is not None, "only placed steps are asked for"
        return cls(step.resource_config, step.start_ms or 0, step.end_ms or 0)


def _is_smaller(config: ResourceConfig, than: ResourceConfig) -> bool:
    pairs = [(getattr(config, name), getattr(than, name)) for name in AMOUNTS]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
