"""Pieces of HTML that both pages are made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from tomas_router.evaluation.grids import Cell, Grid
from tomas_router.evaluation.report import OURS

STYLE = Path(__file__).with_name("style.css")
VERDICTS = frozenset({"better", "worse"})


def document(title: str, body: Sequence[str]) -> str:
    """A whole page that loads nothing from anywhere."""
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style></head>",
        "<body>",
        *(part for part in body if part),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def table(grid: Grid) -> str:
    """A table without its title."""
    head = "".join(f"<th>{escape(column)}</th>" for column in grid.columns)
    rows = "".join(f"<tr>{_row(grid, row)}</tr>" for row in grid.rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def titled(grid: Grid) -> str:
    """A table under its title."""
    return f"<h3>{escape(sentence(grid.title))}</h3>{table(grid)}"


def folded(summary: str, content: str, *, opened: bool = False) -> str:
    """Content that opens on a click; '' for none."""
    return (
        f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>{content}</details>"
        if content
        else ""
    )


def figure(title: str, drawing: str, caption: str = "", legend: str = "") -> str:
    """A plot with title, legend and caption; '' without a drawing."""
    if not drawing:
        return ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h3>{escape(title)}</h3>{legend}{drawing}{below}</figure>"


def legend(names: Sequence[tuple[str, str]]) -> str:
    """(name, key of the colour) in a line."""
    marks = "".join(f'<span><i class="key{key}"></i>{escape(name)}</span>' for name, key in names)
    return f'<div class="legend">{marks}</div>'


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def _row(grid: Grid, row: Sequence[Cell]) -> str:
    found = []
    for column, cell in zip(grid.columns, row, strict=True):
        ours = column == OURS or (row[0].full == OURS and cell is not row[0])
        css = cell.full if cell.full in VERDICTS else "ours" if ours else ""
        attribute = f' class="{css}"' if css else ""
        found.append(f"<td{attribute}>{_number(cell)}</td>")
    return "".join(found)


def _number(cell: Cell) -> str:
    """The interval in small print."""
    if cell.full == cell.short or not cell.full.startswith(cell.short):
        return escape(cell.full)
    return f"{escape(cell.short)}<small>{escape(cell.full.removeprefix(cell.short).strip())}</small>"
