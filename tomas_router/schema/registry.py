"""The tool registry: which tools exist and what each is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, field_validator

from tomas_router.errors import UnknownToolError
from tomas_router.schema.findings import Finding, FindingLog, finish
from tomas_router.schema.json_text import element_lines, read_json
from tomas_router.schema.openapi import openapi_specs_and_rows
from tomas_router.schema.tool_identity import identity, schema_hash
from tomas_router.schema.tool_objects import specs_and_rows

MAX_TOOLS = 10_000
MAX_NAME_CHARS = 200
MAX_DESC_CHARS = 4_000
GROUP_TAG = "group:"
LIST_KEY = "tools"

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        min_length=1,
        max_length=MAX_NAME_CHARS,
        pattern=r"^[^\x00-\x1f\x7f]+$",  # one line: names go into CSV files, prompts and terminals
    ),
]
Version = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x20\x7f]+$")]
Desc = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_DESC_CHARS)]


class ToolSpec(BaseModel):
    """One tool."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name = Field(description="unique in the registry")
    desc: Desc = Field(description="what the tool does, in the words that requests use")
    version: Version | None = Field(default=None, description="of the tool; a plan for another version is made anew")
    parameters: dict[str, JsonValue] | None = Field(default=None, description="JSON Schema of the tool's arguments")
    input_types: tuple[str, ...] = Field(default=(), description="what it reads, for example audio/wav")
    output_types: tuple[str, ...] = Field(default=(), description="what it returns, for example text/plain")
    tags: tuple[str, ...] = Field(
        default=(), description="'group:NAME' marks tools that do the same job at other footprints; 'domain:NAME'"
    )

    @field_validator("parameters")
    @classmethod
    def _of_an_object(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if value and value.get("type", "object") != "object":
            raise ValueError("must be the JSON Schema of an object, whose properties are the arguments")
        return value

    @cached_property
    def schema_hash(self) -> str:
        """Changes when other arguments become right or wrong."""
        return schema_hash(self.parameters)

    @property
    def identity(self) -> str:
        """Name, version and schema hash, as the ledger and traces show them."""
        return identity(self.name, self.version, self.schema_hash)

    @property
    def group(self) -> str | None:
        """The twin group, or None."""
        return next((tag[len(GROUP_TAG) :] for tag in self.tags if tag.startswith(GROUP_TAG)), None)


class ToolRegistry:
    """An immutable, ordered set of tools with unique names; 1 to 10,000 of them."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        """Takes ready specs; plain dictionaries enter through ``from_tools``.

        Raises:
            DataValidationError: A name repeats, or there are too few or too many tools.
        """
        self.tools = tuple(tools)
        log = FindingLog("registry")
        _check_set([_Named(f"tools[{i}]", None, tool.name) for i, tool in enumerate(self.tools)], log)
        log.finish()
        self.names = tuple(tool.name for tool in self.tools)
        self._index = {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for tool in self.tools:
            if tool.group:
                found.setdefault(tool.group, []).append(tool.name)
        return {group: tuple(names) for group, names in found.items()}

    def in_group(self, group: str | None) -> tuple[str, ...]:
        """Names of the tools of a twin group, in the registry's order; none where there is no group."""
        return self._groups.get(group, ()) if group else ()

    @classmethod
    def from_tools(cls, tools: Iterable[ToolSpec | Mapping[str, Any]]) -> ToolRegistry:
        """Builds a registry from specs or plain dictionaries.

        Raises:
            DataValidationError: Lists every field of every tool that breaks the contract.
        """
        found = _read_tools(list(tools), None, FindingLog("registry"))
        finish(found.findings)
        return cls(found.specs)

    @classmethod
    def from_json(cls, path: str | Path) -> ToolRegistry:
        """Reads a JSON list of tools, or an object with the key ``tools``.

        Raises:
            DataValidationError: Lists everything that is wrong with the file.
        """
        found = read_registry(path)
        finish(found.findings)
        return cls(found.specs)

    @classmethod
    def from_langchain(cls, tools: Iterable[Any]) -> ToolRegistry:
        """Reads LangChain tools, MCP tools that an adapter has loaded, and functions with a docstring.

        Raises:
            DataValidationError: Lists every tool without name or description, and names that repeat.
        """
        return cls.from_tools(specs_and_rows(tools)[0])

    @classmethod
    def from_openapi(cls, source: str | Path | Mapping[str, Any]) -> ToolRegistry:
        """Reads the operations of an OpenAPI 3 description, a JSON or YAML file or a dictionary (``schema.openapi``).

        Raises:
            DataValidationError: Lists everything that is wrong with it, each with its place in the description.
        """
        return cls.from_tools(openapi_specs_and_rows(source)[0])

    def to_json(self, path: str | Path) -> None:
        """Writes what ``from_json`` reads, without empty optional fields."""
        tools = [tool.model_dump(mode="json", exclude_defaults=True) for tool in self.tools]
        Path(path).write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @cached_property
    def content_hash(self) -> str:
        """Changes when any tool or their order changes."""
        text = "\n".join(tool.model_dump_json() for tool in self.tools)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def index(self, name: str) -> int:
        """Position of a tool.

        Raises:
            UnknownToolError: No tool has this name.
        """
        try:
            return self._index[name]
        except KeyError:
            close = get_close_matches(name, self.names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownToolError(f"tool {name!r} is not in the registry of {len(self)} tools{hint}") from None

    def subset(self, names: Iterable[str]) -> ToolRegistry:
        """The named tools, in the given order."""
        return ToolRegistry(self[name] for name in names)

    def __getitem__(self, name: str) -> ToolSpec:
        return self.tools[self.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def __repr__(self) -> str:
        return f"ToolRegistry({len(self)} tools)"


@dataclass(frozen=True)
class RegistryFile:
    """What a registry file holds."""

    specs: tuple[ToolSpec, ...]
    """The tools that are well-formed."""
    names: frozenset[str]
    """All names, those of malformed tools too, so that files that refer to them can be checked all the same."""
    findings: tuple[Finding, ...]


def load_tool_registry(path: str | Path) -> ToolRegistry:
    """Reads and validates ``tools.json``."""
    return ToolRegistry.from_json(path)


def read_registry(path: str | Path) -> RegistryFile:
    """The tools of a file, and everything that is wrong with them."""
    log = FindingLog.of(path)
    read = read_json(path, log)
    if read is None:
        return RegistryFile((), frozenset(), tuple(log.findings))
    text, data = read
    wrapped = isinstance(data, dict)
    tools = data.get(LIST_KEY) if isinstance(data, dict) else data
    if not isinstance(tools, list):
        log.error(f"must be a JSON list of tools or an object with the key {LIST_KEY!r}", value=type(data).__name__)
        return RegistryFile((), frozenset(), tuple(log.findings))
    for key in data if isinstance(data, dict) else ():
        if key != LIST_KEY:
            log.error("is unknown", field=key)
    return _read_tools(tools, element_lines(text, LIST_KEY if wrapped else None), log)


@dataclass(frozen=True)
class _Named:
    place: str
    line: int | None
    name: str


def _read_tools(tools: Sequence[Any], lines: Sequence[int] | None, log: FindingLog) -> RegistryFile:
    specs: list[ToolSpec] = []
    named: list[_Named] = []
    for position, tool in enumerate(tools):
        place, line = f"tools[{position}]", None if lines is None else lines[position]
        spec = _read_tool(tool, place, line, log)
        if spec is not None:
            specs.append(spec)
        name = spec.name if spec is not None else tool.get("name") if isinstance(tool, Mapping) else None
        if isinstance(name, str) and name.strip():
            named.append(_Named(place, line, name.strip()))
    _check_set(named, log, count=len(tools))
    return RegistryFile(tuple(specs), frozenset(n.name for n in named), tuple(log.findings))


def _read_tool(tool: Any, place: str, line: int | None, log: FindingLog) -> ToolSpec | None:
    if isinstance(tool, ToolSpec):
        return tool
    if not isinstance(tool, Mapping):
        log.error("must be an object with 'name' and 'desc'", line=line, field=place, value=tool)
        return None
    try:
        return ToolSpec.model_validate(dict(tool))
    except ValidationError as error:
        log.pydantic(error, line, prefix=place)
        return None


def _check_set(named: Sequence[_Named], log: FindingLog, count: int | None = None) -> None:
    first: dict[str, str] = {}
    for tool in named:
        if first.setdefault(tool.name, tool.place) != tool.place:
            log.error(
                f"must be unique, but {first[tool.name]} has the same",
                line=tool.line, field=f"{tool.place}.name", value=tool.name,
            )  # fmt: skip
    count = len(named) if count is None else count
    if not count:
        log.error("must hold at least one tool")
    if count > MAX_TOOLS:
        log.error(f"must hold at most {MAX_TOOLS} tools", value=count)
