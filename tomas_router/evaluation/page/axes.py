"""A plot's frame: margins, scales, grid lines and tick labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tomas_router.evaluation.page.svg import Point, Svg

LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 40.0
PERCENT_TICKS = tuple((share / 100, f"{share}") for share in (0, 25, 50, 75, 100))

Tick = tuple[float, str]
"""Value and label."""


@dataclass(frozen=True)
class Axes:
    """Where values lie on the drawing."""

    svg: Svg
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool = False

    def x(self, value: float) -> float:
        low, high = (_log(v) if self.log_x else v for v in self.x_range)
        place = ((_log(value) if self.log_x else value) - low) / ((high - low) or 1)
        return LEFT + place * (self.svg.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.svg.height - BOTTOM - (value - low) / ((high - low) or 1) * (self.svg.height - BOTTOM - TOP)

    def at(self, x: float, y: float) -> Point:
        return self.x(x), self.y(y)

    def draw(self, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_title: str, y_title: str) -> None:
        """Grid lines with labels, and the titles of both axes."""
        bottom, right = self.svg.height - BOTTOM, self.svg.width - RIGHT
        for value, label in y_ticks:
            self.svg.line((LEFT, self.y(value)), (right, self.y(value)), "grid")
            self.svg.text((LEFT - 6, self.y(value) + 4), label, "tick", anchor="end")
        for value, label in x_ticks:
            self.svg.line((self.x(value), bottom), (self.x(value), bottom + 4), "axis")
            self.svg.text((self.x(value), bottom + 17), label, "tick", anchor="middle")
        self.svg.line((LEFT, bottom), (right, bottom), "axis")
        self.svg.text(((LEFT + right) / 2, self.svg.height - 6), x_title, "label", anchor="middle")
        self.svg.text((12, (TOP + bottom) / 2), y_title, "label", anchor="middle", turn=-90)


def square(size: float) -> Axes:
    """Two shares against each other."""
    return Axes(Svg(size, size), (0.0, 1.0), (0.0, 1.0))


def whisker(svg: Svg, place: Callable[[float], Point], low: float, high: float, css: str) -> None:
    """An interval as a thin line; ``place`` turns a value into a point."""
    svg.line(place(low), place(high), css)


def _log(value: float) -> float:
    return math.log10(max(value, 1e-9))
