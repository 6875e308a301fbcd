"""The differences of two reports as one HTML page."""

from __future__ import annotations

from html import escape

from tomas_router.evaluation.compare import COMPARED, Comparison, Difference, comparison_grids
from tomas_router.evaluation.page import charts
from tomas_router.evaluation.page.html_text import document, figure, titled

LEAST_SPAN = 0.05
HOW = (
    "Change of every measure in points, with its 95 % interval: a paired bootstrap where both runs scored the same "
    "rows, else from both intervals. A verdict is given only where the interval leaves out zero."
)


def comparison_page(found: Comparison) -> str:
    """The page; absolute errors, which have units, are in the tables only."""
    head = f"<h1>{escape(found.now)} against {escape(found.before)}</h1>"
    head += f'<p class="soft">{HOW}</p>'
    drawings = {name: _drawing(differences) for name, differences in found.sources}
    body = [head]
    for grid in comparison_grids(found):
        name = grid.title.partition(":")[0]
        body += [f"<h2>{escape(name)}</h2>", drawings.get(name, ""), titled(grid)]
    return document(f"{found.now} against {found.before}", body)


def _drawing(differences: tuple[Difference, ...]) -> str:
    shares = [d for d in differences if not d.measure.startswith(("mae_", "mape_"))]
    if not shares:
        return ""
    span = max(LEAST_SPAN, *(max(abs(d.change.low), abs(d.change.high)) for d in shares))
    rows = [(COMPARED[d.measure], [("change", d.change, d.verdict)]) for d in shares]
    return figure("Change, points", charts.forest(rows, (-span, span)))
