"""References between steps: what an earlier step returned, as an argument of a later one.

``{"$from": "s1", "path": "$.text"}`` stands for the field ``text`` of s1's output; without ``path`` for all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tomas_router.errors import TomasRouterError

FROM, PATH = "$from", "path"
PART = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")


class ArgumentError(TomasRouterError, ValueError):
    """A step's arguments cannot be used; ``missing`` names what nobody has given, by step id."""

    def __init__(self, message: str, missing: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.missing = {step: tuple(names) for step, names in (missing or {}).items()}


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
    for name, index in path_parts(path):
        try:
            found = found[name] if name else found[int(index)]
        except (KeyError, IndexError, TypeError):
            raise ArgumentError(f"{step} has no {path}: there is no {name or index} in {_shown(found)}") from None
    return found


def path_parts(path: str) -> list[tuple[str, str]]:
    """(name, index) of each part, one of which is empty.

    Raises:
        ArgumentError: it is no path.
    """
    parts = PART.findall(path[1:])
    if not path.startswith("$") or "".join(f".{n}" if n else f"[{i}]" for n, i in parts) != path[1:]:
        raise ArgumentError(f"a path must look like $.name or $.items[0].name, got {path!r}")
    return parts


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
