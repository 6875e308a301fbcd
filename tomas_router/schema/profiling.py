"""Measured resource profiles: what a tool needs, at which input size, in which configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomas_router.schema.csv_table import MAX_AMOUNT, number, read_csv, write_csv
from tomas_router.schema.findings import Finding, FindingLog, finish
from tomas_router.schema.openapi import openapi_specs_and_rows
from tomas_router.schema.registry import ToolRegistry
from tomas_router.schema.suspicious_units import warn_cores, warn_memory, warn_share
from tomas_router.schema.tool_objects import specs_and_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

InputSize = Literal["small", "medium", "large"]
SIZES: tuple[InputSize, ...] = ("small", "medium", "large")
AMOUNTS = ("cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb")
"""What a ``ResourceConfig`` reserves."""
COLUMNS = ("tool", "input_size", *AMOUNTS, "latency_ms")
NUMBERS = COLUMNS[2:]
"""What a row reserves, and how long it takes."""
SIZE_ALIASES: dict[str, InputSize] = {s: s for s in SIZES} | {str(i): s for i, s in enumerate(SIZES)}

OUTLIER_FACTOR = 50.0
OUTLIER_MIN_ROWS = 3
SUSPICIOUS_CORES, SUSPICIOUS_MEMORY_GIB, SUSPICIOUS_GPU_GIB = 256, 1024, 320


class ResourceConfig(BaseModel):
    """What a step reserves while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu_core: float = Field(ge=0, le=MAX_AMOUNT, description="vCPU")
    cpu_mem_gb: float = Field(ge=0, le=MAX_AMOUNT, description="GiB (2^30 bytes)")
    gpu_sm: float = Field(ge=0, le=100, description="percent of one GPU's streaming multiprocessors")
    gpu_mem_gb: float = Field(ge=0, le=MAX_AMOUNT, description="GiB (2^30 bytes) on that GPU")


class ProfileRow(BaseModel):
    """One measured configuration of a tool."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tool: str = Field(min_length=1)
    input_size: InputSize
    cpu_core: float = Field(ge=0, le=MAX_AMOUNT, description="vCPU")
    cpu_mem_gb: float = Field(ge=0, le=MAX_AMOUNT, description="GiB (2^30 bytes)")
    gpu_sm: float = Field(ge=0, le=100, description="percent of one GPU's streaming multiprocessors")
    gpu_mem_gb: float = Field(ge=0, le=MAX_AMOUNT, description="GiB (2^30 bytes) on that GPU")
    latency_ms: float = Field(gt=0, le=MAX_AMOUNT, description="of one run in this configuration")

    @property
    def config(self) -> ResourceConfig:
        """The demand without the latency."""
        return ResourceConfig(
            cpu_core=self.cpu_core, cpu_mem_gb=self.cpu_mem_gb, gpu_sm=self.gpu_sm, gpu_mem_gb=self.gpu_mem_gb
        )


class ProfilingTable:
    """An immutable table of profile rows by tool and size, in file order."""

    def __init__(self, rows: Iterable[ProfileRow]) -> None:
        self.all_rows = tuple(rows)
        by_tool: dict[str, list[ProfileRow]] = defaultdict(list)
        by_size: dict[tuple[str, str], list[ProfileRow]] = defaultdict(list)
        for row in self.all_rows:
            by_tool[row.tool].append(row)
            by_size[row.tool, row.input_size].append(row)
        self._by_tool = {tool: tuple(members) for tool, members in by_tool.items()}
        self._by_size = {key: tuple(members) for key, members in by_size.items()}
        self.tools = tuple(self._by_tool)

    @classmethod
    def from_rows(cls, rows: Iterable[ProfileRow | Mapping[str, Any]]) -> ProfilingTable:
        """Builds a table from rows or plain dictionaries; may be empty.

        Raises:
            DataValidationError: Lists every field of every row that breaks the contract.
        """
        log = FindingLog("profiling rows")
        ready: list[ProfileRow] = []
        for position, row in enumerate(rows):
            try:
                ready.append(row if isinstance(row, ProfileRow) else ProfileRow.model_validate(dict(row)))
            except ValidationError as error:
                log.pydantic(error, None, prefix=f"rows[{position}]")
        log.finish()
        return cls(ready)

    @classmethod
    def from_csv(cls, path: str | Path, registry: ToolRegistry | None = None) -> ProfilingTable:
        """Reads ``profiling.csv``; with a registry, every profiled tool must be in it.

        Raises:
            DataValidationError: Lists everything that is wrong with the file.
        """
        rows, findings = read_profiling(path, registry)
        finish(findings)
        return cls(rows)

    @classmethod
    def from_langchain(cls, tools: Iterable[Any]) -> ProfilingTable:
        """The rows that tools carry in ``metadata["tomas"]["profile"]``, see ``schema.tool_objects``; may be empty.

        Raises:
            DataValidationError: Lists every field of every row that breaks the contract.
        """
        return cls.from_rows(specs_and_rows(tools)[1])

    @classmethod
    def from_openapi(cls, source: str | Path | Mapping[str, Any]) -> ProfilingTable:
        """The rows that operations carry in ``x-tomas.profile``, see ``schema.openapi``; may be empty.

        Raises:
            DataValidationError: Lists every field of every row that breaks the contract.
        """
        return cls.from_rows(openapi_specs_and_rows(source)[1])

    def has(self, tool: str) -> bool:
        """Whether any row exists for the tool."""
        return tool in self._by_tool

    def rows(self, tool: str, input_size: InputSize | None = None) -> tuple[ProfileRow, ...]:
        """Rows of a tool, of one size or of all; empty for a tool without profile."""
        if input_size is None:
            return self._by_tool.get(tool, ())
        return self._by_size.get((tool, input_size), ())

    def matrix(self, tool: str) -> NDArray[np.float64]:
        """(R, 6): input size 0 to 2, the four demands, latency."""
        import numpy as np

        values = [[SIZES.index(r.input_size), *(getattr(r, n) for n in NUMBERS)] for r in self.rows(tool)]
        return np.array(values, dtype=np.float64).reshape(-1, 6)

    def to_csv(self, path: str | Path) -> None:
        """Writes what ``from_csv`` reads, to the last digit."""
        write_csv(path, COLUMNS, ([r.tool, r.input_size, *(getattr(r, n) for n in NUMBERS)] for r in self.all_rows))

    def __len__(self) -> int:
        return len(self.all_rows)

    def __repr__(self) -> str:
        return f"ProfilingTable({len(self)} rows, {len(self.tools)} tools)"


def load_profiling_matrix(path: str | Path, registry: ToolRegistry) -> ProfilingTable:
    """Reads and validates ``profiling.csv`` joined with the registry."""
    return ProfilingTable.from_csv(path, registry)


def read_profiling(path: str | Path, known: Container[str] | None = None) -> tuple[list[ProfileRow], list[Finding]]:
    """The rows that are usable, and everything wrong or suspicious. Policies: docs/data_policies.md.

    Args:
        path: The CSV file.
        known: Names of the registered tools; None: any name will do.
    """
    log = FindingLog.of(path)
    rows: list[tuple[int, ProfileRow]] = []
    for line, cells in read_csv(path, COLUMNS, log):
        row = _row(cells, line, known, log)
        if row is not None:
            rows.append((line, row))
    rows = _without_repeats(rows, log)
    _warn_outliers(rows, log)
    _warn_units(rows, log)
    return [row for _, row in rows], log.findings


def _row(cells: dict[str, str], line: int, known: Container[str] | None, log: FindingLog) -> ProfileRow | None:
    before = len(log.errors)
    if not cells["tool"]:
        log.error("must not be empty", line=line, field="tool")
    elif known is not None and cells["tool"] not in known:
        log.error("must be a tool of the registry", line=line, field="tool", value=cells["tool"])
    size = SIZE_ALIASES.get(cells["input_size"])
    if size is None:
        expected = "must be small, medium or large (or 0, 1, 2)"
        log.error(expected, line=line, field="input_size", value=cells["input_size"])
    values: dict[str, float] = {}
    for name in NUMBERS:
        value = number(cells, name, line, log)
        if value is not None:
            values[name] = value
            _check_range(name, value, cells[name], line, log)
    if len(log.errors) > before or size is None:
        return None
    if values["gpu_sm"] == 0 and values["gpu_mem_gb"] > 0:
        log.warn("is 0 although gpu_mem_gb is not; the step occupies GPU memory but no SM", line=line, field="gpu_sm")
    if values["gpu_sm"] > 0 and values["gpu_mem_gb"] == 0:
        log.warn("is 0 although gpu_sm is not; a GPU program occupies memory", line=line, field="gpu_mem_gb")
    return ProfileRow(tool=cells["tool"], input_size=size, **values)


def _check_range(name: str, value: float, text: str, line: int, log: FindingLog) -> None:
    if value < 0:
        log.error("must be >= 0", line=line, field=name, value=text)
    elif name == "latency_ms" and value == 0:
        log.error("must be > 0; no run takes no time", line=line, field=name, value=text)
    elif name == "gpu_sm" and value > 100:
        expected = "must be a percentage of one GPU, 0 to 100 (an SM count is converted with 100 * sm / total)"
        log.error(expected, line=line, field=name, value=text)
    elif value > MAX_AMOUNT:
        log.error(f"must be <= {MAX_AMOUNT:g}", line=line, field=name, value=text)


def _without_repeats(rows: Iterable[tuple[int, ProfileRow]], log: FindingLog) -> list[tuple[int, ProfileRow]]:
    """One row a configuration, at the place of the first; of several latencies the largest."""
    kept: dict[tuple[Any, ...], tuple[int, ProfileRow]] = {}
    for line, row in rows:
        key = (row.tool, row.input_size, row.cpu_core, row.cpu_mem_gb, row.gpu_sm, row.gpu_mem_gb)
        first, before = kept.setdefault(key, (line, row))
        if first == line:
            continue
        if row.latency_ms == before.latency_ms:
            log.warn(f"is the same row as line {first}; it is left out", line=line)
        else:
            expected = f"differs from line {first}, which has the same configuration; the larger is kept"
            log.warn(expected, line=line, field="latency_ms", value=row.latency_ms)
            kept[key] = (first, row if row.latency_ms > before.latency_ms else before)
    return list(kept.values())


def _warn_outliers(rows: Iterable[tuple[int, ProfileRow]], log: FindingLog) -> None:
    """Within one tool and size, where configurations differ but not by orders of magnitude."""
    groups: dict[tuple[str, str], list[tuple[int, ProfileRow]]] = defaultdict(list)
    for line, row in rows:
        groups[row.tool, row.input_size].append((line, row))
    for (tool, size), members in groups.items():
        middle = median(row.latency_ms for _, row in members)
        for line, row in members if len(members) >= OUTLIER_MIN_ROWS else ():
            times = max(row.latency_ms / middle, middle / row.latency_ms)
            if times > OUTLIER_FACTOR:
                side = "over" if row.latency_ms > middle else "under"
                expected = f"is {side} the median of {tool}, {size} ({middle:g}) by more than {OUTLIER_FACTOR:g} times"
                log.warn(f"{expected}; it is kept", line=line, field="latency_ms", value=row.latency_ms)


def _warn_units(rows: Sequence[tuple[int, ProfileRow]], log: FindingLog) -> None:
    if not rows:
        return
    column = {name: [(line, float(getattr(row, name))) for line, row in rows] for name in NUMBERS}
    warn_cores(column["cpu_core"], SUSPICIOUS_CORES, "cpu_core", log)
    warn_memory(column["cpu_mem_gb"], SUSPICIOUS_MEMORY_GIB, "cpu_mem_gb", log)
    warn_share(column["gpu_sm"], "gpu_sm", log)
    warn_memory(column["gpu_mem_gb"], SUSPICIOUS_GPU_GIB, "gpu_mem_gb", log)
    line, slowest = max(column["latency_ms"], key=lambda cell: cell[1])
    if slowest < 10 and len(rows) >= OUTLIER_MIN_ROWS:
        log.warn("looks like seconds; milliseconds are expected", line=line, field="latency_ms", value=slowest)
