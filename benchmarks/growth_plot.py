"""Time over the number of tools as one SVG file that needs no page around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tomas_router.evaluation.page.axes import Axes
from tomas_router.evaluation.page.svg import Point, Svg

WIDTH, HEIGHT, LEGEND_ROW = 640.0, 360.0, 18.0
COLOURS = ("#2563eb", "#ea580c", "#ca8a04", "#6b7280")
STYLE = """
svg { background: #fff; font: 12px sans-serif } text { fill: #333 } .label { font-size: 13px }
.grid { stroke: #e5e5e5 } .axis { stroke: #888 } .stroke { fill: none; stroke-width: 2 }
"""
TICKS = 6


def growth_plot(series: Mapping[str, Sequence[Point]], title: str) -> str:
    """Lines of (tools, milliseconds); tools on a logarithmic axis."""
    places = sorted({x for points in series.values() for x, _ in points})
    most = max(y for points in series.values() for _, y in points)
    step = _round_step(most / TICKS)
    axes = Axes(Svg(WIDTH, HEIGHT), (places[0], places[-1]), (0.0, step * math.ceil(most / step)), log_x=True)
    heights = [step * i for i in range(math.ceil(most / step) + 1)]
    axes.draw([(x, f"{x:,.0f}") for x in places], [(y, f"{y:g}") for y in heights], "tools in the registry", "ms, p50")
    for number, (name, points) in enumerate(series.items()):
        axes.svg.path([axes.at(x, y) for x, y in points], f"stroke s{number}")
        for x, y in points:
            axes.svg.circle(axes.at(x, y), 3.5, f"dot s{number}", f"{name}: {x:,.0f} tools, {y:.2f} ms")
        row = 28 + LEGEND_ROW * number
        axes.svg.line((66, row - 4), (86, row - 4), f"stroke s{number}")
        axes.svg.text((92, row), name)
    colours = "".join(f".stroke.s{n} {{ stroke: {c} }} .dot.s{n} {{ fill: {c} }}" for n, c in enumerate(COLOURS))
    drawing = axes.svg.render(title)
    head, _, body = drawing.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}{colours}</style>{body}\n'


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(max(least, 1e-6)))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)
