"""fisherbo's figures and note of a study where optuna-dashboard shows them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from optuna.study import Study

from fisherbo.errors import MissingExtraError
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.visualization.notation import PLAIN, Notation
from fisherbo.visualization.report import StudyReport, report
from fisherbo.visualization.style import graph_objects

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_OWN_PAGE = ("history", "parallel", "front", "timeline", "intermediate")
"""Figures that the dashboard draws itself."""
_MARGIN = {"l": 50, "r": 20, "t": 70, "b": 50}
_LINE = 45  # characters of a title beside the buttons
_BELOW = -0.17  # of the legend, in heights of the plot


def fitting(figure: Figure) -> Figure:
    """A copy that takes the size of the box it is drawn in: 450 pixels high in optuna-dashboard.

    The dashboard's box cuts off what a figure of a height of its own has below.
    """
    copied = graph_objects().Figure(figure)
    title = "<br>".join(textwrap.wrap(copied.layout.title.text or "", _LINE))
    copied.update_layout(
        height=None, width=None, autosize=True, margin=_MARGIN, font_size=10,
        title={"text": title, "font": {"size": 13}, "x": 0.02, "y": 0.97, "yanchor": "top"},
        legend={"orientation": "h", "x": 0, "y": _BELOW, "yanchor": "top"},
    )  # fmt: skip
    copied.update_annotations(font_size=11)
    copied.update_xaxes(automargin=True, nticks=5, title_standoff=4)
    copied.update_yaxes(automargin=True, nticks=5, title_standoff=4)
    return copied


def save_to_dashboard(
    study: Study,
    sampler: FisherSampler | None = None,
    *,
    value: str = "objective value",
    notation: Notation = PLAIN,
) -> StudyReport:
    """Store the figures and a note with the study, for optuna-dashboard; overwrites earlier ones.

    Args:
        study: A study in a storage that the dashboard is started with.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        value: What the value is called, with its unit.
        notation: How parameters are written, where the search has other names.

    Returns:
        What was stored.

    Raises:
        InvalidInputError: The study has no complete trial.
        MissingExtraError: optuna-dashboard or plotly is not installed.
    """
    try:
        from optuna_dashboard import save_note, save_plotly_graph_object
    except ImportError as error:
        raise MissingExtraError("optuna-dashboard", "dashboard") from error
    found = report(study, sampler, value=value, notation=notation)
    for name, figure in found.figures.items():
        if name not in _OWN_PAGE:
            save_plotly_graph_object(study, fitting(figure), graph_object_id=f"fisherbo-{name}")
    save_note(study, f"## fisherbo\n\n{found.to_markdown()}\n")
    return found
