"""How fisherbo's figures look, whatever they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fisherbo.errors import MissingExtraError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito (2008): people with any kind of colour vision can tell them apart."""
SCALE = "Cividis"
MAX_TICKS = 10
PANORAMA = {"panorama": True}
"""Marks the layout of a figure that a page scrolls, and does not shrink, on narrow screens."""
GREY = "#808080"
"""Of lines for comparison; seen on light and on dark ground."""
SEQUENCE = [[0.0, COLOURS[5]], [1.0, COLOURS[1]]]
"""Scale of lines; both ends are seen on light and on dark ground."""


def graph_objects() -> Any:
    """The module of plotly's figures.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtraError("plotly", "plot") from error
    return go


def subplots(count: int, columns: int, titles: list[str] | None = None, **options: Any) -> Figure:
    """A figure of so many panels, in rows of at most so many columns."""
    graph_objects()
    from plotly.subplots import make_subplots

    columns = min(count, columns)
    rows = -(-count // columns)
    return make_subplots(rows=rows, cols=columns, subplot_titles=titles, **options)


def place(index: int, columns: int) -> dict[str, int]:
    """Row and column of a panel, as plotly's methods take them."""
    return {"row": index // columns + 1, "col": index % columns + 1}


def colours(count: int) -> list[str]:
    """So many colours, repeated where there are more than seven."""
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def lay_out(figure: Figure, title: str, x_title: str | None = None, height: int = 480) -> None:
    """Give a figure its title and look, and its horizontal axes their title."""
    figure.update_layout(title=title, template="plotly_white", hovermode="closest", height=height)
    figure.update_xaxes(exponentformat="power")
    figure.update_yaxes(exponentformat="power")
    if x_title is not None:
        figure.update_xaxes(title=x_title)


def whole_numbers(axis: Any, values: Sequence[int]) -> None:
    """Let an axis of few whole numbers, such as trials, have no ticks between them.

    Args:
        axis: ``figure.layout.xaxis`` or another.
        values: What is drawn on it.
    """
    if len(values) and max(values) - min(values) < MAX_TICKS:
        axis.update(dtick=1)


def goal_line(
    figure: Figure, value: float, text: str, *, log: bool = False, yanchor: str = "bottom"
) -> None:
    """Draw a value to reach as a dashed line, with its text at the right end.

    Args:
        figure: What to draw on.
        value: On the vertical axis.
        text: Beside the line.
        log: Whether that axis is logarithmic: an annotation's height is its exponent there.
        yanchor: ``"bottom"``: the text is above the line; ``"top"``: below.
    """
    figure.add_hline(y=value, line_dash="dash", line_color=GREY)
    figure.add_annotation(
        text=text, x=1, xref="paper", xanchor="right", y=math.log10(value) if log else value,
        yanchor=yanchor, showarrow=False,
    )  # fmt: skip


def nats(metric: str) -> str:
    """Name of a metric's axis; an excess is a difference of cross-entropies, in nats."""
    return f"{metric} / nats" if metric == "excess" else metric


def band(x: Any, low: Any, high: Any, colour: str, name: str, **options: Any) -> Any:
    """A filled band between two curves."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return graph_objects().Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", mode="lines", name=name,
        fillcolor=f"rgba({red},{green},{blue},0.2)", line={"width": 0}, hoverinfo="skip",
        **options,
    )  # fmt: skip
