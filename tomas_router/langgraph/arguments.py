"""Arguments of steps: literals, or references to what an earlier step returned (``executors.references``).

Arguments are checked against the tool's JSON Schema before anything is reserved; references are checked for being
possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from jsonschema import Draft202012Validator

from tomas_router.executors.references import FROM, PATH, ArgumentError, path_parts, references, resolve
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.registry import ToolRegistry

__all__ = ["ArgumentError", "check_arguments", "references", "resolve"]


def check_arguments(plan: ToolPlan, registry: ToolRegistry) -> None:
    """Raises unless all arguments of all steps can be used.

    Raises:
        ArgumentError: names each step, argument, and what was expected.
    """
    missing: dict[str, list[str]] = {}
    wrong: list[str] = []
    earlier: set[str] = set()
    for step in plan.steps:
        schema = registry[step.tool_name].parameters if step.tool_name in registry else None
        args = step.args or {}
        absent = [name for name in (schema or {}).get("required") or [] if name not in args]  # type: ignore[union-attr]
        if absent:
            missing[step.id] = cast("list[str]", absent)
        wrong += _reference_problems(step, args, earlier)
        wrong += _schema_problems(step, args, schema)
        earlier.add(step.id)
    if missing:
        wrong = [f"{step} misses {', '.join(names)}" for step, names in missing.items()] + wrong
    if wrong:
        raise ArgumentError("; ".join(wrong), missing)


def _reference_problems(step: PlanStep, args: Mapping[str, Any], earlier: set[str]) -> Iterator[str]:
    for reference in references(args):
        source = reference[FROM]
        if source not in earlier:
            yield f"{step.id} refers to {source}, which is not an earlier step"
        elif source not in step.depends_on:
            yield f"{step.id} refers to {source} but does not depend on it"
        try:
            path_parts(str(reference.get(PATH, "$")))
        except ArgumentError as error:
            yield f"{step.id}: {error}"


def _schema_problems(step: PlanStep, args: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Iterator[str]:
    """Of literals; what is referred to is checked by the tool itself when it is there."""
    if not schema:
        return
    literal = {name: value for name, value in args.items() if not any(references(value))}
    relaxed = {key: value for key, value in schema.items() if key != "required"}
    for error in Draft202012Validator(relaxed).iter_errors(literal):
        where = ".".join(str(part) for part in error.absolute_path)
        yield f"{step.id} ({step.tool_name}){f' {where}' if where else ''}: {error.message}"
