"""The tables of a report, the same for terminal, Markdown and page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tomas_router.evaluation.confusions import Confusions
from tomas_router.evaluation.intervals import Interval
from tomas_router.evaluation.list_scores import LIST_TITLES
from tomas_router.evaluation.published import published_for
from tomas_router.evaluation.report import OURS, Methods, Report, SourceReport
from tomas_router.evaluation.scores import TITLES
from tomas_router.schema.profiling import NUMBERS

ALL_TITLES = TITLES | LIST_TITLES
UNITS = {"cpu_core": "vCPU", "cpu_mem_gb": "GiB", "gpu_sm": "% of a GPU", "gpu_mem_gb": "GiB", "latency_ms": "ms"}
FIRST_COLUMN_CHARS = 48
FULL_CELL_CHARS = 19
FEW_ROWS = 10
HIDDEN = frozenset({"node_f1_published", "link_f1_published", "exact_published", "node_f1_micro", "edge_f1_micro"})
"""Shown only beside the published numbers that are computed so, and in the JSON."""
COUNT_TITLES = {
    "answered": "rows answered",
    "planned": "plans placed",
    "over_commits": "plans that over-commit",
    "refused": "rows with a solution that were called infeasible though the tools were right",
}


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
            texts = (escape(cell.full if whole else cell.short) for cell, whole in zip(row, full, strict=True))
            drawn.add_row(*texts, style="bold" if row[0].full == OURS else None)
        return drawn

    def markdown(self) -> str:
        rule = "|".join(["---", *["---:"] * (len(self.columns) - 1)])
        lines = ["|".join(self.columns), rule]
        lines += ["|".join(cell.full.replace("|", "\\|") for cell in row) for row in self.rows]
        return "".join(f"|{line}|\n" for line in lines)


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    head = (
        f"# Evaluation of {report.model}\n\nSplit `{report.split}`, seed {report.seed}. Made by `{report.command}`.\n"
    )
    head += "Shares in percent, with the 95 % interval of a bootstrap over rows.\n"
    parts = [head]
    parts += [f"\n## {grid.title}\n\n{grid.markdown()}" for grid in overall_grids(report)]
    for source in report.sources:
        parts.append(f"\n## {source.name}: {source.rows} rows, {source.tools} tools\n")
        parts += [f"\n{note}.\n" for note in notes(report, source)]
        parts += [f"\n### {grid.title}\n\n{grid.markdown()}" for grid in [*grids(source), *detail_grids(source)]]
    return "".join(parts)


def show(report: Report, console: Console) -> None:
    """Prints the main tables."""
    for source in report.sources:
        console.rule(escape(f"{source.name}: {source.rows} rows, {source.tools} tools, {source.seconds:.0f} s"))
        for note in notes(report, source):
            console.print(f"[dim]{escape(note)}[/dim]")
        for grid in grids(source):
            console.print(grid.table(console.width))
    for grid in overall_grids(report):
        console.print(grid.table(console.width))


def notes(report: Report, source: SourceReport) -> list[str]:
    """What a reader must know beside the numbers."""
    found = list(source.notes)
    if report.never_met(source):
        found.append("the model never met this registry in training")
    if source.likeness:
        found.append(f"similar tools are those whose descriptions are most alike by {source.likeness}")
    return found


def overall_grids(report: Report) -> list[Grid]:
    """Tables over all sources."""
    names = ", ".join(source.name for source in report.sources if report.never_met(source))
    made = [_shares(f"registries never met in training, pooled: {names}", report.unseen_registries)]
    return [grid for grid in made if grid.rows]


def grids(source: SourceReport) -> list[Grid]:
    """The main tables of a source, those without content left out."""
    made = [
        _shares("answers", source.methods),
        _published(source),
        _shares("over lists of candidates", source.lists),
        _errors("mape", "resources: mean absolute error in percent of the true value", source.resources),
        _errors("mae", "resources: mean absolute error", source.resources),
        _shares("resources: proposals that fit the curve", source.resources),
        _placements(source.placements),
        _shares("does the curve matter? raw heads fed with three curves", source.conditions),
        _shares("by kind of machine", source.machines),
        _sureness(source),
        Grid("counts", ("what", "number"), tuple((_text(COUNT_TITLES[k]), _text(v)) for k, v in source.counts.items())),
    ]
    return [grid for grid in made if grid.rows]


def detail_grids(source: SourceReport) -> list[Grid]:
    """Further tables, which a page draws instead."""
    made = [
        *(_shares(f"by number of steps, {name}", groups) for name, groups in source.by_steps.items() if name == OURS),
        _series("node F1 by number of candidates", source.by_candidates, "node_f1"),
        confusion_grid(source.confusions),
        _errors("mape", "resources by tool: mean absolute error in percent of the true value", source.tool_errors),
    ]
    return [grid for grid in made if grid.rows]


def confusion_grid(found: Confusions | None) -> Grid:
    """The most frequent confusions."""
    pairs = () if found is None else found.pairs
    rows = tuple(
        (_text(c.wanted), _text(c.said), _text(c.times), _text(c.of), _text(f"{100 * c.times / c.of:.0f}"))
        for c in pairs
    )
    return Grid("confused tools", ("wanted", "named instead", "times", "of", "%"), rows)


def _shares(title: str, methods: Methods) -> Grid:
    """Measures down, methods across."""
    present = {name for found in methods.values() for name in found}
    wanted = [name for name in ALL_TITLES if name in present and name not in HIDDEN]
    rows = tuple(
        (_text(ALL_TITLES[name]), *(percent(found.get(name)) for found in methods.values())) for name in wanted
    )
    return Grid(title, ("measure, %", *methods), rows)


def _published(source: SourceReport) -> Grid:
    """Ours beside papers, scored as they score; their rows are others of the same set."""
    cells = source.methods.get(OURS, {}) | source.lists.get(OURS, {})
    beside = [entry for entry in published_for(source.name) if entry.measure in cells]
    rows = tuple(
        (_text(ALL_TITLES[e.measure]), percent(cells[e.measure]), _text(f"{100 * e.value:.1f}"), _text(e.who))
        for e in beside
    )
    return Grid("beside published numbers (measured on other rows)", ("measure, %", OURS, "published", "who"), rows)


def _series(title: str, series: Mapping[str, Methods], measure: str) -> Grid:
    """Groups down, methods across."""
    groups = list(dict.fromkeys(group for found in series.values() for group in found))
    groups.sort(key=lambda group: int(group) if group.isdigit() else 10**9)
    rows = tuple(
        (_text(group), *(percent(found.get(group, {}).get(measure)) for found in series.values())) for group in groups
    )
    return Grid(title, ("candidates", *series), rows)


def _errors(error: str, title: str, methods: Methods) -> Grid:
    """Methods down, resources across."""
    draw = percent if error == "mape" else number
    columns = [f"{error}_{name}" for name in NUMBERS]
    rows = tuple(
        (_text(name), *(draw(found.get(column)) for column in columns))
        for name, found in methods.items()
        if any(column in found for column in columns)
    )
    heads = (f"{name}, {'%' if error == 'mape' else UNITS[name]}" for name in NUMBERS)
    return Grid(title, ("method", *heads), rows)


def _placements(methods: Methods) -> Grid:
    rows = tuple(
        (_text(name), percent(found.get("final_feasible")), _ratio(found.get("makespan_ratio")))
        for name, found in methods.items()
        if found
    )
    return Grid(
        "the same steps placed by others",
        ("method", "runs as planned, %", "end over our end, rows where both run"),
        rows,
    )


def _sureness(source: SourceReport) -> Grid:
    """Calibration and gate in one number each."""
    rows = []
    if source.calibration is not None:
        title = "calibration error of a step's confidence (ECE; less is better)"
        rows.append((_text(title), percent(source.calibration.ece)))
    if source.gate is not None:
        rows.append((_text("gate: average precision of 'a tool is needed'"), percent(source.gate.average_precision)))
        rows.append((_text("gate: precision"), _text(f"{100 * source.gate.chosen.precision:.1f}")))
        rows.append((_text("gate: recall"), _text(f"{100 * source.gate.chosen.recall:.1f}")))
    return Grid("confidence", ("measure, %", OURS), tuple(rows))


def _text(value: object) -> Cell:
    return Cell(str(value), str(value))


def percent(cell: Interval | None) -> Cell:
    """A share in percent with its interval."""
    if cell is None:
        return _text("-")
    low, high = f"{100 * cell.low:.1f}", f"{100 * cell.high:.1f}"
    return Cell(f"{100 * cell.value:.1f}", f"{100 * cell.value:.1f} ({low}-{high}{_few(cell)})")


def number(cell: Interval | None) -> Cell:
    """A number with its interval."""
    if cell is None:
        return _text("-")
    return Cell(_digits(cell.value), f"{_digits(cell.value)} ({_digits(cell.low)}-{_digits(cell.high)}{_few(cell)})")


def _ratio(cell: Interval | None) -> Cell:
    """A number near 1."""
    if cell is None:
        return _text("-")
    return Cell(f"{cell.value:.3f}", f"{cell.value:.3f} ({cell.low:.3f}-{cell.high:.3f}{_few(cell)})")


def _few(cell: Interval) -> str:
    """A bootstrap over a handful of rows promises too much, so their number stands beside it."""
    return f"; {cell.rows} row{'s' if cell.rows > 1 else ''}" if cell.rows < FEW_ROWS else ""


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
