"""Runtime distributions of COCO as plain SVG: share of the targets reached against evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

LEFT, TOP, GAP = 34, 30, 16
STEP = 0.2
"""Distance of the lines of the grid, as a share of the targets."""
FIRST = 0.5
"""Evaluations over dimension at the left end of the axis, which is logarithmic."""
TICKS = (1, 2, 5, 10, 25, 50)
COLOURS = ("#d55e00", "#2f8fd0", "#009e73", "#cc79a7", "#b8860b", "#7f6fd0", "#8b8b8b", "#7a5230")
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #6e7681 }
.title { font-weight: 600 }
.tick { font-size: 10px }
.grid { stroke: #8884; stroke-width: 1 }
.line { fill: none; stroke-width: 1.5; stroke-linejoin: round }
.first { stroke-width: 3 }
"""


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: Above it.
        curves: Shares of the targets by algorithm, at each of the budgets; None where the
            algorithm's runs have ended.
    """

    title: str
    curves: Mapping[str, Sequence[float | None]]


def picture(
    title: str, budgets: Sequence[float], panels: Sequence[Sequence[Panel]], size: tuple[int, int]
) -> str:
    """Rows of charts with one legend; ``size`` is a chart's width and height in pixels."""
    width, height = size
    names = list(dict.fromkeys(n for row in panels for panel in row for n in panel.curves))
    colours = dict(zip(names, COLOURS, strict=False))
    across = LEFT + max(map(len, panels)) * (width + GAP)
    parts, at = _legend(colours, across)
    for row in panels:
        at += TOP
        shares = [s for panel in row for curve in panel.curves.values() for s in curve if s]
        most = STEP * math.ceil(max(shares) / STEP)  # the same for a row
        for k, panel in enumerate(row):
            parts.append(_chart(panel, budgets, colours, LEFT + k * (width + GAP), at, size, most))
        at += height + GAP
    parts.append(
        f'<text text-anchor="middle" x="{across / 2:.0f}" y="{at + 14}">'
        "evaluations / dimension; upwards: share of COCO's targets reached</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {at + 24}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(described(panels))}</desc>"
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def described(panels: Sequence[Sequence[Panel]]) -> str:
    """The last shares of all curves as text."""
    return "; ".join(
        f"{panel.title}: "
        + ", ".join(f"{n} {c[-1]:.3f}" for n, c in panel.curves.items() if c[-1] is not None)
        for row in panels
        for panel in row
    )


def _legend(colours: Mapping[str, str], across: float) -> tuple[list[str], int]:
    """Names with their colours, and the height below them."""
    parts, x, y = list[str](), 8.0, 16
    for k, (name, colour) in enumerate(colours.items()):
        wide = 40 + 7.2 * len(name)
        if x + wide > across:
            x, y = 8.0, y + 18
        parts.append(
            f'<path class="line {"first" * (not k)}" stroke="{colour}" d="M{x:.0f} {y - 4}h20"/>'
            f'<text x="{x + 26:.0f}" y="{y}">{escape(name)}</text>'
        )
        x += wide
    return parts, y


def _chart(
    panel: Panel,
    budgets: Sequence[float],
    colours: Mapping[str, str],
    left: float,
    top: float,
    size: tuple[int, int],
    most: float,
) -> str:
    width, height = size

    def across(budget: float) -> float:
        return left + width * math.log(budget / FIRST) / math.log(budgets[-1] / FIRST)

    def up(share: float) -> float:
        return top + height * (1 - share / most)

    parts = [f'<text class="title" x="{left:.0f}" y="{top - 8}">{escape(panel.title)}</text>']
    for k in range(round(most / STEP) + 1):
        y = up(k * STEP)
        parts.append(f'<path class="grid" d="M{left:.0f} {y:.1f}h{width}"/>')
        if left == LEFT:
            parts.append(
                f'<text class="tick" text-anchor="end" x="{left - 4:.0f}" y="{y + 3:.1f}">'
                f"{k * STEP:.1f}</text>"
            )
    for tick in TICKS:
        x = across(tick)
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{top + height + 12:.0f}">'
            f"{tick}</text>"
        )
    for name, curve in reversed(list(panel.curves.items())):  # the first on top
        points = " ".join(
            f"{across(budget):.1f},{up(share):.1f}"
            for budget, share in zip(budgets, curve, strict=True)
            if share is not None
        )
        first = " first" * (name == next(iter(colours)))
        parts.append(f'<polyline class="line{first}" stroke="{colours[name]}" points="{points}"/>')
    return "".join(parts)
