"""The plots of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tomas_router.evaluation.calibration import Calibration
from tomas_router.evaluation.confusions import Confusions
from tomas_router.evaluation.gate_curve import GateCurve
from tomas_router.evaluation.intervals import Interval
from tomas_router.evaluation.page.axes import PERCENT_TICKS, Axes, Tick, square, whisker
from tomas_router.evaluation.page.svg import Svg, shortened
from tomas_router.evaluation.report import OURS, Methods

PLOT_W, PLOT_H, SQUARE = 460.0, 300.0, 340.0
BAR_H, BAR_NAME, BAR_ROOM, BAR_VALUE = 22.0, 186.0, 200.0, 66.0
DOT_H, DOT_ROOM, LONGEST_NAME, CHAR_W = 26.0, 420.0, 62, 6.1
BIG_DOT = 8.0
HEAT_CELL, HEAT_NAME = 34.0, 190.0
MOST_SERIES = 6
OTHER = "other"
"""Colour of the baselines, which are drawn without intervals."""
LABEL_ROOM = 26.0
"""Tick labels nearer to each other than this, in units of the drawing, would overlap."""


def reliability(found: Calibration) -> str:
    """Share of right steps over confidence; the bars at the bottom say how many steps there are."""
    axes = square(SQUARE)
    svg = axes.svg
    axes.draw(PERCENT_TICKS, PERCENT_TICKS, "confidence, %", "right steps, %")
    most = max(b.steps for b in found.bins)
    for b in found.bins:
        height = 0.22 * b.steps / most
        corner, width = axes.at(b.low, height), axes.x(b.high) - axes.x(b.low) - 2
        svg.rect((corner[0] + 1, corner[1]), (width, axes.y(0) - corner[1]), "count", tip=f"{b.steps} steps")
    svg.line(axes.at(0, 0), axes.at(1, 1), "ideal")
    svg.path([axes.at(b.confidence, b.accuracy.value) for b in found.bins], "stroke s0 faint")
    for b in found.bins:
        whisker(svg, lambda v, x=b.confidence: axes.at(x, v), b.accuracy.low, b.accuracy.high, "whisker s0")  # type: ignore[misc]
        tip = f"confidence {b.confidence:.2f}, right {_share(b.accuracy)}, {b.steps} steps"
        svg.circle(axes.at(b.confidence, b.accuracy.value), max(2.5, BIG_DOT * (b.steps / most) ** 0.5), "dot s0", tip)
    return svg.render("Reliability diagram: share of right steps over confidence")


def gate(found: GateCurve) -> str:
    """Precision over recall of 'a tool is needed'."""
    axes = square(SQUARE)
    axes.draw(PERCENT_TICKS, PERCENT_TICKS, "recall, %", "precision, %")
    base = found.needing / found.rows
    axes.svg.line(axes.at(0, base), axes.at(1, base), "ideal")
    axes.svg.path([axes.at(p.recall, p.precision) for p in found.points], "stroke s0")
    tip = f"the planner: precision {100 * found.chosen.precision:.1f} %, recall {100 * found.chosen.recall:.1f} %"
    axes.svg.circle(axes.at(found.chosen.recall, found.chosen.precision), 6, "dot s1", tip)
    return axes.svg.render("Precision and recall of the gate")


def lines(series: Mapping[str, Methods], measure: str, x_title: str, y_title: str, *, log_x: bool) -> str:
    """A measure over an ordered group for ours, with its interval, and the first baselines; '' below two groups."""
    groups = sorted({g for found in series.values() for g, c in found.items() if measure in c}, key=_number)
    if len(groups) < 2:
        return ""
    positions = [_number(group) for group in groups]
    svg = Svg(PLOT_W, PLOT_H)
    axes = Axes(svg, (positions[0], positions[-1]), (0.0, 1.0), log_x)
    axes.draw(_roomy(axes, list(zip(positions, groups, strict=True))), PERCENT_TICKS, x_title, y_title)
    for i, (name, found) in reversed(list(enumerate(series_order(series)))):
        cells = [(_number(group), found[group][measure]) for group in groups if measure in found.get(group, {})]
        if name == OURS:
            band = [axes.at(x, c.high) for x, c in cells] + [axes.at(x, c.low) for x, c in reversed(cells)]
            svg.path(band, "band s0", closed=True)
        svg.path([axes.at(x, c.value) for x, c in cells], f"stroke s{i}")
        for x, c in cells:
            svg.circle(axes.at(x, c.value), 3.5, f"dot s{i}", f"{name}: {_share(c)}, {c.rows} rows")
    return svg.render(f"{y_title} {x_title}")


def _roomy(axes: Axes, ticks: Sequence[Tick]) -> list[Tick]:
    """The last tick and those before it that leave room for each other."""
    kept: list[Tick] = []
    for value, label in reversed(ticks):
        if not kept or axes.x(kept[-1][0]) - axes.x(value) >= LABEL_ROOM:
            kept.append((value, label))
    return kept


def series_order(series: Mapping[str, Methods]) -> list[tuple[str, Methods]]:
    """The methods that a plot has room for, ours first."""
    return sorted(series.items(), key=lambda item: item[0] != OURS)[:MOST_SERIES]


def heat_map(found: Confusions) -> str:
    """Wanted tools down, named tools across; the darker, the larger the share of the wanted tool's steps here."""
    count = len(found.tools)
    svg = Svg(HEAT_NAME + count * HEAT_CELL + 80, 120 + count * HEAT_CELL)
    for i, wanted in enumerate(found.tools):
        y, of = 110 + i * HEAT_CELL, max(sum(found.counts[i]), 1)
        svg.text((HEAT_NAME - 8, y + HEAT_CELL / 2 + 4), shortened(wanted, 28), "tick", anchor="end")
        svg.text((HEAT_NAME + (i + 0.6) * HEAT_CELL, 104), shortened(wanted, 18), "tick", turn=-40)
        for j, said in enumerate(found.tools):
            times = found.counts[i][j]
            corner, size = (HEAT_NAME + j * HEAT_CELL, y), (HEAT_CELL - 2, HEAT_CELL - 2)
            svg.rect(corner, size, "empty")
            if times:
                css = "right" if i == j else "wrong"
                tip = f"{wanted} → {said}: {times} times"
                svg.rect(corner, size, css, tip=tip, opacity=0.15 + 0.75 * times / of)
                svg.text((corner[0] + HEAT_CELL / 2 - 1, y + HEAT_CELL / 2 + 4), str(times), "cell", anchor="middle")
    return svg.render("Confused tools: wanted down, named across")


def bars(cells: Sequence[tuple[str, Interval, str]], most: float) -> str:
    """Horizontal bars of shares with intervals: (name, value, css class of the colour); ``most`` fills the width."""
    svg = Svg(BAR_NAME + BAR_ROOM + BAR_VALUE, BAR_H * len(cells) + 8)

    def x(value: float) -> float:
        return BAR_NAME + BAR_ROOM * min(value / most, 1.0)

    for k, (name, cell, css) in enumerate(cells):
        y = 4 + k * BAR_H
        svg.text((BAR_NAME - 8, y + 15), shortened(name, 26), "tick", anchor="end")
        svg.rect((BAR_NAME, y + 4), (x(cell.value) - BAR_NAME, BAR_H - 8), f"bar {css}", tip=f"{cell.rows} rows")
        svg.line((x(cell.low), y + BAR_H / 2), (x(cell.high), y + BAR_H / 2), "range")
        svg.text((BAR_NAME + BAR_ROOM + 8, y + 15), _rounded(cell.value), "tick")
    return svg.render("Bars with 95 % intervals")


Dots = Sequence[tuple[str, Interval, str]]
"""(name, value, css class) of what lies on one line."""


def forest(rows: Sequence[tuple[str, Dots]], span: tuple[float, float]) -> str:
    """Dots with intervals on a common scale of shares; a scale that begins below zero shows changes."""
    names = [shortened(name, LONGEST_NAME) for name, _ in rows]
    left = CHAR_W * max(map(len, names)) + 8
    svg = Svg(left + DOT_ROOM + 40, DOT_H * len(rows) + 44)
    low, high = span
    bottom = DOT_H * len(rows) + 10

    def x(value: float) -> float:
        return left + 12 + DOT_ROOM * (min(max(value, low), high) - low) / (high - low)

    for k in range(5):
        value = low + (high - low) * k / 4
        label = f"{100 * value:+.3g}" if low < 0 and k != 2 else f"{100 * value:.0f}"
        svg.line((x(value), 6), (x(value), bottom), "axis" if abs(value) < 1e-9 else "grid")
        svg.text((x(value), bottom + 18), label, "tick", anchor="middle")
    for k, (_, dots) in enumerate(rows):
        y = 10 + DOT_H * (k + 0.5)
        svg.text((left, y + 4), names[k], "tick", anchor="end")
        for dot, cell, css in reversed(list(dots)):
            if css != OTHER:
                svg.line((x(cell.low), y), (x(cell.high), y), f"whisker {css}")
            svg.circle((x(cell.value), y), 4.5 if css == OTHER else 6, f"dot {css}", f"{dot}: {_share(cell)}")
    return svg.render("Values with 95 % intervals")


def _number(group: str) -> float:
    return float(group.rstrip("+"))


def _rounded(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 10 else f"{100 * share:.0f} %"


def _share(cell: Interval) -> str:
    return f"{100 * cell.value:.1f} % ({100 * cell.low:.1f} to {100 * cell.high:.1f})"
