"""How learning curves approach their ends: loading, mean and covariance in logarithmic time.

Symbols: τ time in steps, T the last step; s = log(T/τ)/log(T), 0 at the end and 1 at the first
step; e the end of a curve, its value at s = 0. A curve is

    y(s) = a(s) e + m(s) + g(s) + ε,        ε ~ N(0, τ²)

    a(s) = 1 − b s^p     how much of the differences between ends a curve shows already. Where all
                         curves begin at one value, b = 1; g cannot say this, since it is
                         independent of e
    m(s) = Σ_k β_k h_k(s)    mean of the deviation, piecewise linear, with m(0) = 0
    Cov(g(s), g(s')) = σ² √(s s') [ρ(s − s') − ρ(s) ρ(s')]    Matérn-3/2, conditioned on g(0) = 0

In logarithmic time, as in the freeze–thaw kernel (Swersky et al. 2014, eq. 10), curves change by
as much from step 1 to 2 as from 10 to 20; unlike there, g is pinned at the last step instead of at
infinity, since the value that a trial returns is the one at the last step. Curves settle: the
amplitude of g falls as √s. With the same amplitude for all s, fitted intervals of ends were half as
wide as they should be early in a curve, and twice as wide near its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fisherbo.gp.kernel import matern
from fisherbo.space import Array

KNOTS = np.array([0.1, 0.25, 0.5, 0.75, 1.0])
"""Where the mean deviation has its knots, in s."""

VARIANCE, SCALE, NOISE, START, POWER = range(5)
"""Places in ψ = (log σ², log ℓ, log τ², b, log p, β_1 … β_5)."""

PRIOR_MEAN = np.array([math.log(0.5), math.log(0.4), math.log(1e-3), 0.9, 0.2, *np.zeros(5)])
PRIOR_SD = np.array([0.7, 0.4, 1.5, 0.15, 0.25, *np.ones(5)])
"""Prior of ψ, independent and normal, for curves whose ends have a standard deviation of 1. Its
centre is what real curves have (TaskSet, LCBench). The deviations are smaller than theirs: two or
three complete curves that differ from the start must not make the model sure that all do."""

LOW = np.array([math.log(1e-4), math.log(0.05), math.log(1e-5), 0.0, math.log(0.3), *[-20.0] * 5])
HIGH = np.array([math.log(30.0), math.log(5.0), math.log(10.0), 0.98, math.log(4.0), *[20.0] * 5])
"""Bounds of ψ; b < 1, so that a first report says a little of its end whatever was fitted."""


@dataclass(frozen=True)
class TimeStructure:
    """The curve model at the times of one curve, with its derivatives in ψ.

    Attributes:
        loading: a, shape ``(t,)``.
        mean: m, shape ``(t,)``.
        covariance: Of ``g + ε``, shape ``(t, t)``.
        loading_slopes: Derivatives of a in b and log p, shape ``(2, t)``.
        basis: h, the derivatives of m in β, shape ``(5, t)``.
        covariance_slopes: Derivatives of the covariance in log σ², log ℓ, log τ², ``(3, t, t)``.
    """

    loading: Array
    mean: Array
    covariance: Array
    loading_slopes: Array
    basis: Array
    covariance_slopes: Array


def time_structure(s: Array, psi: Array) -> TimeStructure:
    """The curve model at times ``s`` ``(t,)`` in [0, 1] for hyperparameters ψ ``(10,)``."""
    variance, scale, noise = np.exp(psi[:START])
    start, power = psi[START], math.exp(psi[POWER])
    shape = s**power
    log_s = np.log(np.where(s > 0, s, 1.0))
    basis = _hats(s)
    r = math.sqrt(3.0) / scale
    between, between_slope = _correlation(r * np.abs(s[:, None] - s))
    ends, ends_slope = _correlation(r * s)
    amplitude = variance * np.sqrt(np.outer(s, s))
    pinned = amplitude * (between - np.outer(ends, ends))
    crossed = np.outer(ends, ends_slope)
    by_scale = amplitude * (between_slope - crossed - crossed.T)
    eye = noise * np.eye(len(s))
    return TimeStructure(
        loading=1 - start * shape,
        mean=psi[POWER + 1 :] @ basis,
        covariance=pinned + eye,
        loading_slopes=np.stack([-shape, -start * power * shape * log_s]),
        basis=basis,
        covariance_slopes=np.stack([pinned, by_scale, eye]),
    )


def log_time(steps: Array, first: float, last: float, unit: float) -> Array:
    """``s`` of steps ``(t,)``: 1 at the first, 0 from the last on.

    Args:
        steps: Steps as reported.
        first: The smallest step that curves report.
        last: The step at which curves end.
        unit: Typical distance of two reports, which counts as one step of time.
    """
    whole = (last - first) / unit + 1
    if whole <= 1:
        return np.zeros_like(steps)
    elapsed = np.clip((steps - first) / unit + 1, 1.0, whole)
    s: Array = np.log(whole / elapsed) / math.log(whole)
    return s


def _correlation(t: Array) -> tuple[Array, Array]:
    """``ρ = (1 + t) exp(−t)`` and its derivative in log ℓ, ``t² exp(−t)``."""
    rho, slope = matern(t)
    return rho, t * t * slope


def _hats(s: Array) -> Array:
    """Piecewise linear functions, 1 at one knot and 0 at the others and at 0, ``(5, t)``."""
    knots = np.append(0.0, KNOTS)
    return np.stack([np.interp(s, knots, row) for row in np.eye(len(knots))[1:]])
