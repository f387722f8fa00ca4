"""When to stop a trial that could be stopped later too: optimal stopping by dynamic programming.

Symbols: e the end of a trial, larger is better; after t steps e ~ N(μ_t, v_t); b the best end so
far; λ what a step is worth. In a Gaussian model v_t does not depend on what is observed, and the
mean moves as μ_u ~ N(μ_t, v_t − v_u) from step t to u, so that the expected gain of going on is
(Bellman's equation)

    W_t(μ) = max(0, −λ (u − t) + E[W_u(μ_u) | μ_t = μ]),     W_T(μ) = E[max(0, e − b)]

with u the next step at which the trial may be stopped, and T the last. λ is the gain per step of
starting another trial instead: that at which a start is worth nothing, which is the best average
gain per step of any rule that starts trials and stops them (renewal reward: Ross 1996, §3.6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from fisherbo.acquisition.log_ei import log_expected_improvement
from fisherbo.space import Array

_STEPS = 16  # of the grid of means in a standard deviation
_REACH = 5  # standard deviations of the grid on both sides of b
_FARTHEST = 6  # standard deviations of a move
_LEAST_SD = 1e-9
_LEAST_RATE = 1e-6  # as a share of the largest


@dataclass(frozen=True)
class Stages:
    """The steps at which a trial may be stopped: now, and at every later stage.

    Attributes:
        cost: Steps from each stage to the next, shape ``(k,)``.
        variance: Of the end, now and at each later stage, falling, > 0 now, shape ``(k + 1,)``.
        best: b.
    """

    cost: Array
    variance: Array
    best: float

    def gain(self, mean: Array, rate: float) -> Array:
        """Expected gain of going on to the next stage, in units of ends; negative: stop.

        Args:
            mean: Means of the end now, shape ``(m,)``.
            rate: λ.
        """
        worth = expected_improvement(self._grid, float(self.variance[-1]), self.best)
        for cost, moves in zip(self.cost[:0:-1], self._moves[:0:-1], strict=True):
            worth = np.maximum(self._expected(worth, moves) - rate * cost, 0.0)
        going = self._expected(worth, self._moves[0])
        inside: Array = np.interp(mean, self._grid, going, left=0.0)
        beyond: Array = np.maximum(mean - self._grid[-1], 0.0)
        gains: Array = inside + beyond - rate * float(self.cost[0])
        return gains

    @cached_property
    def _grid(self) -> Array:
        count = _STEPS * _REACH
        unit = math.sqrt(self.variance[0]) / _STEPS
        grid: Array = self.best + unit * np.arange(-count, count + 1, dtype=np.float64)
        return grid

    @cached_property
    def _moves(self) -> list[Array]:
        """Distributions of the mean's move from each stage to the next, on the grid's steps."""
        falls = np.maximum(-np.diff(self.variance), 0.0)
        return [_on_grid(_STEPS * math.sqrt(fall / self.variance[0])) for fall in falls]

    def _expected(self, worth: Array, moves: Array) -> Array:
        """Expectations before a move; 0 below the grid, a slope of 1 above it."""
        reach = len(moves) // 2
        unit = self._grid[1] - self._grid[0]
        above = worth[-1] + unit * np.arange(1, reach + 1)
        return np.convolve(np.concatenate([np.zeros(reach), worth, above]), moves, mode="valid")


def _on_grid(sd: float) -> Array:
    """A normal move of mean 0 as moves by whole numbers, shape ``(2r + 1,)``.

    Its expectations of functions that are linear between whole numbers are exact: the weight of k
    is the second difference of ``E[max(0, k − Z)]``.
    """
    reach = math.ceil(_FARTHEST * sd) + 1
    whole = np.arange(-reach - 1.0, reach + 2)
    weights = np.maximum(np.diff(expected_improvement(whole, sd * sd, 0.0), 2), 0.0)
    total: Array = weights / weights.sum()
    return total


def expected_improvement(mean: Array, variance: float, best: float) -> Array:
    """``E[max(0, e − b)]`` for means ``(m,)`` of a normal e, shape ``(m,)``."""
    sd = np.full(len(mean), max(math.sqrt(variance), _LEAST_SD))
    improvement: Array = np.exp(log_expected_improvement(mean, sd, best)[0])
    return improvement


def start_rate(starts: Sequence[tuple[Stages, Array]]) -> float:
    """λ: the gain per step at which starting a trial is worth nothing.

    Args:
        starts: Stages before the first step, of the same cost of that, and means of the ends of the
            trials that may be started with them, ``(m,)``; every trial is as likely.
    """
    first, count = float(starts[0][0].cost[0]), sum(len(mean) for _, mean in starts)

    def gain(rate: float) -> float:
        return sum(float(stages.gain(mean, rate).sum()) for stages, mean in starts) / count

    return break_even(gain, first)


def break_even(gain: Callable[[float], float], cost: float) -> float:
    """The rate λ at which a gain that falls with it is 0.

    Args:
        gain: From λ to the expected gain.
        cost: Steps to the first stop, at the least.
    """
    high = gain(0.0) / cost
    if not high > 0:
        return 0.0
    low = _LEAST_RATE * high
    if gain(low) <= 0:
        return low
    return math.exp(
        brentq(lambda u: gain(math.exp(u)), math.log(low), math.log(2 * high), xtol=1e-9)
    )
