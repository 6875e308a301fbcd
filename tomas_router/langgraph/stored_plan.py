"""Plans that come out of a checkpoint: perhaps old, perhaps for tools that have changed since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tomas_router.langgraph.state import has_expired
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.plan_versions import PlanVersionError
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.tool_changes import tool_changes

log = logging.getLogger("tomas_router")


def stored_plan(stored: Mapping[str, Any] | None) -> ToolPlan | None:
    """The plan; None when there is none, or when its version is not read any more, which is logged by name."""
    if not stored:
        return None
    try:
        return ToolPlan.model_validate(stored)
    except PlanVersionError as error:
        log.warning("the stored plan is not used: %s", error)
        return None


def why_plan_again(stored: Mapping[str, Any], registry: ToolRegistry | None) -> str:
    """Why a stored plan must not run; empty when it may.

    Args:
        stored: as plain JSON.
        registry: the tools that there are now; None does not compare.
    """
    try:
        plan = ToolPlan.model_validate(stored)
    except PlanVersionError as error:
        return str(error)
    if has_expired(plan):
        return f"the plan expired at {plan.expires_at}"
    return "" if registry is None else "; ".join(tool_changes(plan, registry))
