"""A user's belief about where the optimum is, as a factor of the acquisition.

Symbols: x a point of the unit cube; π_j the believed density of the optimum's coordinate j and
r_j = π_j/u_j its ratio to the uniform one (`marginals`); ε the doubt, the probability that a belief
about one parameter is wrong; D the data; n their number; α the acquisition.

A wrong belief says nothing: its optimum has the uniform density. By Bayes' rule, with the optimum
x* distributed as the model sees it,

    c_j = P(belief j holds | D) = E[(1 − ε) r_j(x*) / ((1 − ε) r_j(x*) + ε) | D],

so that a parameter whose belief the data contradict loses it, and no other. Then

    log α(x) + (β/n) Σ_j log(c_j r_j(x_j) + 1 − c_j)

is maximised. The power β/n, with which any belief fades as evidence grows, is πBO's (Hvarfner et
al. 2022), which is the case c_j = 1. DynaBO (Fehring et al. 2025) rejects a belief as a
whole, by confidence bounds. x* is drawn by Thompson's rule from a finite set: points whose
coordinates are drawn from π_j or u_j, each with probability ½, and the best evaluated ones.

Metric of the ascent. A belief that is a location family has the Fisher information
I_j = E[(∂ log π_j/∂x_j)²], for a normal one 1/sd² and the negative Hessian of its logarithm. It is
added to the posterior's metric, (β/n) c_j I_j/λ₀ with λ₀ = 15 the ascent's first damping, so that
where only the belief matters the first step leads to its mode.

References: Hvarfner et al., πBO: augmenting acquisition functions with user beliefs, ICLR 2022.
Souza et al., Bayesian optimization with a prior for the optimum, ECML 2021.
Fehring et al., Dynamic priors in Bayesian optimization for hyperparameter optimization, 2025.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from fisherbo.acquisition.log_ehvi import non_dominated
from fisherbo.acquisition.marginals import Marginal, safe_log
from fisherbo.acquisition.regret import GAUSSIAN, draws
from fisherbo.gp.posterior import Posterior
from fisherbo.gp.protocol import Surrogate
from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array, Mask, Space

_DRAWS = 128
MOST_CREDENCE = 1 - 1e-12
_FIRST_DAMPING = 15.0  # of natural_ascent


@dataclass(frozen=True)
class BeliefOptions:
    """How a belief is used; the defaults were chosen by `experiments.priors --dev`.

    Attributes:
        power: β; the belief's logarithm is weighed by β/n. 0 ignores it after the design.
        doubt: ε, the probability that the belief about one parameter is wrong.
        tested: Whether the data may contradict it; πBO's plain decay if not.
        share: Of the first design that is drawn from the belief.
        pool: Drawn points among which the optimum is presumed, beside the best evaluated ones.
    """

    power: float = 3.0
    doubt: float = 0.2
    tested: bool = True
    share: float = 0.5
    pool: int = 128


@dataclass(frozen=True)
class Belief:
    """Independent beliefs about some of a space's coordinates.

    Attributes:
        space: The space.
        marginals: Beliefs, by coordinate.
    """

    space: Space
    marginals: Mapping[int, Marginal]

    @cached_property
    def columns(self) -> list[int]:
        """The coordinates that there is a belief about."""
        return sorted(self.marginals)

    @cached_property
    def information(self) -> Array:
        """``I_j``, 0 where there is no belief, shape ``(d,)``."""
        found = np.zeros(self.space.dimension)
        found[self.columns] = [self.marginals[j].information for j in self.columns]
        return found

    def log_ratios(self, x: Array) -> Array:
        """``log r_j`` at points ``(b, d)``; 0 for a coordinate that does not exist, ``(b, d)``."""
        found = np.zeros(x.shape)
        for j, marginal in self.marginals.items():
            found[:, j] = marginal.log_ratio(x[:, j])
        return np.where(self.space.exists(x), found, 0.0)

    def slopes(self, x: Array) -> Array:
        """``∂ log r_j/∂x_j`` at points ``(b, d)``, shape ``(b, d)``."""
        found = np.zeros(x.shape)
        for j, marginal in self.marginals.items():
            found[:, j] = marginal.slope(x[:, j])
        return np.where(self.space.exists(x), found, 0.0)

    def points(self, u: Array, chosen: Mask | bool = True) -> Array:
        """Points drawn from the belief by uniform numbers ``(b, d)``, on the grid, ``(b, d)``.

        Args:
            u: Uniform numbers.
            chosen: Coordinates that are drawn from the belief, if there is one, shape ``(b, d)``;
                the others are uniform.
        """
        x = self.space.spread(u)
        drawn = x.copy()
        for j, marginal in self.marginals.items():
            drawn[:, j] = marginal.quantile(u[:, j])
        return self.space.snap(np.where(chosen, drawn, x))

    def mode(self, x: Array) -> Array:
        """A point ``(d,)`` with its coordinates moved to the modes, on the grid."""
        moved = x.copy()
        moved[self.columns] = [self.marginals[j].mode for j in self.columns]
        return self.space.snap(moved)


@dataclass(frozen=True)
class BeliefFactor:
    """``power Σ_j log(c_j r_j + 1 − c_j)``, to be added to a log acquisition.

    Attributes:
        belief: r_j.
        credence: c_j, shape ``(d,)``.
        power: β/n.
    """

    belief: Belief
    credence: Array
    power: float

    def value(self, x: Array) -> Array:
        """At points ``(b, d)``, shape ``(b,)``."""
        found: Array = self.power * self._logs(self.belief.log_ratios(x)).sum(1)
        return found

    def evaluate(self, x: Array) -> LocalModel:
        """The same with its gradient and the belief's Fisher information."""
        ratios = self.belief.log_ratios(x)
        logs = self._logs(ratios)
        share = np.exp(safe_log(self.credence) + ratios - logs)  # c r/(c r + 1 − c)
        gradient = self.power * share * self.belief.slopes(x)
        diagonal = self.power / _FIRST_DAMPING * self.credence * self.belief.information
        factors = np.zeros((*x.shape, 0))
        return LocalModel(self.power * logs.sum(1), gradient, diagonal, factors)

    def _logs(self, ratios: Array) -> Array:
        """``log(c_j r_j + 1 − c_j)``, shape ``(b, d)``."""
        return np.logaddexp(safe_log(self.credence) + ratios, safe_log(1 - self.credence))


def credences(belief: Belief, points: Array, chance: Array, doubt: float) -> Array:
    """``c_j``, the probability that each belief holds, shape ``(d,)``; without one ``1 − doubt``.

    Args:
        belief: The belief.
        points: Points of which one is the optimum, shape ``(k, d)``.
        chance: Probability of each that it is, of sum 1, shape ``(k,)``.
        doubt: Probability that a belief is wrong, before any data.
    """
    log_odds = math.log(1 - doubt) - math.log(doubt)
    found: Array = chance @ expit(belief.log_ratios(points) + log_odds)
    return np.minimum(found, MOST_CREDENCE)


def chance_of_optimum(
    surrogates: Sequence[Surrogate], points: Array, allowed: Mask, rng: Generator
) -> Array | None:
    """How often each point is the best in draws of the objectives, shape ``(k,)``, of sum 1.

    With several objectives, the points that no other dominates share a draw.

    Args:
        surrogates: Models of the objectives, larger is better.
        points: The points, shape ``(k, d)``.
        allowed: Which of them may be the optimum, shape ``(k,)``.
        rng: Source of randomness.

    Returns:
        None if no point is allowed.
    """
    if not allowed.any():
        return None
    candidates = points[allowed]
    drawn = np.stack([_drawn(s, candidates, rng) for s in surrogates], -1)  # (draws, k, m)
    found = np.zeros(len(points))
    if len(surrogates) == 1:
        best = drawn[..., 0].argmax(1)
        found[allowed] = np.bincount(best, minlength=len(candidates)) / _DRAWS
        return found
    fronts = np.array([non_dominated(values) for values in drawn], dtype=np.float64)
    found[allowed] = (fronts / fronts.sum(1, keepdims=True)).mean(0)
    return found


def _drawn(surrogate: Surrogate, points: Array, rng: Generator) -> Array:
    """Draws of f, ``(draws, k)``: joint ones of our model, independent ones of any other."""
    if isinstance(surrogate, Posterior):
        return draws(surrogate, points, _DRAWS, rng, GAUSSIAN)
    mean, sd = surrogate.predict(points)
    return mean + sd * rng.standard_normal((_DRAWS, len(points)))
