"""Measured resource profiles: what a tool needs, at which input size, in which configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tomas_router.errors import DataValidationError
from tomas_router.schema.csv_table import number, read_csv
from tomas_router.schema.findings import Finding, FindingLog, emit
from tomas_router.schema.registry import ToolRegistry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

InputSize = Literal["small", "medium", "large"]
SIZES: tuple[InputSize, ...] = ("small", "medium", "large")
COLUMNS = ("tool", "input_size", "cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb", "latency_ms")
NUMBERS = COLUMNS[2:]
SIZE_ALIASES: dict[str, InputSize] = {s: s for s in SIZES} | {str(i): s for i, s in enumerate(SIZES)}
OUTLIER_FACTOR = 50.0


class ResourceConfig(BaseModel):
    """What a step reserves while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_core: float = Field(ge=0, description="vCPU")
    cpu_mem_gb: float = Field(ge=0, description="GiB")
    gpu_sm: float = Field(ge=0, le=100, description="percent of one GPU's streaming multiprocessors")
    gpu_mem_gb: float = Field(ge=0, description="GiB on that GPU")


class ProfileRow(BaseModel):
    """One measured configuration of a tool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(min_length=1)
    input_size: InputSize
    cpu_core: float = Field(ge=0)
    cpu_mem_gb: float = Field(ge=0)
    gpu_sm: float = Field(ge=0, le=100)
    gpu_mem_gb: float = Field(ge=0)
    latency_ms: float = Field(ge=0)

    @property
    def config(self) -> ResourceConfig:
        """The demand without the latency."""
        return ResourceConfig(
            cpu_core=self.cpu_core, cpu_mem_gb=self.cpu_mem_gb, gpu_sm=self.gpu_sm, gpu_mem_gb=self.gpu_mem_gb
        )


class ProfilingTable:
    """Profile rows by tool and size, in file order."""

    def __init__(self, rows: Iterable[ProfileRow]) -> None:
        self.all_rows = tuple(rows)
        self._by_tool: dict[str, list[ProfileRow]] = defaultdict(list)
        for row in self.all_rows:
            self._by_tool[row.tool].append(row)
        self.tools = tuple(self._by_tool)

    @classmethod
    def from_rows(cls, rows: Iterable[ProfileRow | dict[str, Any]]) -> ProfilingTable:
        """Builds a table from rows or plain dictionaries."""
        return cls(row if isinstance(row, ProfileRow) else ProfileRow.model_validate(row) for row in rows)

    @classmethod
    def from_csv(cls, path: str | Path, registry: ToolRegistry | None = None) -> ProfilingTable:
        """Reads ``profiling.csv``; with a registry, every profiled tool must be in it.

        Raises:
            DataValidationError: Lists everything that is wrong with the file.
        """
        rows, findings = read_profiling(path, registry)
        errors = [f for f in findings if f.severity == "error"]
        if errors:
            raise DataValidationError(errors)
        emit(findings)
        return cls(rows)

    def has(self, tool: str) -> bool:
        """Whether any row exists for the tool."""
        return tool in self._by_tool

    def rows(self, tool: str, input_size: InputSize | None = None) -> tuple[ProfileRow, ...]:
        """Rows of a tool, of one size or of all; empty for a tool without profile."""
        rows = self._by_tool.get(tool, [])
        return tuple(rows) if input_size is None else tuple(r for r in rows if r.input_size == input_size)

    def matrix(self, tool: str) -> NDArray[np.float64]:
        """(R, 6): input size 0 to 2, the four demands, latency."""
        import numpy as np

        values = [[SIZES.index(r.input_size), *(getattr(r, n) for n in NUMBERS)] for r in self.rows(tool)]
        return np.array(values, dtype=np.float64).reshape(-1, 6)

    def to_csv(self, path: str | Path) -> None:
        """Writes what ``from_csv`` reads."""
        lines = [",".join(COLUMNS)]
        lines += [",".join([r.tool, r.input_size, *(f"{getattr(r, n):.10g}" for n in NUMBERS)]) for r in self.all_rows]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.all_rows)

    def __repr__(self) -> str:
        return f"ProfilingTable({len(self)} rows, {len(self.tools)} tools)"


def load_profiling_matrix(path: str | Path, registry: ToolRegistry) -> ProfilingTable:
    """Reads and validates ``profiling.csv`` joined with the registry."""
    return ProfilingTable.from_csv(path, registry)


def read_profiling(path: str | Path, registry: ToolRegistry | None = None) -> tuple[list[ProfileRow], list[Finding]]:
    """The rows that are usable, and everything wrong or suspicious. Policies: docs/data_policies.md."""
    log = FindingLog.of(path)
    kept: dict[tuple[Any, ...], tuple[int, ProfileRow]] = {}
    for line, cells in read_csv(path, COLUMNS, log):
        row = _row(cells, line, registry, log)
        if row is None:
            continue
        key = (row.tool, row.input_size, row.cpu_core, row.cpu_mem_gb, row.gpu_sm, row.gpu_mem_gb)
        if key not in kept:
            kept[key] = (line, row)
        else:
            first, before = kept[key]
            log.warn(f"repeats the configuration of line {first}; the larger latency is kept", line=line)
            kept[key] = (first, row if row.latency_ms > before.latency_ms else before)
    _warn_outliers(kept.values(), log)
    _warn_units([row for _, row in kept.values()], log)
    return [row for _, row in kept.values()], log.findings


def _row(cells: dict[str, str], line: int, registry: ToolRegistry | None, log: FindingLog) -> ProfileRow | None:
    before = len(log.errors)
    size = SIZE_ALIASES.get(cells["input_size"])
    if size is None:
        log.error(
            "must be small, medium or large (or 0, 1, 2)", line=line, field="input_size", value=cells["input_size"]
        )
    if not cells["tool"]:
        log.error("must not be empty", line=line, field="tool")
    elif registry is not None and cells["tool"] not in registry:
        log.error("must be a tool of the registry", line=line, field="tool", value=cells["tool"])
    values: dict[str, float] = {}
    for name in NUMBERS:
        value = number(cells, name, line, log)
        if value is None:
            continue
        if value < 0:
            log.error("must be >= 0", line=line, field=name, value=cells[name])
        elif name == "gpu_sm" and value > 100:
            log.error(
                "must be a percentage of one GPU, 0 to 100 (an SM count is converted with 100 * sm / total)",
                line=line, field=name, value=cells[name],
            )  # fmt: skip
        values[name] = value
    if len(log.errors) > before or size is None:
        return None
    if values["gpu_sm"] == 0 and values["gpu_mem_gb"] > 0:
        log.warn("is 0 although gpu_mem_gb is not; the step occupies GPU memory but no SM", line=line, field="gpu_sm")
    return ProfileRow(tool=cells["tool"], input_size=size, **values)


def _warn_outliers(rows: Iterable[tuple[int, ProfileRow]], log: FindingLog) -> None:
    groups: dict[tuple[str, str], list[tuple[int, ProfileRow]]] = defaultdict(list)
    for line, row in rows:
        groups[row.tool, row.input_size].append((line, row))
    for (tool, size), members in groups.items():
        middle = median(row.latency_ms for _, row in members)
        for line, row in members:
            if len(members) >= 4 and middle > 0 and row.latency_ms > OUTLIER_FACTOR * middle:
                log.warn(
                    f"is over {OUTLIER_FACTOR:.0f} times the median of {tool} at size {size} ({middle:g}); it is kept",
                    line=line, field="latency_ms", value=row.latency_ms,
                )  # fmt: skip


def _warn_units(rows: list[ProfileRow], log: FindingLog) -> None:
    """Column-wide signs of another unit. Never converted: only the writer of the file knows."""
    if not rows:
        return
    checks = (
        ("cpu_core", 1024.0, "looks like milli-cores; vCPU are expected"),
        ("cpu_mem_gb", 4096.0, "looks like MiB or bytes; GiB are expected"),
        ("gpu_mem_gb", 512.0, "looks like MiB or bytes; GiB are expected"),
    )
    for name, limit, text in checks:
        largest = max(getattr(row, name) for row in rows)
        if largest > limit:
            log.warn(text, field=name, value=f"maximum {largest:g}")
    slowest = max(row.latency_ms for row in rows)
    if 0 < slowest < 1.0 and len(rows) >= 3:
        log.warn("looks like seconds; milliseconds are expected", field="latency_ms", value=f"maximum {slowest:g}")
    busiest = max(row.gpu_sm for row in rows)
    if 0 < busiest <= 1.0:
        log.warn("looks like a fraction; percent 0 to 100 is expected", field="gpu_sm", value=f"maximum {busiest:g}")
