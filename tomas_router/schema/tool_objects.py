"""Tools as agents hold them: LangChain tools, MCP tools, functions. Read by their attributes, so nothing is imported.

What the router wants to know beyond name, description and arguments stands in ``metadata["tomas"]``, which LangChain
passes to traces and never to a model::

    {"profile": [{"input_size": "small", "cpu_core": 2, ..., "latency_ms": 900}], "tags": ["group:ocr"]}

An MCP server may send the same under ``_meta``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tomas_router.schema.findings import FindingLog

KEY = "tomas"
ATTRIBUTE = "__tomas__"
FIELDS = ("desc", "version", "profile", "tags", "input_types", "output_types")

T = TypeVar("T")


def profiled(
    profile: Sequence[Mapping[str, Any]] = (),
    *,
    desc: str | None = None,
    version: str | None = None,
    tags: Sequence[str] = (),
    input_types: Sequence[str] = (),
    output_types: Sequence[str] = (),
) -> Callable[[T], T]:
    """Writes a profile onto a function or a LangChain tool; above or below ``@tool``, both work.

    Args:
        profile: rows of ``profiling.csv`` without the column ``tool``.
        desc: what the router reads instead of the tool's description.
        version: of the tool; a plan that was made for another one is made anew.
        tags: as in the registry, for example ``group:ocr``.
        input_types: as in the registry.
        output_types: as in the registry.
    """
    given = {"desc": desc, "version": version, "profile": [dict(row) for row in profile], "tags": list(tags)}
    given |= {"input_types": list(input_types), "output_types": list(output_types)}
    known = {name: value for name, value in given.items() if value}

    def mark(tool: T) -> T:
        if hasattr(tool, "metadata") and not inspect.isfunction(tool):
            tool.metadata = {**(tool.metadata or {}), KEY: known}
        else:
            setattr(tool, ATTRIBUTE, known)
        return tool

    return mark


def specs_and_rows(tools: Iterable[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a registry and a profile say of the tools, as plain dictionaries.

    Raises:
        DataValidationError: a tool has no name or no description, or ``tomas`` holds something unknown.
    """
    log = FindingLog("tools")
    specs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for position, tool in enumerate(tools):
        place = f"tools[{position}]"
        name, extra = tool_name(tool), _extra(tool)
        desc = extra.get("desc") or _description(tool)
        if not name:
            log.error("has no name; give a function or a LangChain tool", field=place, value=type(tool).__name__)
            continue
        if not desc:
            log.error("has no description; write a docstring, or desc= in profiled(...)", field=place, value=name)
            continue
        for key in extra.keys() - set(FIELDS):
            log.error(f"is unknown; may hold {', '.join(FIELDS)}", field=f"{place}.metadata[{KEY!r}].{key}")
        spec = {"name": name, "desc": desc, "parameters": parameters_of(tool), "version": extra.get("version")}
        spec |= {field: tuple(extra[field]) for field in ("tags", "input_types", "output_types") if extra.get(field)}
        specs.append(spec)
        rows += [{"tool": name, **row} for row in extra.get("profile") or ()]
    log.finish()
    return specs, rows


def tool_name(tool: Any) -> str:
    """The name by which a model calls the tool; empty when it has none."""
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None)
    return name if isinstance(name, str) else ""


def parameters_of(tool: Any) -> dict[str, Any] | None:
    """JSON Schema of the arguments that a model writes; injected ones are left out. None for plain functions."""
    schema = getattr(tool, "tool_call_schema", None) or getattr(tool, "args_schema", None)
    if schema is None:
        return None
    if isinstance(schema, Mapping):
        return dict(schema)
    made: dict[str, Any] = schema.model_json_schema()
    return {key: value for key, value in made.items() if key not in ("title", "description")}


def _description(tool: Any) -> str:
    """Of a LangChain tool: its description. Of a function: the first paragraph of its docstring."""
    described = getattr(tool, "description", None)
    text = described if isinstance(described, str) else inspect.getdoc(tool) if inspect.isfunction(tool) else None
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _extra(tool: Any) -> dict[str, Any]:
    """From ``profiled`` on a function (also under ``@tool``), metadata, or an MCP server's ``_meta``."""
    metadata = getattr(tool, "metadata", None) or {}
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool
    mcp = (metadata.get("mcp") or {}).get("tool") or {} if isinstance(metadata.get("mcp"), Mapping) else {}
    sources = [getattr(function, ATTRIBUTE, None), (mcp.get("_meta") or {}).get(KEY)]
    merged: dict[str, Any] = {}
    for source in (*sources, (metadata.get("_meta") or {}).get(KEY), metadata.get(KEY)):
        merged |= source or {}
    return merged
