"""fisherbo's figures and note of a study where optuna-dashboard shows them."""

from __future__ import annotations

from optuna.study import Study

from fisherbo.errors import MissingExtraError
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.visualization.notation import PLAIN, Notation
from fisherbo.visualization.report import StudyReport, report

_OWN_PAGE = ("history", "parallel", "front", "timeline", "intermediate")
"""Figures that the dashboard draws itself."""


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
            save_plotly_graph_object(study, figure, graph_object_id=f"fisherbo-{name}")
    save_note(study, f"## fisherbo\n\n{found.to_markdown()}\n")
    return found
