"""Reads JSON as strictly as the standard has it, and knows on which line each element of a list begins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomas_router.schema.findings import FindingLog

_SPACE = re.compile(r"[ \t\r\n]*")
_NOTHING = object()


def parse_json(text: str) -> Any:
    """Parses one JSON document.

    Raises:
        ValueError: Not JSON; or what Python's parser lets pass but nobody else understands: NaN and Infinity, a key
            that repeats in one object, half of a surrogate pair.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_distinct_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return data


def read_json(path: str | Path, log: FindingLog) -> tuple[str, Any] | None:
    """Text and content of a JSON file, or None after a finding that says why not."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        log.error(f"cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        log.error("must be UTF-8 text")
        return None
    try:
        return text, parse_json(text)
    except ValueError as error:
        log.error(f"must be JSON: {error}", line=getattr(error, "lineno", None))
        return None


def element_lines(text: str, key: str | None = None) -> list[int]:
    """Line, counted from 1, at which each element of a list begins in a valid document.

    Args:
        text: A document that ``parse_json`` accepts.
        key: The list is the value of this key of the outermost object; None: the list is the document itself.
    """
    start = _skip(text, 0)
    if key is not None:
        start = next(at for name, at in _members(text, start) if name == key)
    lines: list[int] = []
    line, counted = 1, 0
    for position in _elements(text, start):
        line += text.count("\n", counted, position)
        counted = position
        lines.append(line)
    return lines


def _elements(text: str, bracket: int) -> Iterator[int]:
    position = _skip(text, bracket + 1)
    while text[position] != "]":
        yield position
        position = _after_value(text, position)


def _members(text: str, brace: int) -> Iterator[tuple[str, int]]:
    position = _skip(text, brace + 1)
    while text[position] != "}":
        name, end = json.JSONDecoder().raw_decode(text, position)
        value = _skip(text, _skip(text, end) + 1)
        yield name, value
        position = _after_value(text, value)


def _after_value(text: str, position: int) -> int:
    """Where the next value begins, or the closing bracket stands."""
    end = _skip(text, json.JSONDecoder().raw_decode(text, position)[1])
    return _skip(text, end + 1) if text[end] == "," else end


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return position if match is None else match.end()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if found.setdefault(name, _NOTHING) is not _NOTHING:
            raise ValueError(f"the key {name!r} repeats in one object")
        found[name] = value
    return found
