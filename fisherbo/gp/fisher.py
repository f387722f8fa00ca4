"""Fisher metrics of the posterior on the space of candidates, and metrics to compare them with.

Symbols
    μ, s        posterior mean and standard deviation of f at a candidate x
    σ², τ²      prior variance of f; noise variance of the next observation y
    v           s² + τ², the variance of y; its standard deviation is √v
    Λ           prior covariance of ∇f: c σ²/ℓ_j² on its diagonal; A Aᵀ where the kernel is rotated
    p           the predictive density of y at x, N(μ, v)
    η, T, A     natural parameters of p, its sufficient statistics, its log-partition function
    F           Fisher information of p in η, ∇²A
    a           log acquisition, log E_p[u(y)], where u ≥ 0 is the improvement or feasibility
    q           u p / E_p[u]: the predictive density weighted by what is gained
    g           ∇a
    G           the posterior's metric at x

The posterior's metric. A candidate stands for the predictive distribution of its next observation.
In (μ, v) the Fisher information of a normal distribution is diag(1/v, 1/(2v²)) (Amari 2016).
Pulled back along x ↦ (μ, v), with ∇v = 2s∇s,

    G = ∇μ∇μᵀ/v + ∇v∇vᵀ/(2v²) = (∇μ∇μᵀ + 2 (s²/v) ∇s∇sᵀ)/v,
    KL(p_x ‖ p_(x+δ)) = ½ δᵀGδ + O(δ³).

The familiar (∇μ∇μᵀ + 2∇s∇sᵀ)/s² is the case without noise. With noise the second term has the
gradient of √v, not that of s: s∇s is finite where s vanishes at an observation, ∇s is not. The
rank is at most two. Observations of independent models (several objectives, constraints) have a
joint predictive density that is a product, so their metrics add.

Why it suits a log acquisition. With p(y) = exp(ηᵀT(y) − A(η)),

    a = log ∫ u(y) exp(ηᵀT(y)) dy − A(η),       −∇²_η a = F − Cov_q[T]:

minus a is a difference of two convex functions. The generalised Gauss–Newton matrix of −a(η(x))
drops ∇²_x η and keeps a positive semi-definite part of −∇²_η a (Schraudolph 2002; Martens 2020).
Keeping F gives (∂η/∂x)ᵀ F (∂η/∂x) = G, which does not depend on the parametrisation of p. The
omitted part, Cov_q[T] ⪰ 0, is the missing information of Orchard & Woodbury (1972). By Jensen's
inequality

    a(η') ≥ a(η) + E_q[log p(y | η') − log p(y | η)],

and −F is the Hessian of the right-hand side, so that F⁻¹∇_η a is the Newton step of EM's M step
(Dempster, Laird & Rubin 1977), and that M step itself in the mean parameters E_p[T]. Where u is a
function of f rather than of y, p has s² in place of v and its information is larger, since f is at
least as informative as y. The metric is that of y in both cases, since it is finite at the data.

Damping. G has rank two, and ∇²_x η is not in it. The metric of an ascent is

    M = G/300 + D,       D = Λ/(σ² + τ²):

before any data, ∇f∇fᵀ has the expectation Λ and y the variance σ² + τ². D is the same everywhere,
and in units of the lengthscales a multiple of the identity. By Woodbury's identity a natural
gradient costs O(d) (`fisherbo.geometry.lowrank`).

The step is M⁻¹g/λ, with λ the multiplier of a trust region in M (`fisherbo.optimize.descent`). As a
Gauss–Newton method, G + λD, it is slow, as EM is where much is missing: F ⪰ −∇²_η a bounds the
curvature from above only. At a maximum inside the cube ∇μ and ∇s are collinear and −a has no
positive curvature along them in (μ, s). The curvature in x then comes from ∇²μ and ∇²s alone, and G
may exceed it by any factor. The control "gauss-newton" of `experiments.ascent` shows the cost. The
factor 300 was chosen on other seeds of the problems there: with 30 and 100 ascents take slightly
more steps, with 1 and 10 many more; without G they end lower.

The score's metric, g gᵀ + .4 λ Λ/σ², is a control. By Sherman and Morrison's formula its step is
parallel to Λ⁻¹g: steepest ascent in units of the lengthscales. In the median its ascents end within
.01 nats of those in M.

For comparison, of full rank: the expected information of y about x, (∇μ∇μᵀ + Cov(∇f | D))/τ² (Tosi
et al. 2014); far from the data Cov(∇f | D) is Λ.

References: Amari, Information Geometry and Its Applications, 2016. Martens, JMLR 21(146), 2020.
Schraudolph, Neural Computation 14, 2002. Orchard & Woodbury, Proc. 6th Berkeley Symposium, 1972.
Dempster, Laird & Rubin, JRSS B 39, 1977. Tosi, Hauberg, Vellido & Lawrence, UAI 2014.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from fisherbo.gp.posterior import Posterior, Prediction
from fisherbo.gp.protocol import Surrogate
from fisherbo.space import Array

Parts = tuple[Array, Array | None, Array | None]
"""``w``, ``U`` and ``D`` of a metric ``U Uᵀ + D``.

``w``, the diagonal of D, of shape ``(d,)`` or ``(b, d)``; ``U``, of shape ``(b, d, r)``, None for
the score; ``D``, of shape ``(d, d)``, None where it is diagonal: where no kernel is rotated.
"""

MetricRule = Callable[[Surrogate, Array, Prediction], Parts]
"""A model, points ``(b, d)`` and its marginals there, to the parts of a metric."""


_WEIGHT = 1 / 300
_SCORE_WEIGHT = 0.4  # so that the ascents' first damping suits this metric too


def posterior_metric(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    """``D``, and ``U`` of shape ``(b, d, 2)`` with ``U Uᵀ = G/300``."""
    factors = fisher_factors(surrogate, at, _WEIGHT)
    diagonal, matrix = _prior(surrogate, surrogate.variance + surrogate.noise)
    return diagonal, factors, matrix


def score_metric(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    """``.4 Λ/σ²``, and None: the score's outer product."""
    diagonal, matrix = _prior(surrogate, surrogate.variance / _SCORE_WEIGHT)
    return diagonal, None, matrix


def gauss_newton_metric(surrogate: Surrogate, factors: Array) -> Parts:
    """An acquisition's own ``U``, ``(b, d, r)``, and D's diagonal, which only damps it here."""
    return prior_metric(surrogate), factors, None


def margin_gradient(at: Prediction, sd: Array, sd_gradient: Array, z: Array) -> Array:
    """``∇z`` of the margin ``z = (μ − c)/s`` at ``b`` points, shape ``(b, d)``.

    Args:
        at: Marginals, with ∇μ.
        sd: s, shape ``(b,)``.
        sd_gradient: ∇s, shape ``(b, d)``.
        z: The margin, shape ``(b,)``.
    """
    return (at.mean_gradient - z[:, None] * sd_gradient) / sd[:, None]


def fisher_factors(surrogate: Surrogate, at: Prediction, weight: float = 1.0) -> Array:
    """``U`` with ``U Uᵀ = weight · G``, shape ``(b, d, 2)``.

    Args:
        surrogate: The model.
        at: Its marginals at ``b`` points.
        weight: A positive factor.
    """
    by_mean = np.sqrt(weight / (at.sd * at.sd + surrogate.noise))  # √(weight/v)
    by_sd = by_mean * by_mean * at.sd * math.sqrt(2 / weight)  # √(2 weight) s/v
    factors = np.empty((*at.mean_gradient.shape, 2))
    np.multiply(at.mean_gradient, by_mean[:, None], out=factors[..., 0])
    np.multiply(at.sd_gradient, by_sd[:, None], out=factors[..., 1])
    return factors


def prior_metric(surrogate: Surrogate) -> Array:
    """The diagonal of ``D = Λ/(σ² + τ²)``, shape ``(d,)``: all of it where nothing is rotated."""
    return surrogate.gradient_variance / (surrogate.variance + surrogate.noise)


def _prior(surrogate: Surrogate, unit: float) -> tuple[Array, Array | None]:
    """The diagonal of ``Λ/unit``, and the matrix, or None where there is nothing else in it."""
    axes = surrogate.gradient_axes
    return surrogate.gradient_variance / unit, None if axes is None else axes @ axes.T / unit


def joint_metric(parts: Sequence[Parts]) -> Parts:
    """The parts of a sum of metrics, of independent models; the score's if one of them is."""
    diagonals, factors, matrices = zip(*parts, strict=True)
    some = [u for u in factors if u is not None]
    joined = np.concatenate(some, -1) if len(some) == len(factors) else None
    whole = None
    if any(m is not None for m in matrices):
        pairs = zip(diagonals, matrices, strict=True)
        whole = reduce(np.add, (np.diag(w) if m is None else m for w, m in pairs))
    return reduce(np.add, diagonals), joined, whole


def pull_back_metric(surrogate: Surrogate, points: Array) -> Array:
    """``G`` at points ``(b, d)``, shape ``(b, d, d)``, rank ≤ 2."""
    factors = fisher_factors(surrogate, surrogate.predict_with_gradient(points))
    return factors @ factors.mT


def damped_metric(surrogate: Surrogate, points: Array, damping: float) -> Array:
    """``G + damping · D`` at points ``(b, d)``, shape ``(b, d, d)``."""
    diagonal, matrix = _prior(surrogate, surrogate.variance + surrogate.noise)
    prior = np.diag(diagonal) if matrix is None else matrix
    return pull_back_metric(surrogate, points) + damping * prior


def expected_metric(posterior: Posterior, points: Array) -> Array:
    """``(∇μ∇μᵀ + Cov(∇f | D))/τ²`` at points ``(b, d)``, shape ``(b, d, d)``, full rank.

    Its block of categorical coordinates is zero: f has no gradient along them.
    """
    gradient = posterior.predict_with_gradient(points).mean_gradient
    outer = gradient[:, :, None] * gradient[:, None, :]
    return (outer + posterior.gradient_covariance(points)) / posterior.hyper.noise
