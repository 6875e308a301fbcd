"""Arguments of steps: literals, or references to what an earlier step returned.

``{"$from": "s1", "path": "$.text"}`` stands for the field ``text`` of s1's output; without ``path`` for all of it.
Arguments are checked against the tool's JSON Schema before anything is reserved; references are checked for being
possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from jsonschema import Draft202012Validator

from tomas_router.errors import TomasRouterError
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.registry import ToolRegistry

FROM, PATH = "$from", "path"
PART = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")


class ArgumentError(TomasRouterError, ValueError):
    """A step's arguments cannot be used; ``missing`` names what nobody has given, by step id."""

    def __init__(self, message: str, missing: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.missing = {step: tuple(names) for step, names in (missing or {}).items()}


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


def resolve(value: Any, outputs: Mapping[str, Any]) -> Any:
    """With references replaced by what the steps returned.

    Raises:
        ArgumentError: a step did not return what is asked of it.
    """
    if isinstance(value, Mapping):
        if FROM in value:
            return _looked_up(str(value[FROM]), str(value.get(PATH, "$")), outputs)
        return {key: resolve(part, outputs) for key, part in value.items()}
    if isinstance(value, list):
        return [resolve(part, outputs) for part in value]
    return value


def references(value: Any) -> Iterator[Mapping[str, Any]]:
    """All references in a value, however deep."""
    if isinstance(value, Mapping):
        if FROM in value:
            yield value
        else:
            for part in value.values():
                yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def _looked_up(step: str, path: str, outputs: Mapping[str, Any]) -> Any:
    if step not in outputs:
        raise ArgumentError(f"{step} has returned nothing to refer to")
    found = outputs[step]
    for name, index in _parts(path):
        try:
            found = found[name] if name else found[int(index)]
        except (KeyError, IndexError, TypeError):
            raise ArgumentError(f"{step} has no {path}: there is no {name or index} in {_shown(found)}") from None
    return found


def _parts(path: str) -> list[tuple[str, str]]:
    parts = PART.findall(path[1:])
    if not path.startswith("$") or "".join(f".{n}" if n else f"[{i}]" for n, i in parts) != path[1:]:
        raise ArgumentError(f"a path must look like $.name or $.items[0].name, got {path!r}")
    return parts


def _reference_problems(step: PlanStep, args: Mapping[str, Any], earlier: set[str]) -> Iterator[str]:
    for reference in references(args):
        source = reference[FROM]
        if source not in earlier:
            yield f"{step.id} refers to {source}, which is not an earlier step"
        elif source not in step.depends_on:
            yield f"{step.id} refers to {source} but does not depend on it"
        try:
            _parts(str(reference.get(PATH, "$")))
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


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
