"""Operations of an OpenAPI 3 description as tools.

A tool's arguments are the operation's parameters and the fields of its request body, side by side; ``x-in`` of each
says where it goes (``path``, ``query``, ``header``, ``cookie``, ``body``), ``x-name`` its name there where two were
alike, and the schema's ``x-method`` and ``x-path`` how it is called. What the router wants to know beyond that stands
under ``x-tomas`` in an operation, with the fields of ``profiled``.

Media types of responses are not taken for ``output_types``: two operations that answer in JSON do not do the same job.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomas_router.schema.findings import FindingLog
from tomas_router.schema.openapi_document import Json, OpenApiDocument, read_document
from tomas_router.schema.openapi_schema import SchemaWriter, object_parts
from tomas_router.schema.tool_objects import FIELDS

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
EXTENSION = "x-tomas"
NOT_ARGUMENTS = frozenset({"accept", "content-type", "authorization"})
"""Headers that OpenAPI itself says are no parameters."""
MAX_DESC_CHARS = 4_000
BODY = "body"


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    place: str
    method: str
    path: str
    node: Json
    shared: tuple[Any, ...]
    """Parameters of all methods of the path."""

    @property
    def name(self) -> str:
        """The ``operationId``, else made of method and path."""
        given = self.node.get("operationId")
        return given if isinstance(given, str) and given else _slug(f"{self.method}_{self.path}")


def openapi_specs_and_rows(source: str | Path | Json) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a registry and a profile say of the operations, as plain dictionaries.

    Raises:
        DataValidationError: Lists everything that is wrong, each with its place in the description.
    """
    document = read_document(source)
    specs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for operation in _operations(document):
        if first.setdefault(operation.name, operation.place) != operation.place:
            expected = f"must be unique, but {first[operation.name]} has the same"
            document.log.error(expected, field=f"{operation.place}.operationId", value=operation.name)
        extra = _extra(operation, document.log)
        specs.append(_spec(document, operation, extra))
        rows += [{"tool": operation.name, **row} for row in extra.get("profile") or ()]
    if not specs:
        document.log.error("holds no operation", field="paths")
    document.log.finish()
    return specs, rows


def _operations(document: OpenApiDocument) -> Iterator[Operation]:
    for path, item in document.root["paths"].items():
        if str(path).startswith("x-"):
            continue
        found = document.followed(item, f"paths.{path}")
        for method in METHODS if found is not None else ():
            if found is not None and method in found:
                place = f"paths.{path}.{method}"
                node = document.followed(found[method], place)
                if node is not None:
                    yield Operation(place, method, str(path), node, tuple(found.get("parameters") or ()))


def _spec(document: OpenApiDocument, operation: Operation, extra: Mapping[str, Any]) -> dict[str, Any]:
    info = document.root.get("info") or {}
    tags = [f"domain:{tag}" for tag in operation.node.get("tags") or ()]
    tags += ["deprecated"] if operation.node.get("deprecated") else []
    version = extra.get("version") or "-".join(str(info.get("version") or "").split())
    spec: dict[str, Any] = {
        "name": operation.name,
        "desc": extra.get("desc") or _described(operation, document.log),
        "version": version or None,
        "parameters": _arguments(document, operation),
        "tags": tuple(extra.get("tags") or tags),
    }
    return spec | {field: tuple(extra[field]) for field in ("input_types", "output_types") if extra.get(field)}


def _described(operation: Operation, log: FindingLog) -> str:
    parts = [" ".join(str(operation.node.get(key) or "").split()) for key in ("summary", "description")]
    summary, description = parts
    if summary and description and not description.startswith(summary):
        text = f"{summary.rstrip('.')}. {description}"
    else:
        text = description or summary
    if not text:
        log.warn(
            "has no summary and no description, so the router knows its name only; write one, or x-tomas.desc",
            field=operation.place,
        )
        return f"{operation.method.upper()} {operation.path}"
    return text if len(text) <= MAX_DESC_CHARS else f"{text[: MAX_DESC_CHARS - 3]}..."


def _extra(operation: Operation, log: FindingLog) -> dict[str, Any]:
    extra = operation.node.get(EXTENSION) or {}
    if not isinstance(extra, Mapping):
        log.error("must be an object", field=f"{operation.place}.{EXTENSION}", value=extra)
        return {}
    for key in extra.keys() - set(FIELDS):
        log.error(f"is unknown; may hold {', '.join(FIELDS)}", field=f"{operation.place}.{EXTENSION}.{key}")
    return dict(extra)


def _arguments(document: OpenApiDocument, operation: Operation) -> dict[str, Any]:
    writer = SchemaWriter(document)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, where, is_required, schema in (*_parameters(document, operation), *_body(document, operation)):
        key = name if name not in properties else f"{name}_{where}"
        if key in properties:
            document.log.error("must be unique", field=f"{operation.place}.parameters", value=f"{name} in {where}")
        written = writer.written(schema, f"{operation.place}.{name}")
        written = dict(written) if isinstance(written, Mapping) else {}
        properties[key] = written | {"x-in": where} | ({"x-name": name} if key != name else {})
        required += [key] if is_required else []
    made: dict[str, Any] = {"type": "object", "properties": properties}
    made |= {"required": required} if required else {}
    made |= {"$defs": writer.definitions} if writer.definitions else {}
    return made | {"x-method": operation.method, "x-path": operation.path}


def _parameters(document: OpenApiDocument, operation: Operation) -> Iterator[tuple[str, str, bool, Any]]:
    """Those of the operation win over those of its path."""
    found: dict[tuple[str, str], tuple[str, str, bool, Any]] = {}
    own = operation.node.get("parameters") or ()
    for position, node in enumerate((*operation.shared, *own)):
        place = f"{operation.place}.parameters[{position}]"
        parameter = document.followed(node, place)
        if parameter is None:
            continue
        name, where = parameter.get("name"), parameter.get("in")
        if not isinstance(name, str) or where not in ("path", "query", "header", "cookie"):
            document.log.error("must have a name, and in = path, query, header or cookie", field=place, value=where)
            continue
        if where == "header" and name.lower() in NOT_ARGUMENTS:
            continue
        is_required = where == "path" or bool(parameter.get("required"))
        found[name, where] = (name, where, is_required, _described_schema(parameter))
    yield from found.values()


def _described_schema(parameter: Json) -> Any:
    content = parameter.get("content")
    schema = parameter.get("schema")
    if schema is None and isinstance(content, Mapping) and content:
        schema = (next(iter(content.values())) or {}).get("schema")
    if not isinstance(schema, Mapping):
        schema = {}
    said = {} if "description" in schema or not parameter.get("description") else {
        "description": " ".join(str(parameter["description"]).split())
    }  # fmt: skip
    return {**schema, **said}


def _body(document: OpenApiDocument, operation: Operation) -> Iterator[tuple[str, str, bool, Any]]:
    """Its fields one by one where it is an object, else as one argument."""
    if "requestBody" not in operation.node:
        return
    place = f"{operation.place}.requestBody"
    body = document.followed(operation.node["requestBody"], place)
    content = (body or {}).get("content")
    if body is None or not isinstance(content, Mapping) or not content:
        return
    media = min(content, key=_preference)
    schema = (content[media] or {}).get("schema")
    needed = bool(body.get("required"))
    parts = None if schema is None else object_parts(document, schema, f"{place}.content.{media}.schema")
    if parts is None:
        yield BODY, BODY, needed, schema or {}
        return
    properties, required = parts
    for name, part in properties.items():
        yield name, BODY, needed and name in required, part


def _preference(media: str) -> int:
    kinds = ("application/json", "+json", "application/x-www-form-urlencoded", "multipart/form-data")
    return next((rank for rank, kind in enumerate(kinds) if kind in media), len(kinds))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
