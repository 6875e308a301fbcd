"""Tomas Router decides which tool, with how much CPU and GPU, and when.

Importing this package is instant: the public names below are resolved on first use, so neither numpy nor
ONNX Runtime is loaded until a registry is read or a plan is made. PyTorch is never loaded by any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tomas_router.lazy import load_name

__version__ = "0.1.0"

_HOME_OF = {
    "Planner": "tomas_router.planner.planner",
    "PlanRequest": "tomas_router.schema.request",
    "ProfilingTable": "tomas_router.schema.profiling",
    "SystemTimeline": "tomas_router.runtime.timeline",
    "ToolPlan": "tomas_router.schema.plan",
    "ToolRegistry": "tomas_router.schema.registry",
    "load_profiling_matrix": "tomas_router.schema.profiling",
    "load_tool_registry": "tomas_router.schema.registry",
}

__all__ = [
    "PlanRequest",
    "Planner",
    "ProfilingTable",
    "SystemTimeline",
    "ToolPlan",
    "ToolRegistry",
    "__version__",
    "load_profiling_matrix",
    "load_tool_registry",
]

if TYPE_CHECKING:
    from tomas_router.planner.planner import Planner
    from tomas_router.runtime.timeline import SystemTimeline
    from tomas_router.schema.plan import ToolPlan
    from tomas_router.schema.profiling import ProfilingTable, load_profiling_matrix
    from tomas_router.schema.registry import ToolRegistry, load_tool_registry
    from tomas_router.schema.request import PlanRequest


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOME_OF, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
