"""Learning curves and their ends as one Gaussian process, at the cost of one row a curve.

Symbols: e_i the end of curve i, e ~ N(c, K) over all curves, K from the kernel of the parameters
with the noise of ends on its diagonal; curve i is y_i = a_i e_i + m_i + u_i with u_i ~ N(0, C_i)
(`curve_kernel`). Given the ends, curves are independent of each other, so that a whole curve says
of its end what one noisy observation of it does:

    H_i = aᵀC⁻¹a,   ê_i = aᵀC⁻¹(y_i − m)/H_i,   v_i = 1/H_i
    N(y_i; a e_i + m, C_i) = w_i N(ê_i; e_i, v_i)
    log w_i = −½ [(y_i−m)ᵀC⁻¹(y_i−m) − H_i ê_i² + log det C + log H_i + (t_i − 1) log 2π]

The posterior of the ends is that of the observations ê with noise v, in O(n³ + Σ t³), exactly the
one that a dense Gaussian process on all Σ t rows gives. Curves at the same steps share one
factorisation.

The gradient in ψ is by Fisher's identity ∂ log p(y) = E[∂ log p(y, e) | y], which needs of the
posterior of ends its marginals alone; the metric is the Fisher information of ends and curves
together (that of natural-gradient EM: Sato 2001), an upper bound of the curves' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fisherbo.geometry import lapack
from fisherbo.gp.curve_kernel import PRIOR_MEAN, PRIOR_SD, START, TimeStructure, time_structure
from fisherbo.gp.likelihood import Likelihood
from fisherbo.space import Array, Integers

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Curve:
    """One learning curve.

    Attributes:
        s: Times, 0 at the end and 1 at the first step, distinct, shape ``(t,)``.
        y: Finite values, shape ``(t,)``.
    """

    s: Array
    y: Array


@dataclass(frozen=True)
class CurveGroup:
    """Curves of the same times.

    Attributes:
        s: Times, shape ``(t,)``.
        index: Places of the curves among all, shape ``(g,)``.
        y: Values, shape ``(g, t)``.
    """

    s: Array
    index: Integers
    y: Array


@dataclass(frozen=True)
class EndObservations:
    """What each of ``n`` curves says of its own end.

    Attributes:
        value: ê, shape ``(n,)``.
        variance: v, shape ``(n,)``.
    """

    value: Array
    variance: Array

    def at_least(self, worst: float) -> EndObservations:
        """The same with values below ``worst`` at it."""
        return EndObservations(np.maximum(self.value, worst), self.variance)


def grouped(curves: Sequence[Curve]) -> tuple[CurveGroup, ...]:
    """Curves by their times."""
    members: dict[bytes, list[int]] = {}
    for i, curve in enumerate(curves):
        members.setdefault(curve.s.tobytes(), []).append(i)
    return tuple(
        CurveGroup(curves[index[0]].s, np.array(index), np.stack([curves[i].y for i in index]))
        for index in members.values()
    )


def end_observations(groups: Sequence[CurveGroup], psi: Array) -> EndObservations:
    """ê and v of all curves for hyperparameters ψ ``(10,)``.

    Raises:
        NumericalError: If a covariance is not positive definite even with jitter.
    """
    n = sum(len(group.index) for group in groups)
    value, variance = np.empty(n), np.empty(n)
    for group in groups:
        solved = _solve(group, psi)
        value[group.index], variance[group.index] = solved.ends, 1 / solved.precision
    return EndObservations(value, variance)


def end_variances(s: Array, psi: Array) -> Array:
    """Variance v of a curve known at the first 1, 2 … t of the times ``s`` ``(t,)``, ``(t,)``.

    By one factorisation: that of the first k rows is its upper left part.
    """
    time = time_structure(s, psi)
    whitened = lapack.solve_lower(lapack.cholesky(time.covariance), time.loading)
    variances: Array = 1 / np.cumsum(whitened * whitened)
    return variances


@dataclass(frozen=True)
class CurveLikelihood:
    """The negative log posterior density of ψ given curves, up to a constant, as a function of ψ.

    Attributes:
        groups: The curves.
        covariance: K of their ends, shape ``(n, n)``.
        mean: c of their ends.
    """

    groups: tuple[CurveGroup, ...]
    covariance: Array
    mean: float

    def __call__(self, psi: Array) -> Likelihood:
        """Its value, gradient and metric at ψ ``(10,)``.

        Raises:
            NumericalError: If a covariance is not positive definite even with jitter.
        """
        solved = [_solve(group, psi) for group in self.groups]
        value, ends, variance = self._ends(solved)
        z = (psi - PRIOR_MEAN) / PRIOR_SD
        value += 0.5 * float(z @ z) - sum(each.log_weight for each in solved)
        gradient, metric = z / PRIOR_SD, np.diag(PRIOR_SD**-2.0)
        for group, each in zip(self.groups, solved, strict=True):
            own, information = each.slopes(ends[group.index], variance[group.index])
            gradient += own
            metric += information
        return Likelihood(value, gradient, metric)

    def _ends(self, solved: Sequence[_Solved]) -> tuple[float, Array, Array]:
        """−log N(ê; c, K + V), and mean and variance of each end given all curves, ``(n,)``."""
        n = len(self.covariance)
        seen, v = np.empty(n), np.empty(n)
        for group, each in zip(self.groups, solved, strict=True):
            seen[group.index], v[group.index] = each.ends, 1 / each.precision
        gram = self.covariance.copy()
        gram.flat[:: n + 1] += v
        factor = lapack.cholesky(gram)
        inverse = lapack.inverse(factor)
        deviation = seen - self.mean
        alpha = inverse @ deviation
        value = 0.5 * (deviation @ alpha + lapack.log_determinant(factor) + n * _LOG_2PI)
        variance = np.maximum(v - v * v * inverse.diagonal(), 0.0)  # V − V (K + V)⁻¹ V
        return float(value), seen - v * alpha, variance


@dataclass(frozen=True)
class _Solved:
    """A group under one ψ: C⁻¹, what follows for its curves' ends, and log Π w."""

    time: TimeStructure
    inverse: Array
    residual: Array  # y − m, (g, t)
    precision: float  # H
    ends: Array  # ê, (g,)
    log_weight: float

    def slopes(self, ends: Array, variance: Array) -> tuple[Array, Array]:
        """Gradient of −E[log N(y; a e + m, C)] in ψ, and the information, over all curves.

        Args:
            ends: Means of the ends, shape ``(g,)``.
            variance: Their variances, shape ``(g,)``.
        """
        time, inverse, g = self.time, self.inverse, len(ends)
        rest = self.residual - ends[:, None] * time.loading
        scatter = rest.T @ rest + variance.sum() * np.outer(time.loading, time.loading)
        turned = inverse @ time.covariance_slopes  # C⁻¹ C_j
        excess = g * np.eye(len(inverse)) - inverse @ scatter
        by_covariance = 0.5 * np.einsum("jab,ba->j", turned, excess)
        pulled = rest.T @ ends - variance.sum() * time.loading
        by_loading = -time.loading_slopes @ (inverse @ pulled)
        by_mean = -time.basis @ (inverse @ rest.sum(0))
        information = np.zeros((len(PRIOR_MEAN), len(PRIOR_MEAN)))
        information[:START, :START] = 0.5 * g * np.einsum("jab,kba->jk", turned, turned)
        information[START:, START:] = self._of_means(ends, variance)
        return np.concatenate([by_covariance, by_loading, by_mean]), information

    def _of_means(self, ends: Array, variance: Array) -> Array:
        """E[Jᵀ C⁻¹ J] of the means' derivatives J = (a_b e, a_p e, h), shape ``(7, 7)``."""
        jacobian = np.concatenate([self.time.loading_slopes, self.time.basis])
        whole = jacobian @ self.inverse @ jacobian.T
        first, second = float(ends.sum()), float(ends @ ends + variance.sum())
        weights = np.full(whole.shape, float(len(ends)))
        weights[:2] = weights[:, :2] = first
        weights[:2, :2] = second
        return whole * weights


def _solve(group: CurveGroup, psi: Array) -> _Solved:
    time = time_structure(group.s, psi)
    factor = lapack.cholesky(time.covariance)
    inverse = lapack.inverse(factor)
    residual = group.y - time.mean
    weights = inverse @ time.loading
    precision = float(weights @ time.loading)
    ends = residual @ weights / precision
    whole = float(np.einsum("ga,ab,gb->", residual, inverse, residual))
    rest = whole - precision * float(ends @ ends)
    each = lapack.log_determinant(factor) + math.log(precision) + (len(group.s) - 1) * _LOG_2PI
    log_weight = -0.5 * (rest + len(ends) * each)
    return _Solved(time, inverse, residual, precision, ends, log_weight)
