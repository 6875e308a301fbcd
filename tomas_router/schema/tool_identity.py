"""What a plan rests on when it names a tool: its version, and the schema of its arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

HASH_CHARS = 12
SAYS_NOTHING = frozenset({"title", "description", "examples", "$comment"})
"""Keywords of JSON Schema that describe and do not constrain: rewording them changes no plan."""
NAME_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose keys are names of the user's, among which ``title`` is an ordinary one."""
VALUES = frozenset({"enum", "const", "default"})


def schema_hash(parameters: Mapping[str, Any] | None) -> str:
    """Twelve hexadecimal digits that change when other arguments become right or wrong; of None too."""
    text = json.dumps(_constraints(parameters), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def identity(name: str, version: str | None, hashed: str | None) -> str:
    """``ocr@2.1#0f3a9c...``, as the ledger and traces show it; unknown parts are left out."""
    return f"{name}{f'@{version}' if version else ''}{f'#{hashed}' if hashed else ''}"


def _constraints(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return [_constraints(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NAME_MAPS and isinstance(value, Mapping):
            kept[key] = {name: _constraints(part) for name, part in value.items()}
        elif key in VALUES:
            kept[key] = value
        elif key not in SAYS_NOTHING:
            kept[key] = _constraints(value)
    return kept
