"""The fitted model of learning curves: where a curve ends, given its parameters and its beginning.

The ends are a Gaussian process of the parameters (`gp.posterior`), of which each curve is one
observation with its own noise (`curves`). Hyperparameters of ends and of curves are fitted in turn,
each by damped natural steps to the maximum of their posterior density given the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fisherbo.gp.curve_kernel import HIGH, LOW, PRIOR_MEAN
from fisherbo.gp.curves import Curve, CurveLikelihood, end_observations, grouped
from fisherbo.gp.fit import descend, mode
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.posterior import Posterior, condition
from fisherbo.gp.subset import active_set
from fisherbo.space import Array, Integers

MODEL_SIZE = 256
"""Most curves that a model is conditioned on: a decision is due after every training step."""

_FIT_SIZE = 96
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
    curves: Sequence[Curve], x: Array, choices: Integers, last: CurveFit | None = None
) -> CurveFit:
    """Hyperparameters of curves and their ends, from the last ones or the priors' modes.

    Args:
        curves: Of trials in their order.
        x: Their coordinates, shape ``(n, d)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        last: An earlier fit to start from.
    """
    d = len(choices)
    psi = PRIOR_MEAN if last is None else last.psi
    hyper = prior_mode(d) if last is None else last.hyper
    chosen = _chosen(curves, x, psi, hyper, _FIT_SIZE)
    part, x = grouped([curves[i] for i in chosen]), x[chosen]
    for _ in range(2 if last is None else 1):
        likelihood = CurveLikelihood(part, _covariance(x, choices, hyper), 0.0)
        psi, _ = descend(likelihood, psi, (LOW, HIGH), _MOST_STEPS, _TOLERANCE)
        seen = end_observations(part, psi)
        hyper, _ = mode(x, seen.value, choices, [hyper], known=seen.variance)
    return CurveFit(len(curves), psi, hyper)


@dataclass(frozen=True)
class CurveModel:
    """Where curves end.

    Attributes:
        psi: Hyperparameters of the curves.
        posterior: Of the ends as a function of the parameters, given all curves.
    """

    psi: Array
    posterior: Posterior

    def before(self, x: Array) -> tuple[float, float]:
        """Mean and variance of the end of a curve at ``x`` ``(d,)`` before it begins."""
        mean, sd = self.posterior.predict(x[None])
        return float(mean[0]), float(sd[0]) ** 2 + self.posterior.noise

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


def condition_on_curves(
    curves: Sequence[Curve], x: Array, choices: Integers, fit: CurveFit
) -> CurveModel:
    """The model given curves at ``x`` ``(n, d)``, or an active set of them.

    Args:
        curves: The curves.
        x: Their coordinates.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        fit: The hyperparameters.
    """
    chosen = _chosen(curves, x, fit.psi, fit.hyper, MODEL_SIZE)
    seen = end_observations(grouped([curves[i] for i in chosen]), fit.psi)
    nugget = fit.hyper.noise + seen.variance
    posterior = condition(x[chosen], seen.value, choices, fit.hyper, nugget=nugget)
    return CurveModel(fit.psi, posterior)


def _chosen(curves: Sequence[Curve], x: Array, psi: Array, hyper: Hyper, size: int) -> Integers:
    """Indices, ascending, of at most so many curves: the active set by what they say of ends."""
    if len(curves) <= size:
        return np.arange(len(curves))
    seen = end_observations(grouped(curves), psi)
    return active_set(x, seen.value, hyper.lengthscale, size)


def _covariance(x: Array, choices: Integers, hyper: Hyper) -> Array:
    """K of ends at ``x``: the kernel of the parameters, with the noise on its diagonal."""
    embedded = Embedding.of(hyper.lengthscale, choices)(x)
    rho, _ = matern(distance(embedded, embedded))
    rho *= hyper.signal
    rho.flat[:: len(x) + 1] = hyper.signal + hyper.noise
    return rho
