"""Expected hypervolume improvement of several objectives, on BoTorch's box decompositions.

Symbols: objectives f_1 … f_m, larger is better, independent N(μ_j, s_j²) at a point; the region
that no point of a front dominates is cut into cells [l_k, u_k], with ν_j(a) = E[max(f_j − a, 0)]:
    EHVI = Σ_k Π_j D_kj,   D_kj = ν_j(l_kj) − ν_j(u_kj)   (Yang et al. 2019; Daulton et al. 2020).
All in logarithms: log D = log ν(l) + log(1 − r), r = ν(u)/ν(l), and a sum over cells that neither
under- nor overflows, so that there is a gradient however far from the front. In derivatives
∂log D = (∂log ν(l) − r ∂log ν(u))/(1 − r).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fisherbo.acquisition.log_ei import log_expected_improvement
from fisherbo.gp.fisher import MetricRule, joint_metric, posterior_metric
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array, Integers, Mask

_MOST_POINTS = {2: 128, 3: 48, 4: 24}
_LEAST_RANGE = 1e-7
_CHUNK = 2_000_000  # numbers of a batch at a time
_LEAST_RATIO = 1e-14


@dataclass(frozen=True)
class Cells:
    """Cells of a region, by the values at which they are cut.

    Attributes:
        edges: Values of each objective, ascending, the last one infinite: ``m`` arrays ``(e_j,)``.
        pairs: Intervals of each objective as indices of its edges: ``m`` arrays ``(p_j, 2)``.
        cell: The interval of each objective that a cell has, shape ``(k, m)``.
    """

    edges: tuple[Array, ...]
    pairs: tuple[Integers, ...]
    cell: Integers

    @staticmethod
    def of(low: Array, high: Array) -> Cells:
        """From bounds of shape ``(k, m)``; the upper ones may be infinite."""
        solid = (high > low).all(1)
        edges, pairs, cell = [], [], []
        for lower, upper in zip(low[solid].T, high[solid].T, strict=True):
            values = np.unique(np.concatenate([lower, upper, [np.inf]]))
            ends = np.stack([np.searchsorted(values, lower), np.searchsorted(values, upper)], 1)
            found, index = np.unique(ends, axis=0, return_inverse=True)
            edges.append(values)
            pairs.append(found)
            cell.append(index.reshape(-1))
        return Cells(tuple(edges), tuple(pairs), np.stack(cell, 1))

    def up_to(self, ceiling: Array) -> Cells:
        """The part of the region below ``ceiling`` ``(m,)``; all of it if there is none."""
        columns = zip(self.edges, self.pairs, self.cell.T, strict=True)
        bounds = np.stack([edges[pairs[index]] for edges, pairs, index in columns], 1)
        low, high = bounds[..., 0], np.minimum(bounds[..., 1], ceiling)
        return Cells.of(low, high) if (high > low).all(1).any() else self


@dataclass(frozen=True)
class HypervolumeImprovement:
    """Log expected hypervolume improvement.

    Attributes:
        surrogates: Models of each objective, larger is better.
        cells: What the front does not dominate.
        metric: Metric of the natural-gradient ascent, summed over the objectives.
    """

    surrogates: tuple[Surrogate, ...]
    cells: Cells
    metric: MetricRule = posterior_metric

    def value(self, x: Array) -> Array:
        """Log expected hypervolume improvement at points ``(b, d)``, shape ``(b,)``."""
        moments = [s.predict(x) for s in self.surrogates]
        mean = np.stack([mean for mean, _ in moments], 1)
        return log_hypervolume_improvement(mean, np.stack([s for _, s in moments], 1), self.cells)

    def evaluate(self, x: Array) -> LocalModel:
        """The same with gradient and metric."""
        parts = [s.predict_with_gradient(x) for s in self.surrogates]
        mean, sd = np.stack([p.mean for p in parts], 1), np.stack([p.sd for p in parts], 1)
        value, by_mean, by_sd = hypervolume_improvement_gradient(mean, sd, self.cells)
        gradient = np.zeros_like(x)
        for j, p in enumerate(parts):
            gradient += p.gradient(by_mean[:, j], by_sd[:, j])
        pairs = zip(self.surrogates, parts, strict=True)
        metric = joint_metric([self.metric(s, x, at) for s, at in pairs])
        return LocalModel(value, gradient, *metric)


def log_hypervolume_improvement(mean: Array, sd: Array, cells: Cells) -> Array:
    """``log EHVI`` for means and deviations of shape ``(b, m)``, shape ``(b,)``."""
    size = max(1, _CHUNK // cells.cell.size)
    parts = [
        _sum_over_cells(_factors(mean[i : i + size], sd[i : i + size], cells)[0], cells)[0]
        for i in range(0, len(mean), size)
    ]
    return np.concatenate(parts)


def hypervolume_improvement_gradient(
    mean: Array, sd: Array, cells: Cells
) -> tuple[Array, Array, Array]:
    """``log EHVI`` and its derivatives in means and deviations, ``(b,)``, ``(b, m)`` twice."""
    factors, by_mean, by_sd = _factors(mean, sd, cells)
    value, terms = _sum_over_cells(factors, cells)
    weight = np.exp(terms - value[:, None])  # (b, k), of sum 1

    def expected(slopes: list[Array]) -> Array:
        each = (slope[:, cells.cell[:, j]] for j, slope in enumerate(slopes))
        return np.stack([np.einsum("bk,bk->b", weight, slope) for slope in each], 1)

    return value, expected(by_mean), expected(by_sd)


def _factors(mean: Array, sd: Array, cells: Cells) -> tuple[list[Array], list[Array], list[Array]]:
    """``log D`` of every interval and its derivatives: lists of ``m`` arrays ``(b, p_j)``."""
    made = [
        _interval(mean[:, j, None], sd[:, j, None], cells.edges[j], cells.pairs[j])
        for j in range(mean.shape[1])
    ]
    value, by_mean, by_sd = zip(*made, strict=True)
    return list(value), list(by_mean), list(by_sd)


def _interval(mean: Array, sd: Array, edges: Array, pairs: Integers) -> tuple[Array, Array, Array]:
    finite = log_expected_improvement(mean, sd, edges[:-1])
    nothing = (-np.inf, 0.0, 0.0)  # above the infinite edge
    value, by_mean, by_sd = (
        np.concatenate([part, np.full((len(mean), 1), none)], 1)
        for part, none in zip(finite, nothing, strict=True)
    )
    low, high = pairs.T
    gap = np.maximum(value[:, low] - value[:, high], _LEAST_RATIO)
    ratio, rest = np.exp(-gap), -np.expm1(-gap)
    return (
        value[:, low] + np.log(rest),
        (by_mean[:, low] - ratio * by_mean[:, high]) / rest,
        (by_sd[:, low] - ratio * by_sd[:, high]) / rest,
    )


def _sum_over_cells(factors: list[Array], cells: Cells) -> tuple[Array, Array]:
    """``log Σ_k Π_j D_kj`` and its terms, shapes ``(b,)`` and ``(b, k)``."""
    terms = factors[0][:, cells.cell[:, 0]]
    for j in range(1, len(factors)):
        terms = terms + factors[j][:, cells.cell[:, j]]
    largest = terms.max(1)
    return largest + np.log(np.exp(terms - largest[:, None]).sum(1)), terms


def improvement_over(
    surrogates: tuple[Surrogate, ...],
    values: Array,
    decompose: Callable[[Array, Array], Cells],
    *,
    bounded: bool = False,
) -> HypervolumeImprovement:
    """The improvement on a non-empty set of values ``(n, m)``.

    Args:
        surrogates: Models of each objective.
        values: Values or means at evaluated points.
        decompose: From points ``(p, m)`` and a reference point ``(m,)`` to the cells of what is
            better than the reference and not dominated by the points.
        bounded: Whether an improvement counts up to the best value of each objective only. Beyond
            it, a gain of δ is worth δ times the area that the front covers in the other objectives,
            so that a search of three objectives spends most trials at the extremes.
    """
    front = values[non_dominated(values)]
    cells = decompose(spread_out(front), wide_reference_point(values))
    return HypervolumeImprovement(surrogates, cells.up_to(front.max(0)) if bounded else cells)


def wide_reference_point(values: Array) -> Array:
    """Reference point of values ``(n, m)``, at most the worst of each objective.

    A reference point just below the front would end the search for a trade-off as soon as one point
    dominates all others.
    """
    return np.minimum(reference_point(values[non_dominated(values)]), values.min(0))


def non_dominated(values: Array) -> Mask:
    """Which of the values ``(n, m)`` no other one beats; the first of equal ones."""
    best = np.ones(len(values), dtype=bool)
    for i in np.argsort(-values.sum(1), kind="stable").tolist():
        if best[i]:
            beaten = (values <= values[i]).all(1)
            beaten[i] = False
            best &= ~beaten
    return best


def reference_point(front: Array) -> Array:
    """The nadir less a tenth of the range, as BoTorch infers it (Ishibuchi et al. 2011)."""
    nadir = front.min(0)
    width = np.abs(front[0]) if len(front) == 1 else front.max(0) - nadir
    return nadir - 0.1 * np.maximum(width, _LEAST_RANGE)


def spread_out(front: Array) -> Array:
    """At most as many points of a front ``(p, m)`` as cells may be made of, far from each other."""
    p, m = front.shape
    count = _MOST_POINTS.get(m, _MOST_POINTS[4])
    if p <= count:
        return front
    scaled = (front - front.min(0)) / np.maximum(np.ptp(front, axis=0), _LEAST_RANGE)
    chosen = list(dict.fromkeys(scaled.argmax(0).tolist()))
    distance = np.linalg.norm(scaled[:, None] - scaled[chosen], axis=-1).min(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=-1))
    return front[np.sort(chosen)]
