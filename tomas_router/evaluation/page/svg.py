"""A few SVG shapes as text; colours and fonts come from the page's style, so plots follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]


@dataclass
class Svg:
    """A drawing of ``width`` x ``height`` units, which the page scales down where it is narrow."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, start: Point, end: Point, css: str) -> None:
        (x1, y1), (x2, y2) = start, end
        self.parts.append(f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def rect(self, corner: Point, size: Point, css: str, *, tip: str = "", opacity: float = 1.0) -> None:
        faded = "" if opacity == 1.0 else f' style="opacity:{opacity:.3f}"'
        body = f'x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{max(size[0], 0):.1f}" height="{max(size[1], 0):.1f}"'
        self.parts.append(f'<rect class="{css}" {body}{faded}>{_tip(tip)}</rect>')

    def circle(self, centre: Point, radius: float, css: str, tip: str = "") -> None:
        x, y = centre
        self.parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{_tip(tip)}</circle>')

    def path(self, points: Sequence[Point], css: str, *, closed: bool = False) -> None:
        if points:
            steps = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
            self.parts.append(f'<path class="{css}" d="{steps}{" Z" if closed else ""}"/>')

    def text(self, at: Point, text: str, css: str = "", *, anchor: str = "start", turn: float = 0.0) -> None:
        turned = f' transform="rotate({turn:g} {at[0]:.1f} {at[1]:.1f})"' if turn else ""
        css = f' class="{css}"' if css else ""
        place = f'x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}"'
        self.parts.append(f"<text{css} {place}{turned}>{escape(text)}</text>")

    def render(self, label: str) -> str:
        """The drawing with a label for those who cannot see it."""
        box = f'viewBox="0 0 {self.width:g} {self.height:g}" style="max-width:{self.width:g}px"'
        return f'<svg role="img" aria-label="{escape(label, quote=True)}" {box}>{"".join(self.parts)}</svg>'


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def shortened(text: str, length: int) -> str:
    """At most ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
