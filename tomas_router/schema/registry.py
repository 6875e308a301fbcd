"""The tool registry: which tools exist and what each is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from tomas_router.errors import DataValidationError, UnknownToolError
from tomas_router.schema.findings import Finding, FindingLog

MAX_TOOLS = 10_000
MAX_NAME_CHARS = 200
MAX_DESC_CHARS = 4_000
GROUP_TAG = "group:"

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_CHARS)]
Desc = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_DESC_CHARS)]


class ToolSpec(BaseModel):
    """One tool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    desc: Desc
    parameters: dict[str, Any] | None = None
    """JSON Schema of the tool's arguments."""
    input_types: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """``group:NAME`` marks tools that do the same job at different footprints."""

    @property
    def group(self) -> str | None:
        """The twin group, or None."""
        return next((tag[len(GROUP_TAG) :] for tag in self.tags if tag.startswith(GROUP_TAG)), None)


class ToolRegistry:
    """An immutable, ordered set of tools with unique names; 1 to 10,000 of them."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self.tools = tuple(tools)
        log = FindingLog("registry")
        _check_set(self.tools, log)
        log.finish()
        self.names = tuple(tool.name for tool in self.tools)
        self._index = {name: i for i, name in enumerate(self.names)}

    @classmethod
    def from_tools(cls, tools: Iterable[ToolSpec | Mapping[str, Any]]) -> ToolRegistry:
        """Builds a registry from specs or plain dictionaries.

        Raises:
            DataValidationError: Lists every field of every tool that breaks the contract.
        """
        log = FindingLog("registry")
        specs = list(_parse(tools, log))
        _check_set(specs, log)
        log.finish()
        return cls(specs)

    @classmethod
    def from_json(cls, path: str | Path) -> ToolRegistry:
        """Reads a JSON list of tools, or an object with the key ``tools``.

        Raises:
            DataValidationError: Lists everything that is wrong with the file.
        """
        specs, findings = read_registry(path)
        errors = [f for f in findings if f.severity == "error"]
        if errors:
            raise DataValidationError(errors)
        return cls(specs)

    def to_json(self, path: str | Path) -> None:
        """Writes what ``from_json`` reads, without empty optional fields."""
        tools = [tool.model_dump(mode="json", exclude_defaults=True) for tool in self.tools]
        Path(path).write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
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
            raise UnknownToolError(f"tool {name!r} is not in the registry of {len(self)} tools") from None

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


def load_tool_registry(path: str | Path) -> ToolRegistry:
    """Reads and validates ``tools.json``."""
    return ToolRegistry.from_json(path)


def read_registry(path: str | Path) -> tuple[list[ToolSpec], list[Finding]]:
    """The tools of a file that are well-formed, and everything wrong with the others."""
    log = FindingLog.of(path)
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        log.error(f"cannot be read: {error.strerror}")
        return [], log.findings
    except ValueError as error:
        log.error(f"must be JSON in UTF-8: {error}", line=getattr(error, "lineno", None))
        return [], log.findings
    tools = data.get("tools") if isinstance(data, dict) else data
    if not isinstance(tools, list):
        log.error("must be a JSON list of tools or an object with the key 'tools'", value=type(data).__name__)
        return [], log.findings
    specs = list(_parse(tools, log))
    _check_set(specs, log)
    return specs, log.findings


def _parse(tools: Iterable[Any], log: FindingLog) -> Iterator[ToolSpec]:
    for position, tool in enumerate(tools):
        if isinstance(tool, ToolSpec):
            yield tool
            continue
        if not isinstance(tool, Mapping):
            log.error("must be an object with 'name' and 'desc'", field=f"tools[{position}]", value=tool)
            continue
        try:
            yield ToolSpec.model_validate(dict(tool))
        except ValidationError as error:
            log.pydantic(error, None, prefix=f"tools[{position}].")


def _check_set(specs: Iterable[ToolSpec], log: FindingLog) -> None:
    seen: set[str] = set()
    count = 0
    for spec in specs:
        count += 1
        if spec.name in seen:
            log.error("must be unique; a later tool would silently replace the first", field="name", value=spec.name)
        seen.add(spec.name)
    if not count and not log.findings:
        log.error("must hold at least one tool")
    if count > MAX_TOOLS:
        log.error(f"must hold at most {MAX_TOOLS} tools", value=count)
