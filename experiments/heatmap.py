"""A heat map of win shares as plain SVG, narrow enough for a phone, on light and dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, TOP, ROW = 360, 132, 58, 24
WORSE, EVEN, BETTER = (213, 94, 0), (232, 232, 232), (47, 143, 208)
ENOUGH = 6
"""Pairs from which on Wilcoxon's p can be below .05; a cell with fewer is pale, in brackets."""
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #6e7681 }
.title { font-weight: 600; font-size: 13px }
.share { fill: #111; text-anchor: middle }
.sure { font-weight: 700 }
.frame { fill: none; stroke: #111; stroke-width: 2 }
"""


@dataclass(frozen=True)
class Square:
    """A cell of the map.

    Attributes:
        row: Name of its row.
        column: Trials.
        share: Of pairs won, from 0 to 1.
        verdict: "ahead" or "behind" where that is significant.
        pairs: How many there are.
    """

    row: str
    column: int
    share: float
    verdict: str
    pairs: int


def colour(share: float) -> str:
    """Orange at 0, grey at one half, blue at 1; dark text is legible on all of it."""
    end, weight = (BETTER, 2 * share - 1) if share > 0.5 else (WORSE, 1 - 2 * share)
    mixed = (round(e + 0.75 * weight * (c - e)) for e, c in zip(EVEN, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def picture(title: str, squares: Sequence[Square]) -> str:
    """The map: a row for each kind of space, a column for each number of trials."""
    names = list(dict.fromkeys(square.row for square in squares))
    columns = sorted({square.column for square in squares})
    width = (WIDTH - LEFT - 4) / len(columns)
    height = TOP + ROW * len(names) + 60
    parts = [
        f'<text class="title" x="4" y="18">{escape(title)}</text>',
        f'<text x="4" y="{TOP - 8}">trials</text>',
    ]
    for k, column in enumerate(columns):
        x = LEFT + (k + 0.5) * width
        parts.append(f'<text text-anchor="middle" x="{x:.1f}" y="{TOP - 8}">{column:,}</text>')
    for j, name in enumerate(names):
        parts.append(f'<text x="4" y="{TOP + ROW * j + 16}">{escape(name)}</text>')
    for square in squares:
        x = LEFT + columns.index(square.column) * width
        y = TOP + ROW * names.index(square.row)
        parts.append(_drawn(square, x, y, width))
    below = TOP + ROW * len(names)
    parts.append(
        f'<text x="4" y="{below + 18}">% of pairs that FisherSampler wins, blue above</text>'
    )
    parts.append(f'<text x="4" y="{below + 34}">half; framed: p &lt; .05, not corrected;</text>')
    parts.append(f'<text x="4" y="{below + 50}">in brackets: fewer than {ENOUGH} pairs</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'style="width:100%;max-width:480px" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(described(squares))}</desc>"
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _drawn(square: Square, x: float, y: float, width: float) -> str:
    sure = square.verdict in ("ahead", "behind")
    box = f'x="{x + 1:.1f}" y="{y + 1}" width="{width - 2:.1f}" height="{ROW - 2}" rx="2"'
    few = square.pairs < ENOUGH
    inner = f'x="{x + 2.5:.1f}" y="{y + 2.5}" width="{width - 5:.1f}" height="{ROW - 5}" rx="1"'
    text = f"({100 * square.share:.0f})" if few else f"{100 * square.share:.0f}"
    fill = colour(0.5 + 0.3 * (square.share - 0.5)) if few else colour(square.share)
    tip = f"{square.row}, {square.column} trials: {text} % of {square.pairs}, {square.verdict}"
    return (
        f'<g><title>{escape(tip)}</title><rect {box} fill="{fill}"/>'
        + (f'<rect class="frame" {inner}/>' if sure else "")
        + f'<text class="share{" sure" * sure}" x="{x + width / 2:.1f}" y="{y + 16}">{text}</text>'
        "</g>"
    )


def described(squares: Sequence[Square]) -> str:
    """All numbers as text."""
    return "; ".join(f"{s.row}, {s.column}: {100 * s.share:.0f}" for s in squares)
