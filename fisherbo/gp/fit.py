"""Kernel hyperparameters by natural-gradient ascent to the maximum of their posterior density.

Symbols: θ = (log ℓ_1 … log ℓ_d, log σ², log τ²); g and H gradient and information of −log p(θ|y).
The mode depends on the measure: θ and its normal prior are stated in log space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from fisherbo.geometry.lapack import solve
from fisherbo.geometry.trust_region import by_agreement, free_in_box, held
from fisherbo.gp.hyper import NOISE_FLOOR, Hyper, Prior
from fisherbo.gp.kernel import turned
from fisherbo.gp.likelihood import Likelihood, MarginalLikelihood
from fisherbo.gp.replicates import merged
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers

_LENGTH_BOUNDS = (math.log(5e-3), math.log(1e3))
_SIGNAL_BOUNDS = (math.log(1e-3), math.log(1e3))
_NOISE_BOUNDS = (math.log(NOISE_FLOOR), math.log(10.0))
_DAMPING, _SHRINK, _GROW = 0.3, 0.3, 8.0


def fit(
    x: Array,
    y: Array,
    choices: Integers | Kinds,
    starts: Iterable[Hyper] = (),
    *,
    known: Array | None = None,
    max_steps: int = 50,
    tolerance: float = 0.01,
) -> Hyper:
    """Hyperparameters of highest posterior density that natural steps reach from any of the starts.

    See `mode`.
    """
    found = mode(x, y, choices, starts, known=known, max_steps=max_steps, tolerance=tolerance)
    return found[0]


def mode(
    x: Array,
    y: Array,
    choices: Integers | Kinds,
    starts: Iterable[Hyper] = (),
    *,
    known: Array | None = None,
    rotation: Array | None = None,
    max_steps: int = 50,
    tolerance: float = 0.01,
) -> tuple[Hyper, float]:
    """Hyperparameters of highest posterior density that are reached, and the density there.

    The density is given as its negative logarithm, in nats, up to a constant that is the same for
    all rotations.

    Args:
        x: Coordinates, shape ``(n, d)``.
        y: Standardised values, shape ``(n,)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        starts: Starting points; default: the prior's mode.
        known: Noise variance of each observation beside τ², shape ``(n,)``; 0 if None.
        rotation: ``R`` of the kernel, whatever that of the starts is.
        max_steps: Limit for each start.
        tolerance: Predicted gain, in nats, below which a step is the last.
    """
    likelihood = MarginalLikelihood(merged(turned(x, rotation), y, known), choices)
    prior = Prior.for_dimension(len(choices))

    def loss(theta: Array) -> Likelihood:
        return with_prior(likelihood(theta), prior, theta)

    thetas = [hyper.to_vector() for hyper in starts] or [prior.mean]
    bounds = _bounds(len(choices))
    reached = [descend(loss, theta, bounds, max_steps, tolerance) for theta in thetas]
    theta, value = min(reached, key=lambda r: r[1])
    return Hyper.from_vector(theta, rotation), value


def with_prior(likelihood: Likelihood, prior: Prior, theta: Array) -> Likelihood:
    """The negative log posterior density at ``θ`` up to a constant, from the likelihood's."""
    z = (theta - prior.mean) / prior.sd
    return Likelihood(
        likelihood.value + 0.5 * float(z @ z),
        likelihood.gradient + z / prior.sd,
        likelihood.information + np.diag(prior.sd**-2.0),
    )


def descend(
    loss: Callable[[Array], Likelihood],
    theta: Array,
    bounds: tuple[Array, Array],
    max_steps: int,
    tolerance: float,
) -> tuple[Array, float]:
    """Where damped natural steps from ``θ`` end within bounds, and the loss there.

    The damping λ follows Levenberg and Marquardt's rule. A step with a predicted gain below the
    tolerance is taken without a test, and is the last. If clipping at a bound has made the step an
    ascent direction, it is rejected and the damping grows: the step approaches steepest descent in
    the metric's diagonal, which remains a descent direction after clipping.
    """
    low, high = bounds
    theta, lam = np.clip(theta, low, high), _DAMPING
    here = loss(theta)
    for _ in range(max_steps):
        step, promised = _natural_step(here, theta, low, high, lam)
        if promised <= 0 and step.any():
            lam *= _GROW
            continue
        if (1 + lam) * promised < tolerance:
            return theta + step, here.value - promised
        there = loss(theta + step)
        gain = here.value - there.value
        lam *= float(by_agreement(gain, promised, _SHRINK, _GROW))
        if gain > 0:
            theta, here = theta + step, there
    return theta, here.value


def _natural_step(
    here: Likelihood, theta: Array, low: Array, high: Array, lam: float
) -> tuple[Array, float]:
    """``s = −(H + λ diag H)⁻¹ g`` within bounds, and the gain ``−gᵀs − ½ sᵀ(H + λ diag H)s``.

    Coordinates held at a bound are removed from the metric as well.
    """
    gradient = here.gradient
    free = free_in_box(-gradient, theta, low, high)
    damped = here.information * (1 + lam * np.eye(len(theta)))
    metric = held(damped, free)
    whole = solve(metric, np.where(free, -gradient, 0.0))
    step = np.clip(theta + whole, low, high) - theta
    return step, -float(gradient @ step + 0.5 * (step @ metric @ step))


def _bounds(d: int) -> tuple[Array, Array]:
    """Least and largest ``θ`` for ``d`` coordinates, each of shape ``(d + 2,)``."""
    low, high = np.array([*[_LENGTH_BOUNDS] * d, _SIGNAL_BOUNDS, _NOISE_BOUNDS]).T
    return low, high
