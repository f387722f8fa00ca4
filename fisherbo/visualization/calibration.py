"""Whether the model's uncertainty is honest: each observation predicted from all the others.

Symbols: R = σ⁻² K, its inverse the posterior's ``precision`` P; α = P (y − c). Without observation
i the mean at its point is y_i − α_i/P_ii and the variance of an observation there σ²/P_ii
(Rasmussen & Williams 2006, eq. 5.12), hyperparameters kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.study import Study
from scipy.special import ndtr

from fisherbo.errors import InvalidInputError
from fisherbo.gp.posterior import Posterior
from fisherbo.gp.transfer import TransferPosterior
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.next_trial import inspected
from fisherbo.sampler.recommend import QUANTILE
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.space import Array
from fisherbo.visualization.style import COLOURS, GREY, graph_objects, lay_out, subplots

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of each observation from all the others, in units of the warped values.

    Attributes:
        observed: Shape ``(n,)``.
        mean: Shape ``(n,)``.
        sd: Of the observation, noise included, shape ``(n,)``.
    """

    observed: Array
    mean: Array
    sd: Array

    @property
    def z(self) -> Array:
        """Standardised residuals, shape ``(n,)``; standard normal where the model is right."""
        return (self.observed - self.mean) / self.sd

    def coverage(self, level: Array) -> Array:
        """Share of the observations in their central interval of each level, ``(*b,)``."""
        inside = np.abs(2 * ndtr(self.z) - 1) <= np.asarray(level)[..., None]
        return inside.mean(-1)


def leave_one_out(posterior: Posterior) -> LeaveOneOut:
    """The leave-one-out predictions of a posterior, in O(n)."""
    diagonal = np.diag(posterior.precision)
    mean = posterior.y - posterior.alpha / diagonal
    return LeaveOneOut(posterior.y, mean, np.sqrt(posterior.variance / diagonal))


def plot_calibration(
    study: Study, sampler: FisherSampler | None = None, *, objective: int = 0
) -> Figure:
    """Figure of leave-one-out predictions against observations, and of how often they hold.

    Args:
        study: A study of any sampler.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        objective: Which objective, of several.

    Raises:
        InvalidInputError: The study has no value yet, or the sampler's surrogate is not ours.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    found = leave_one_out(_posterior(inspected(study, sampler), objective))
    share = float(found.coverage(np.array(0.95)))
    titles = [
        "observed against predicted",
        f"{share:.0%} in the 95% interval",
    ]
    figure = subplots(2, 2, titles, horizontal_spacing=0.16)
    ends = [float(min(found.observed.min(), found.mean.min())),
            float(max(found.observed.max(), found.mean.max()))]  # fmt: skip
    figure.add_trace(go.Scatter(
        x=found.mean, y=found.observed, mode="markers", name="observations",
        error_x={"array": QUANTILE * found.sd, "color": "rgba(0,114,178,0.3)"},
        marker={"color": COLOURS[0], "size": 7},
    ), row=1, col=1)  # fmt: skip
    level = np.linspace(0, 1, 101)
    figure.add_trace(go.Scatter(
        x=level, y=found.coverage(level), mode="lines", name="coverage",
        line={"color": COLOURS[1], "shape": "hv"},
    ), row=1, col=2)  # fmt: skip
    for column, line in enumerate((ends, [0.0, 1.0]), 1):
        figure.add_trace(go.Scatter(
            x=line, y=line, mode="lines", name="ideal", showlegend=column == 1,
            line={"color": GREY, "dash": "dash"}, hoverinfo="skip",
        ), row=1, col=column)  # fmt: skip
    lay_out(figure, "Leave-one-out calibration of the model")
    figure.update_xaxes(title="predicted, warped (95%)", row=1, col=1)
    figure.update_yaxes(title="observed, warped", row=1, col=1)
    figure.update_xaxes(title="level of the interval", row=1, col=2)
    figure.update_yaxes(title="share of observations inside", row=1, col=2)
    return figure


def _posterior(seen: Inspection, objective: int) -> Posterior:
    surrogate = seen.surrogate(objective)
    if isinstance(surrogate, TransferPosterior):
        surrogate = surrogate.residual
    if not isinstance(surrogate, Posterior):
        raise InvalidInputError(
            "calibration needs the sampler's own Gaussian process, got a surrogate of type "
            f"{type(surrogate).__name__}; pass FisherSampler() without surrogate="
        )
    return surrogate
