"""An OpenAPI description as a tree, with its references followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tomas_router.schema.findings import FindingLog
from tomas_router.schema.json_text import parse_json
from tomas_router.schema.text_file import read_text
from tomas_router.schema.yaml_text import YamlTextError, parse_yaml

Json = Mapping[str, Any]
_NOTHING = object()


@dataclass(frozen=True)
class OpenApiDocument:
    """One description; what is wrong with it goes to ``log``."""

    root: Json
    log: FindingLog

    def followed(self, node: Any, place: str) -> Json | None:
        """An object, or what its ``$ref`` leads to; None after a finding."""
        seen: set[str] = set()
        while isinstance(node, Mapping) and "$ref" in node:
            reference = node["$ref"]
            if reference in seen:
                self.log.error("must not refer to itself", field=f"{place}.$ref", value=reference)
                return None
            seen.add(reference)
            node = self.at(reference, place)
            if node is None:
                return None
        if not isinstance(node, Mapping):
            self.log.error("must be an object", field=place, value=node)
            return None
        return node

    def at(self, reference: Any, place: str) -> Any:
        """What stands at ``#/components/...``; None after a finding."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            expected = "must point into this file (#/...); bundle the description into one file first"
            self.log.error(expected, field=f"{place}.$ref", value=reference)
            return None
        node: Any = self.root
        for part in pointer_parts(reference):
            if isinstance(node, Mapping):
                node = node.get(part, _NOTHING)
            elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            else:
                node = _NOTHING
            if node is _NOTHING:
                self.log.error("points to nothing", field=f"{place}.$ref", value=reference)
                return None
        return node


def pointer_parts(reference: str) -> list[str]:
    """``#/components/schemas/A~1B`` to its parts."""
    parts = reference.removeprefix("#").split("/")[1:]
    return [unquote(part).replace("~1", "/").replace("~0", "~") for part in parts]


def read_document(source: str | Path | Json) -> OpenApiDocument:
    """Reads a file, JSON or YAML, or takes a dictionary.

    Raises:
        DataValidationError: it cannot be read, or is no OpenAPI 3 description.
    """
    log = FindingLog("openapi") if isinstance(source, Mapping) else FindingLog.of(source)
    root = source if isinstance(source, Mapping) else _parsed(source, log)
    log.finish()
    if not isinstance(root, Mapping):
        log.error("must be an object with openapi, info and paths", value=type(root).__name__)
    elif "swagger" in root:
        log.error("must be an OpenAPI 3 description; convert it first", field="swagger", value=root["swagger"])
    elif not str(root.get("openapi", "")).startswith("3."):
        log.error("must be 3.0 or 3.1", field="openapi", value=root.get("openapi"))
    elif not isinstance(root.get("paths"), Mapping):
        log.error("must be an object of paths", field="paths", value=type(root.get("paths")).__name__)
    log.finish()
    assert isinstance(root, Mapping), "otherwise there was a finding"
    return OpenApiDocument(root, log)


def _parsed(path: str | Path, log: FindingLog) -> Any:
    text = read_text(path, log)
    if text is None:
        return None
    try:
        return parse_json(text) if text.lstrip().startswith("{") else parse_yaml(text)
    except YamlTextError as error:
        log.error(f"must be YAML or JSON: {error}", line=error.line)
    except ValueError as error:
        log.error(f"must be JSON: {error}", line=getattr(error, "lineno", None))
    return None
