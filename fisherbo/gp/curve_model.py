"""The fitted model of learning curves: where a curve ends, given its parameters and its beginning.

The ends are a Gaussian process of the parameters (`gp.posterior`), of which each curve is one
observation with its own noise (`curves`). Hyperparameters of ends and of curves are fitted in turn,
each by damped natural steps to the maximum of their posterior density given the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fisherbo.gp.curve_kernel import HIGH, LOW, PRIOR_MEAN, VARIANCE
from fisherbo.gp.curves import Curve, CurveLikelihood, EndObservations, end_observations, grouped
from fisherbo.gp.fit import descend, mode
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.posterior import Posterior, condition
from fisherbo.gp.subset import active_set
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers, Mask

MODEL_SIZE = 256
"""Most curves that a model is conditioned on: a decision is due after every training step."""

WORST = -4.0
"""Least end that a curve may speak for, in standard deviations of ends. A curve that got worse than
at its start speaks for one far below, by its loading; how bad it is does not matter."""

_DOUBT = 12.0
"""ψ has ten parameters and is fitted to a few whole curves, so that it makes curves say more of
their ends than they do: with n of them σ² is larger by a factor 1 + 12/n (Akaike's final prediction
error is alike). By that, 90 % intervals for good trials of development tasks are as wide as they
should be at every part of a curve, on average over tasks; without it half as wide early on."""

_FIT_SIZE, _WHOLE_SIZE = 64, 32
_TOLERANCE = 0.05  # nats
_MOST_STEPS = 30


@dataclass(frozen=True)
class CurveFit:
    """Hyperparameters of curves and of their ends.

    Attributes:
        count: Number of curves that were known when they were fitted.
        psi: ψ of the curves (`curve_kernel`), shape ``(10,)``.
        hyper: Of the ends as a function of the parameters; its noise is what the ends of two
            trainings with the same parameters differ by.
    """

    count: int
    psi: Array
    hyper: Hyper


def fit_curves(
    curves: Sequence[Curve],
    x: Array,
    choices: Integers | Kinds,
    whole: Mask,
    last: CurveFit | None = None,
) -> CurveFit:
    """Hyperparameters of curves and their ends, from the last ones or the priors' modes.

    Those of curves are fitted to whole ones alone: curves that were cut short are the flat ones,
    and make the model sure that no other rises late. Those of ends are fitted to all.

    Args:
        curves: Of trials in their order.
        x: Their coordinates, shape ``(n, d)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        whole: Which curves were not cut short, one at least, shape ``(n,)``.
        last: An earlier fit to start from.
    """
    psi = PRIOR_MEAN if last is None else last.psi
    hyper = prior_mode(len(choices)) if last is None else last.hyper
    index = _spread(whole.nonzero()[0], _WHOLE_SIZE)
    part, groups = grouped([curves[i] for i in index]), grouped(curves)
    for _ in range(2 if last is None else 1):
        likelihood = CurveLikelihood(part, _covariance(x[index], choices, hyper), 0.0)
        psi, _ = descend(likelihood, psi, (LOW, HIGH), _MOST_STEPS, _TOLERANCE)
        seen = end_observations(groups, psi).at_least(WORST)
        chosen = active_set(x, seen.value, hyper.lengthscale, _FIT_SIZE)
        y, known = seen.value[chosen], seen.variance[chosen]
        hyper, _ = mode(x[chosen], y, choices, [hyper], known=known)
    return CurveFit(len(curves), _doubted(psi, int(whole.sum())), hyper)


def _doubted(psi: Array, count: int) -> Array:
    """ψ that was fitted to so many whole curves, with a larger σ²."""
    doubted = psi.copy()
    doubted[VARIANCE] += math.log1p(_DOUBT / count)
    return doubted


def _spread(index: Integers, most: int) -> Integers:
    """At most so many of some indices, evenly spread."""
    places = np.linspace(0, len(index) - 1, min(len(index), most)).round().astype(np.int64)
    return index[np.unique(places)]


@dataclass(frozen=True)
class CurveModel:
    """Where curves end.

    Attributes:
        psi: Hyperparameters of the curves.
        posterior: Of the ends as a function of the parameters, given all curves.
        inflation: What the posterior's variances of ends are multiplied by before a curve begins.
    """

    psi: Array
    posterior: Posterior
    inflation: float = 1.0

    def before(self, x: Array) -> tuple[float, float]:
        """Mean and variance of the end of a curve at ``x`` ``(d,)`` before it begins."""
        mean, sd = self.posterior.predict(x[None])
        return float(mean[0]), self.inflation * (float(sd[0]) ** 2 + self.posterior.noise)

    def end(self, x: Array, curve: Curve) -> tuple[float, float]:
        """Mean and variance of the end of a curve, not one of the model's, that began like this.

        Args:
            x: Its coordinates, shape ``(d,)``.
            curve: What is known of it.
        """
        mean, variance = self.before(x)
        if not len(curve.s):
            return mean, variance
        seen = end_observations(grouped([curve]), self.psi)
        gain = variance / (variance + float(seen.variance[0]))
        return mean + gain * (float(seen.value[0]) - mean), (1 - gain) * variance

    def starts(self, count: int) -> tuple[Array, Array]:
        """What was to be expected of the latest curves before they began, given all others.

        Leave-one-out predictions (Rasmussen & Williams 2006, eq. 5.12).

        Args:
            count: How many of them.

        Returns:
            Means and variances of their ends, shape ``(count,)`` each, or fewer.
        """
        posterior = self.posterior
        precision = posterior.precision.diagonal()[-count:] / posterior.variance  # of K⁻¹
        alpha = posterior.alpha[-count:] / posterior.variance
        mean = posterior.y[-count:] - alpha / precision
        of_ends = 1 / precision - posterior.nugget[-count:] + posterior.noise
        return mean, self.inflation * np.maximum(of_ends, posterior.noise)


def condition_on_ends(
    ends: EndObservations,
    x: Array,
    choices: Integers | Kinds,
    fit: CurveFit,
    *,
    inflation: float = 1.0,
) -> CurveModel:
    """The model given what curves at ``x`` ``(n, d)`` say of their ends, or an active set of them.

    Args:
        ends: By the fit's hyperparameters (`end_observations`).
        x: The curves' coordinates, in order of their trials.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        fit: The hyperparameters.
        inflation: Factor of the variances of ends that are to be predicted.
    """
    chosen = active_set(x, ends.value, fit.hyper.lengthscale, MODEL_SIZE)
    nugget = fit.hyper.noise + ends.variance[chosen]
    posterior = condition(x[chosen], ends.value[chosen], choices, fit.hyper, nugget=nugget)
    return CurveModel(fit.psi, posterior, inflation)


def _covariance(x: Array, choices: Integers | Kinds, hyper: Hyper) -> Array:
    """K of ends at ``x``: the kernel of the parameters, with the noise on its diagonal."""
    embedded = Embedding.of(hyper.lengthscale, choices)(x)
    rho, _ = matern(distance(embedded, embedded))
    rho *= hyper.signal
    rho.flat[:: len(x) + 1] = hyper.signal + hyper.noise
    return rho
