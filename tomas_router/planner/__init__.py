"""From a request to a plan: decoding, exact allocation, and the planner that joins them.

The names are resolved on first use, so importing a part of this package costs only that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomas_router.lazy import load_name

if TYPE_CHECKING:
    from tomas_router.planner.allocator import EXACT, GREEDY, Allocation, Proof, StepDemand, allocate, allocate_plan
    from tomas_router.planner.demand import NoProfileError, ResourceOption
    from tomas_router.planner.in_turn import allocate_in_turn
    from tomas_router.planner.plan_search import SearchLimits
    from tomas_router.planner.planner import Planner

_HOME_OF = {
    "EXACT": "tomas_router.planner.allocator",
    "GREEDY": "tomas_router.planner.allocator",
    "Allocation": "tomas_router.planner.allocator",
    "NoProfileError": "tomas_router.planner.demand",
    "Planner": "tomas_router.planner.planner",
    "Proof": "tomas_router.planner.allocator",
    "ResourceOption": "tomas_router.planner.demand",
    "SearchLimits": "tomas_router.planner.plan_search",
    "StepDemand": "tomas_router.planner.allocator",
    "allocate": "tomas_router.planner.allocator",
    "allocate_in_turn": "tomas_router.planner.in_turn",
    "allocate_plan": "tomas_router.planner.allocator",
}

__all__ = [
    "EXACT",
    "GREEDY",
    "Allocation",
    "NoProfileError",
    "Planner",
    "Proof",
    "ResourceOption",
    "SearchLimits",
    "StepDemand",
    "allocate",
    "allocate_in_turn",
    "allocate_plan",
]


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOME_OF, name)
