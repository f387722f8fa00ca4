"""The bound of the remaining regret over the trials of a study that `StopWhenConverged` watched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from optuna.study import Study

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.stopping import probabilities, regret_bounds
from fisherbo.visualization.style import colours, graph_objects, lay_out, whole_numbers
from fisherbo.visualization.view import value_kind

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def plot_regret_bound(study: Study, *, target: float | None = None) -> Figure:
    """Figure of the bound on the remaining regret after each trial.

    The remaining regret is what the recommended trial may lose to the best point. There is a line
    for each probability that the study's `StopWhenConverged` was given.

    Args:
        study: A study that ran with `StopWhenConverged` among its callbacks.
        target: The regret that does not matter, drawn as a line.

    Raises:
        InvalidInputError: The study has no bound yet.
        MissingExtraError: plotly is not installed.
    """
    figure = graph_objects().Figure()
    found = {p: regret_bounds(study, p) for p in probabilities(study)}
    bounds = [bound for of in found.values() for bound in of.values() if math.isfinite(bound)]
    if not bounds:
        raise InvalidInputError(
            "study must have run with StopWhenConverged among its callbacks for at least ten "
            "trials, got no bound of the regret"
        )
    for colour, (p, of) in zip(colours(len(found)), found.items(), strict=True):
        figure.add_scatter(
            x=list(of), y=[bound if math.isfinite(bound) else None for bound in of.values()],
            name=f"with {p:.0%} probability", mode="lines+markers",
            line={"color": colour, "width": 2}, marker={"size": 5},
        )  # fmt: skip
    if target is not None:
        figure.add_hline(y=target, line_dash="dash", annotation_text="does not matter")
    lay_out(figure, "Bound of the remaining regret over trials", "trial number")
    whole_numbers(figure.layout.xaxis, [number for of in found.values() for number in of])
    figure.update_yaxes(title="remaining regret", type=value_kind(np.array(bounds)))
    return figure
