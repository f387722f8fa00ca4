"""How far each trial stepped in the space of beliefs, from the best point known before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from optuna.study import Study

from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition, extend
from fisherbo.gp.rotation import kernel_axes
from fisherbo.gp.warp import warp
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.next_trial import inspected
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.trials import Status
from fisherbo.space import Array, Integers
from fisherbo.visualization.style import COLOURS, GREY, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST = 1000
_WINDOW = 9


def kl_steps(seen: Inspection, objective: int = 0) -> tuple[Integers, Array]:
    """KL divergence of the best point's predicted value from each trial's, before the trial.

    Beliefs are those of the model of the trials before, with the hyperparameters of the present:
    normal distributions of the next (warped) observation at the trial's point and at the
    observation of the best mean until then.

    Args:
        seen: A study.
        objective: Which objective.

    Returns:
        Numbers of the trials from the second on, at most 1,000 of them, shape ``(m,)``, and
        divergences in nats, shape ``(m,)``.
    """
    observations = seen.observations
    x, y = observations.x[:_MOST], warp(observations.y[:, objective])[:_MOST]
    surrogate = seen.surrogate(objective)
    lengthscale, rotation = kernel_axes(surrogate)
    hyper = Hyper(lengthscale, surrogate.variance, surrogate.noise, rotation)
    numbers = seen.table.number[observations.row[:_MOST]]
    posterior = condition(x[:1], y[:1], seen.space.kinds, hyper)
    means, variances = [], []
    for t in range(1, len(x)):
        best = x[int(np.argmax(posterior.mean(x[:t])))]
        mean, sd = posterior.predict(np.stack([best, x[t]]))
        means.append(mean)
        variances.append(sd**2 + surrogate.noise)
        posterior = extend(posterior, x[t : t + 1], y[t : t + 1], np.array([surrogate.noise]))
    return numbers[1:], _kl(np.array(means), np.array(variances))


def plot_kl_steps(
    study: Study, sampler: FisherSampler | None = None, *, objective: int = 0
) -> Figure:
    """Figure of the KL length of each trial's step: long ones explore, short ones refine.

    Args:
        study: A study of any sampler.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        objective: Which objective, of several.

    Raises:
        InvalidInputError: The study has no value yet.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    seen = inspected(study, sampler)
    numbers, steps = kl_steps(seen, objective)
    shown = np.maximum(steps, 1e-12)  # a repeat of the best point has no place on a log axis
    complete = seen.table.number[seen.table.have(Status.COMPLETE)]
    whole = np.isin(numbers, complete)
    figure = go.Figure()
    groups = (("complete", whole, "circle"), ("pruned or failed", ~whole, "circle-open"))
    for name, group, symbol in groups:
        figure.add_scatter(
            x=numbers[group], y=shown[group], mode="markers", name=name,
            marker={"color": COLOURS[0], "symbol": symbol, "size": 7},
        )  # fmt: skip
    figure.add_scatter(
        x=numbers, y=_running_median(shown), mode="lines", name=f"median of {_WINDOW}",
        line={"color": GREY},
    )  # fmt: skip
    lay_out(figure, "KL length of each trial's step from the best point before", "trial number")
    figure.update_yaxes(title="KL divergence / nats", type="log")
    return figure


def _kl(mean: Array, variance: Array) -> Array:
    """KL divergence of the second of two normal distributions a row from the first, ``(m,)``."""
    if not len(mean):
        return np.empty(0)
    (old, new), (old_variance, new_variance) = mean.T, variance.T
    ratio = old_variance / new_variance
    gap = (old - new) ** 2 / new_variance
    found: Array = 0.5 * (ratio - 1 - np.log(ratio) + gap)
    return found


def _running_median(values: Array) -> Array:
    half = _WINDOW // 2
    windows = (values[max(i - half, 0) : i + half + 1] for i in range(len(values)))
    return np.array([np.median(window) for window in windows])
