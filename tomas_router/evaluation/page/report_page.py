"""A report as one HTML page without scripts and without anything to load."""

from __future__ import annotations

from html import escape

from tomas_router.evaluation.grids import ALL_TITLES, confusion_grid, detail_grids, grids, notes, overall_grids
from tomas_router.evaluation.intervals import Interval
from tomas_router.evaluation.page import charts
from tomas_router.evaluation.page.html_text import document, figure, folded, legend, sentence, table, titled
from tomas_router.evaluation.report import OURS, Cells, Methods, Report, SourceReport
from tomas_router.evaluation.row_records import RowRecord, worst

WORST_ROWS = 20
WORST_TOOLS = 20
HEADLINES = ("tool", "top1", "set_accuracy", "node_f1", "gate")
"""The first that a source has stands for it in the overview."""
LONGEST_BAR = 2.0
"""Errors beyond 200 % fill their line; else a single one would leave the others no room."""
FIT = {"raw_feasible": ("heads' proposals", "s1"), "final_feasible": ("final plans", "s0")}


def report_page(report: Report) -> str:
    """The page."""
    links = "".join(f'<a href="#{_anchor(s)}">{escape(s.name)}</a>' for s in report.sources)
    head = (
        f"<h1>Evaluation of {escape(report.model)}</h1>"
        f'<p class="soft">Split <code>{escape(report.split)}</code>, seed {report.seed}. Shares in percent; the small '
        f"print is the central 95 % of a bootstrap over rows.<br><code>{escape(report.command)}</code></p>"
        f"<nav>{links}</nav>"
    )
    pooled = "".join(titled(grid) for grid in overall_grids(report))
    return document(f"Evaluation of {report.model}", [head, _overview(report), pooled, *_sections(report)])


def _sections(report: Report) -> list[str]:
    return [_section(report, source) for source in report.sources]


def _overview(report: Report) -> str:
    rows = []
    for source in report.sources:
        measure = next((name for name in HEADLINES if name in source.methods.get(OURS, {})), None)
        if measure is not None:
            dots = [(name, cells[measure], _colour(name)) for name, cells in source.methods.items() if measure in cells]
            rows.append((f"{source.name}: {ALL_TITLES[measure]}", dots))
    drawn = charts.forest(rows, (0.0, 1.0)) if rows else ""
    keys = legend([(OURS, "0"), ("baselines; point at one to read its name", "other")])
    return figure("Ours and every baseline, %", drawn, legend=keys)


def _colour(name: str) -> str:
    return "s0" if name == OURS else charts.OTHER


def _section(report: Report, source: SourceReport) -> str:
    head = f'<h2 id="{_anchor(source)}">{escape(source.name)}</h2>'
    size = f"{source.rows} rows, {source.tools} tools, {source.seconds:.0f} s"
    told = "".join(f"<br>{escape(sentence(note))}." for note in notes(report, source))
    tables = grids(source)
    body = [f'{head}<p class="soft">{size}.{told}</p>', *map(titled, tables[:1]), _plots(source)]
    body += map(titled, tables[1:])
    body.append(_confusions(source))
    body += [
        folded(sentence(grid.title), table(grid)) for grid in detail_grids(source) if grid.title != "confused tools"
    ]
    body.append(_errors(source))
    return "<section>" + "\n".join(part for part in body if part) + "</section>"


def _plots(source: SourceReport) -> str:
    drawn = [
        _reliability(source),
        _gate(source),
        _lines(source, source.by_candidates, "Node F1 by number of candidates", "candidates", log_x=True),
        _lines(source, source.by_steps, "Node F1 by number of steps", "steps wanted", log_x=False),
        _feasibility(source),
        _tool_errors(source),
    ]
    return f'<div class="plots">{"".join(drawn)}</div>' if any(drawn) else ""


def _reliability(source: SourceReport) -> str:
    found = source.calibration
    if found is None:
        return ""
    ece = f"{100 * found.ece.value:.1f} % ({100 * found.ece.low:.1f} to {100 * found.ece.high:.1f})"
    caption = f"{found.steps} planned steps; calibration error (ECE) {ece}. On the dashed line confidence is honest."
    return figure("Confidence against accuracy", charts.reliability(found), caption)


def _gate(source: SourceReport) -> str:
    found = source.gate
    if found is None:
        return ""
    area = f"{100 * found.average_precision.value:.1f} % ({100 * found.average_precision.low:.1f} to "
    area += f"{100 * found.average_precision.high:.1f})"
    caption = f"Average precision {area}; the dot is where the planner stands, the dashed line always says yes."
    return figure("Is a tool needed? Precision and recall", charts.gate(found), caption)


def _lines(source: SourceReport, series: dict[str, Methods], title: str, x_title: str, *, log_x: bool) -> str:
    drawn = charts.lines(series, "node_f1", x_title, "node F1, %", log_x=log_x)
    keys = legend([(name, str(i)) for i, (name, _) in enumerate(charts.series_order(series))])
    return figure(title, drawn, f"Band: 95 % interval of ours, {source.name}.", keys)


def _feasibility(source: SourceReport) -> str:
    cells = [
        (f"{kind}: {title}", found[measure], css)
        for kind, found in source.machines.items()
        for measure, (title, css) in FIT.items()
        if measure in found
    ]
    keys = legend([(title, css[1:]) for title, css in FIT.values()])
    return figure("Does it fit? By kind of machine", charts.bars(cells, 1.0) if cells else "", legend=keys)


def _tool_errors(source: SourceReport) -> str:
    cells = _worst_tools(source.tool_errors, "mape_latency_ms")
    if not cells:
        return ""
    most = min(max(cell.value for _, cell, _ in cells), LONGEST_BAR) or 1.0
    caption = (
        "Mean absolute error of the predicted latency in percent of the true one; all resources in the table below."
    )
    return figure("Latency error by tool, the largest", charts.bars(cells, most), caption)


def _worst_tools(tools: dict[str, Cells], measure: str) -> list[tuple[str, Interval, str]]:
    ranked = sorted((t for t in tools if measure in tools[t]), key=lambda t: -tools[t][measure].value)
    return [(tool, tools[tool][measure], "s0") for tool in ranked[:WORST_TOOLS]]


def _confusions(source: SourceReport) -> str:
    found = source.confusions
    if found is None:
        return ""
    drawn = figure(
        "Which tool is taken for which", charts.heat_map(found), "Wanted tools down, named ones across; blue is right."
    )
    return (
        f'<div class="plots">{drawn}<figure><h3>Confused most often</h3>{table(confusion_grid(found))}</figure></div>'
    )


def _errors(source: SourceReport) -> str:
    wrong = worst(source.records, WORST_ROWS)
    rows = "".join(_error(record) for record in wrong)
    return folded(f"The {len(wrong)} worst errors", rows)


def _error(record: RowRecord) -> str:
    sure = "-" if record.confidence is None else f"{record.confidence:.2f}"
    lines = (
        ("expected", record.wanted),
        ("planned", record.planned),
        ("confidence", f"{sure}; {100 * record.right_share:.0f} % right ({record.id})"),
    )
    listed = "".join(f"<dt>{term}</dt><dd>{escape(text)}</dd>" for term, text in lines)
    return f'<div class="error"><blockquote>{escape(record.instruction)}</blockquote><dl>{listed}</dl></div>'


def _anchor(source: SourceReport) -> str:
    return "source-" + "".join(c if c.isalnum() else "-" for c in source.name)
