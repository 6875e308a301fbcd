"""The result of an evaluation: as JSON, as Markdown, and as tables on the terminal, all from the same numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tomas_router.evaluation.intervals import Interval, Tally
from tomas_router.evaluation.resource_baselines import FIELDS
from tomas_router.evaluation.scores import TITLES

OURS = "ours"
Cells = dict[str, Interval]
Methods = dict[str, Cells]

UNITS = {"cpu_core": "vCPU", "cpu_mem_gb": "GiB", "gpu_sm": "% of a GPU", "gpu_mem_gb": "GiB", "latency_ms": "ms"}
FIRST_COLUMN_CHARS = 48
FULL_CELL_CHARS = 19
HIDDEN = frozenset({"node_f1_published", "link_f1_published"})
"""In the JSON only: they differ from the plain ones just where a plan calls a tool twice."""
COUNT_TITLES = {
    "answered": "rows answered",
    "planned": "plans placed",
    "over_commits": "plans that over-commit",
    "refused": "rows with a solution that were called infeasible though the tools were right",
}


@dataclass
class SourceReport:
    """Everything measured on one source."""

    name: str
    rows: int
    tools: int
    notes: tuple[str, ...] = ()
    methods: Methods = field(default_factory=dict)
    resources: Methods = field(default_factory=dict)  # mae_<field>, mape_<field>, raw_feasible
    conditions: Methods = field(default_factory=dict)  # true, shuffled and zeroed curve
    machines: Methods = field(default_factory=dict)  # by kind of timeline
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Report:
    """One run over one or more sources."""

    model: str
    split: str
    seed: int
    command: str
    sources: list[SourceReport] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; shares are 0 to 1."""
        return asdict(self)

    def save(self, folder: Path) -> None:
        """Writes ``report.json`` and ``report.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.to_markdown(), encoding="utf-8")

    def to_markdown(self) -> str:
        """The terminal's tables as Markdown."""
        head = f"# Evaluation of {self.model}\n\nSplit `{self.split}`, seed {self.seed}. Made by `{self.command}`.\n"
        head += "Shares in percent, with the 95 % interval of a bootstrap over rows.\n"
        parts = [head]
        for source in self.sources:
            parts.append(f"\n## {source.name}: {source.rows} rows, {source.tools} tools\n")
            parts += [f"\n{note}.\n" for note in source.notes]
            parts += [f"\n### {grid.title}\n\n{grid.markdown()}" for grid in grids(source)]
        return "".join(parts)

    def show(self, console: Console) -> None:
        """Prints every table."""
        for source in self.sources:
            console.rule(f"{source.name}: {source.rows} rows, {source.tools} tools, {source.seconds:.0f} s")
            for note in source.notes:
                console.print(f"[dim]{note}[/dim]")
            for grid in grids(source):
                console.print(grid.table(console.width))


@dataclass(frozen=True)
class Cell:
    """A number as text, short for narrow terminals and in full."""

    short: str
    full: str


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def table(self, width: int) -> Table:
        """For a terminal; where intervals do not fit, only ours keep them."""
        roomy = width >= FIRST_COLUMN_CHARS + FULL_CELL_CHARS * (len(self.columns) - 1)
        drawn = Table(title=self.title, title_justify="left")
        for i, column in enumerate(self.columns):
            drawn.add_column(column, justify="right" if i else "left", style="bold" if column == OURS else None)
        for row in self.rows:
            full = [roomy or OURS in (column, row[0].full) for column in self.columns]
            texts = (cell.full if whole else cell.short for cell, whole in zip(row, full, strict=True))
            drawn.add_row(*texts, style="bold" if row[0].full == OURS else None)
        return drawn

    def markdown(self) -> str:
        rule = "|".join(["---", *["---:"] * (len(self.columns) - 1)])
        lines = ["|".join(self.columns), rule, *("|".join(cell.full for cell in row) for row in self.rows)]
        return "".join(f"|{line}|\n" for line in lines)


def cells(tallies: Mapping[str, Tally], seed: int) -> Cells:
    """Tallies with their intervals; empty ones are left out."""
    found = ((name, tally.interval(seed)) for name, tally in tallies.items())
    return {name: interval for name, interval in found if interval is not None}


def grids(source: SourceReport) -> list[Grid]:
    """The tables of a source, those without content left out."""
    made = [
        _shares("answers", source.methods),
        _errors("mape", "resources: mean absolute error in percent of the true value", source.resources),
        _errors("mae", "resources: mean absolute error", source.resources),
        _shares("resources: proposals that fit the curve", source.resources),
        _shares("does the curve matter? raw heads fed with three curves", source.conditions),
        _shares("by kind of machine", source.machines),
        Grid("counts", ("what", "number"), tuple((_text(COUNT_TITLES[k]), _text(v)) for k, v in source.counts.items())),
    ]
    return [grid for grid in made if grid.rows]


def _shares(title: str, methods: Methods) -> Grid:
    """Measures down, methods across."""
    present = {name for found in methods.values() for name in found}
    wanted = [name for name in TITLES if name in present and name not in HIDDEN]
    rows = tuple((_text(TITLES[name]), *(_percent(found.get(name)) for found in methods.values())) for name in wanted)
    return Grid(title, ("measure, %", *methods), rows)


def _errors(error: str, title: str, methods: Methods) -> Grid:
    """Methods down, resources across."""
    draw = _percent if error == "mape" else _number
    columns = [f"{error}_{name}" for name in FIELDS]
    rows = tuple(
        (_text(name), *(draw(found.get(column)) for column in columns))
        for name, found in methods.items()
        if any(column in found for column in columns)
    )
    heads = (f"{name}, {'%' if error == 'mape' else UNITS[name]}" for name in FIELDS)
    return Grid(title, ("method", *heads), rows)


def _text(value: object) -> Cell:
    return Cell(str(value), str(value))


def _percent(cell: Interval | None) -> Cell:
    if cell is None:
        return _text("-")
    return Cell(f"{100 * cell.value:.1f}", f"{100 * cell.value:.1f} ({100 * cell.low:.1f}-{100 * cell.high:.1f})")


def _number(cell: Interval | None) -> Cell:
    if cell is None:
        return _text("-")
    return Cell(_digits(cell.value), f"{_digits(cell.value)} ({_digits(cell.low)}-{_digits(cell.high)})")


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
