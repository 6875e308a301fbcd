"""Schemas of an OpenAPI description as self-contained JSON Schema.

References become ``#/$defs/NAME`` with their definitions beside them, so schemas that contain themselves stay finite.
What OpenAPI 3.0 says in its own way (``nullable``, boolean ``exclusiveMinimum``, ``example``) is said as JSON Schema
does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tomas_router.schema.openapi_document import Json, OpenApiDocument, pointer_parts
from tomas_router.schema.tool_identity import NAME_MAPS, VALUES

DROPPED = frozenset({"xml", "externalDocs", "discriminator", "nullable", "example", "$schema", "$id"})
KEPT_AS_THEY_ARE = VALUES | {"examples", "required", "dependentRequired"}


class SchemaWriter:
    """Writes the schemas of one operation, and collects what they refer to."""

    def __init__(self, document: OpenApiDocument) -> None:
        self._document = document
        self._names: dict[str, str] = {}
        self.definitions: dict[str, Any] = {}

    def written(self, schema: Any, place: str) -> Any:
        """As JSON Schema; boolean schemas stay."""
        if not isinstance(schema, Mapping):
            return schema if isinstance(schema, bool) else {}
        made: dict[str, Any] = {}
        for key, value in schema.items():
            if key == "$ref":
                made["$ref"] = self._definition(value, place)
            elif key in KEPT_AS_THEY_ARE:
                made[key] = value
            elif key not in DROPPED and not key.startswith("x-"):
                made[key] = self._part(key, value, f"{place}.{key}")
        _bounds(made, "minimum", "exclusiveMinimum")
        _bounds(made, "maximum", "exclusiveMaximum")
        if "example" in schema:
            made.setdefault("examples", [schema["example"]])
        return _or_null(made) if schema.get("nullable") is True else made

    def _part(self, key: str, value: Any, place: str) -> Any:
        if key in NAME_MAPS and isinstance(value, Mapping):
            return {name: self.written(part, f"{place}.{name}") for name, part in value.items()}
        if isinstance(value, list):
            return [self.written(p, f"{place}[{i}]") if isinstance(p, Mapping) else p for i, p in enumerate(value)]
        return self.written(value, place) if isinstance(value, Mapping) else value

    def _definition(self, reference: Any, place: str) -> str:
        if reference not in self._names:
            found = self._document.at(reference, place)
            name = self._free_name(reference)
            self._names[reference] = name
            self.definitions[name] = {}
            if found is not None:
                self.definitions[name] = self.written(found, str(reference))
        return f"#/$defs/{self._names[reference]}"

    def _free_name(self, reference: Any) -> str:
        parts = pointer_parts(str(reference))
        wanted = re.sub(r"[^A-Za-z0-9_.-]+", "_", parts[-1] if parts else "root")
        name, number = wanted, 2
        while name in self.definitions:
            name, number = f"{wanted}_{number}", number + 1
        return name


def object_parts(document: OpenApiDocument, schema: Any, place: str) -> tuple[dict[str, Any], list[str]] | None:
    """Properties and required names of an object, those of ``allOf`` included; None where it is none or more than that.

    Properties that a server only sends (``readOnly``) are left out.
    """
    found = document.followed(schema, place)
    if found is None or any(key in found for key in ("anyOf", "oneOf", "not", "nullable")):
        return None
    if found.get("type", "object") != "object" or not ("properties" in found or "allOf" in found):
        return None
    properties: dict[str, Any] = {}
    required: list[str] = list(found.get("required") or [])
    for position, part in enumerate(found.get("allOf") or []):
        inner = object_parts(document, part, f"{place}.allOf[{position}]")
        if inner is None:
            return None
        properties |= inner[0]
        required += inner[1]
    properties |= found.get("properties") or {}
    hidden = {name for name, part in properties.items() if _is_read_only(document, part, f"{place}.{name}")}
    kept = {name: part for name, part in properties.items() if name not in hidden}
    return kept, [name for name in dict.fromkeys(required) if name in kept]


def _is_read_only(document: OpenApiDocument, schema: Any, place: str) -> bool:
    return isinstance(schema, Mapping) and bool((document.followed(schema, place) or {}).get("readOnly"))


def _bounds(made: dict[str, Any], limit: str, exclusive: str) -> None:
    """OpenAPI 3.0: ``exclusiveMinimum: true`` is about ``minimum``."""
    if isinstance(made.get(exclusive), bool):
        is_exclusive = made.pop(exclusive)
        if is_exclusive and limit in made:
            made[exclusive] = made.pop(limit)


def _or_null(made: dict[str, Any]) -> Json:
    kind = made.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [made, {"type": "null"}]}
    made["type"] = [kind, "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return made
