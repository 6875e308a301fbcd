"""A planner that answers what it is told, so that tests of an agent do not depend on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from tomas_router.runtime.ledger import NO_TERMS, BookingTerms, Ledger
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import InputSize, ResourceConfig
from tomas_router.schema.request import PlanRequest, parse_request

ONE_CORE = ResourceConfig(cpu_core=1, cpu_mem_gb=0.25, gpu_sm=0, gpu_mem_gb=0)
LIFETIME = timedelta(hours=1)


class AnyPlanner(Protocol):
    """What agents need of a planner; ``Planner`` and ``StaticPlanner`` both are."""

    def plan(
        self,
        request: str | Mapping[str, Any] | PlanRequest,
        registry: Any = None,
        profiling: Any = None,
        timeline: Any = None,
        *,
        ledger: Ledger | None = None,
        terms: BookingTerms = NO_TERMS,
    ) -> ToolPlan:
        """Plans one request; arguments as for ``Planner.plan``."""
        ...


class StaticPlanner:
    """Answers with one plan, or with what a function makes of the request; books nothing.

    ``calls`` keeps the requests, in order.
    """

    def __init__(self, plan: ToolPlan | Mapping[str, Any] | Callable[[PlanRequest], ToolPlan]) -> None:
        """Takes the answer.

        Args:
            plan: a plan, one as plain JSON, or a function of the request.
        """
        self._answer = plan if callable(plan) else ToolPlan.model_validate(plan)
        self.calls: list[PlanRequest] = []

    def plan(
        self,
        request: str | Mapping[str, Any] | PlanRequest,
        registry: Any = None,  # noqa: ARG002 - the protocol's arguments
        profiling: Any = None,  # noqa: ARG002
        timeline: Any = None,  # noqa: ARG002
        *,
        ledger: Ledger | None = None,  # noqa: ARG002
        terms: BookingTerms = NO_TERMS,  # noqa: ARG002
    ) -> ToolPlan:
        """The answer."""
        parsed = parse_request(request)
        self.calls.append(parsed)
        return self._answer if isinstance(self._answer, ToolPlan) else self._answer(parsed)


def static_plan(
    *tools: str,
    links: Literal["order", "parallel"] = "order",
    config: ResourceConfig = ONE_CORE,
    latency_ms: float = 100,
    input_size: InputSize = "small",
    args: Mapping[str, Mapping[str, Any]] | None = None,
    now: datetime | None = None,
) -> ToolPlan:
    """A plan that names the tools, one after another or all at once; without tools: none is needed.

    Args:
        *tools: names, in order.
        links: ``order`` chains the steps; ``parallel`` starts all at 0 ms.
        config: of every step.
        latency_ms: of every step.
        input_size: of every step.
        args: arguments by step id.
        now: when it was made; the plan is good for an hour.
    """
    made = now or datetime.now(UTC)
    chained = links == "order"
    steps = [
        PlanStep(
            id=f"s{number + 1}",
            tool_id=number,
            tool_name=tool,
            args=None if args is None or f"s{number + 1}" not in args else dict(args[f"s{number + 1}"]),
            input_size=input_size,
            resource_config=config,
            expected_latency_ms=latency_ms,
            start_ms=_ends(number, latency_ms) if chained else 0,
            timeout_ms=max(1, round(latency_ms * 10)),
            depends_on=(f"s{number}",) if chained and number else (),
            confidence=1.0,
            source="profiled",
        )
        for number, tool in enumerate(tools)
    ]
    return ToolPlan(
        status="planned" if steps else "no_tool",
        reason=None if steps else "not_needed",
        timeline_id="static",
        created_at=made.isoformat(),
        expires_at=(made + LIFETIME).isoformat(),
        t_inf_ms=0,
        gate_confidence=1.0 if steps else 0.0,
        steps=tuple(steps),
        model="static",
    )


def _ends(steps: int, latency_ms: float) -> int:
    return steps * int(-(-latency_ms // 1))
