"""Whether the tools are still those that a plan was made for."""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.errors import TomasRouterError
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.registry import ToolRegistry


class ToolChangedError(TomasRouterError):
    """A plan was made for another version or schema of a tool; ``changes`` has a sentence for each tool."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__("; ".join(changes) + "; plan again")
        self.changes = tuple(changes)

    def __reduce__(self) -> tuple[type[ToolChangedError], tuple[tuple[str, ...]]]:
        return type(self), (self.changes,)


def tool_changes(plan: ToolPlan, registry: ToolRegistry) -> tuple[str, ...]:
    """A sentence for each planned tool that is gone or is another one now; none where the plan does not say."""
    sentences = (_change(step, registry) for step in plan.steps)
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


def require_same_tools(plan: ToolPlan, registry: ToolRegistry) -> None:
    """Raises unless every planned tool is still the one that was planned.

    Raises:
        ToolChangedError: names each tool, what was planned, and what there is now.
    """
    changes = tool_changes(plan, registry)
    if changes:
        raise ToolChangedError(changes)


def _change(step: PlanStep, registry: ToolRegistry) -> str | None:
    if step.tool_name not in registry:
        return f"{step.tool_name} was planned and is not in the registry any more"
    tool = registry[step.tool_name]
    if step.tool_version is not None and step.tool_version != tool.version:
        return f"{step.tool_name} was planned in version {step.tool_version}, now it has {tool.version or 'none'}"
    if step.tool_schema_hash is not None and step.tool_schema_hash != tool.schema_hash:
        return (
            f"{step.tool_name} was planned for arguments of schema {step.tool_schema_hash}, now it has "
            f"{tool.schema_hash}"
        )
    return None
