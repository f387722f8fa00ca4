"""Beliefs about one coordinate of the unit cube, relative to the uniform distribution.

Symbols: v value of a parameter, x its coordinate; p believed density of v, F its distribution
function, m its mass in the range. With the stretch dv/dx of the coordinate,

    r(x) = p(v) (dv/dx)/m     where continuous,
    r(x) = (F(v + h) − F(v − h))/m / share     on a grid of half-steps h,

where ``share`` is how often the sampler would draw the value uniformly: 1/levels, or on a
logarithmic scale the share of its half-step interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from fisherbo.prior import NumericPrior
from fisherbo.space import Array

_QUANTILES = 64  # of the expectation in I_j


class Marginal(Protocol):
    """The belief about one coordinate."""

    @property
    def flat(self) -> bool:
        """Whether it says nothing."""

    @property
    def mode(self) -> float:
        """The coordinate that is believed in most."""

    @property
    def information(self) -> float:
        """``I_j``; 0 where discrete."""

    def log_ratio(self, x: Array) -> Array:
        """``log r_j`` at coordinates ``(b,)`` on the grid."""

    def slope(self, x: Array) -> Array:
        """``∂ log r_j/∂x_j``, 0 where discrete or where the density vanishes, shape ``(b,)``."""

    def quantile(self, share: Array) -> Array:
        """Coordinates below which the shares of the belief lie, not on the grid yet, ``(b,)``."""


@dataclass(frozen=True)
class NumberBelief:
    """The belief about a numeric coordinate.

    Attributes:
        prior: Of the parameter's value.
        low: The smallest value.
        high: The largest value.
        step: Distance of neighbouring values, 0 where continuous.
        log: Whether the coordinate is the logarithm.
    """

    prior: NumericPrior
    low: float
    high: float
    step: float = 0.0
    log: bool = False

    @cached_property
    def flat(self) -> bool:
        """Whether the ratio is 1 everywhere in the range, to ten digits."""
        if not self._mass > 1e-12:
            return True  # much wider than the range
        steps = np.round((self.high - self.low) / self.step) if self.step else 0.0
        x = np.linspace(0, 1, 33)
        if steps and not self.log:
            x = np.round(x * steps) / steps
        elif steps:
            x = self._coordinate(np.round(self._value(x) / self.step) * self.step)
        return bool(np.abs(self.log_ratio(x)).max() < 1e-10)

    @property
    def mode(self) -> float:
        """The coordinate of the prior's mode, or of the end of the range nearest to it."""
        return float(self._coordinate(np.clip(self.prior.mode, self.low, self.high)))

    @cached_property
    def information(self) -> float:
        """``I_j``, from quantiles; 0 where discrete."""
        if self.step:
            return 0.0
        share = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        return float(np.mean(self.slope(self.quantile(share)) ** 2))

    def log_ratio(self, x: Array) -> Array:
        """``log r_j`` at coordinates ``(b,)``."""
        v = self._value(x)
        if not self.step:
            return self.prior.log_density(v) + self._log_stretch(v) - math.log(self._mass)
        half = 0.5 * self.step
        believed = (self.prior.cdf(v + half) - self.prior.cdf(v - half)) / self._mass
        first, last = self._outer
        total = self._scaled(np.array(last)) - self._scaled(np.array(first))
        uniform = (self._scaled(v + half) - self._scaled(v - half)) / total
        return safe_log(believed / uniform)

    def slope(self, x: Array) -> Array:
        """``∂ log r_j/∂x_j``."""
        if self.step:
            return np.zeros_like(x)
        v = self._value(x)
        there = np.isfinite(self.prior.log_density(v))
        v = np.where(there, v, self.prior.mode)
        by_value = self.prior.slope(v) * np.exp(self._log_stretch(v))
        return np.where(there, by_value + (self._width if self.log else 0.0), 0.0)

    def quantile(self, share: Array) -> Array:
        """Coordinates below which the shares of the belief lie."""
        first, last = self._outer
        v = self.prior.quantile(self.prior.cdf(np.array(first)) + share * self._mass)
        return self._coordinate(np.clip(v, first, last))

    @cached_property
    def _outer(self) -> tuple[float, float]:
        """The range, with the half steps beyond it that are rounded into it."""
        return self.low - 0.5 * self.step, self.high + 0.5 * self.step

    @cached_property
    def _mass(self) -> float:
        """Probability of the range."""
        first, last = self.prior.cdf(np.array(self._outer))
        return float(last - first)

    @property
    def _width(self) -> float:
        return float(self._scaled(np.array(self.high)) - self._scaled(np.array(self.low)))

    def _log_stretch(self, v: Array) -> Array:
        """``log dv/dx``."""
        return math.log(self._width) + (np.log(v) if self.log else np.zeros_like(v))

    def _scaled(self, v: Array) -> Array:
        return np.log(v) if self.log else v

    def _value(self, x: Array) -> Array:
        t = self._scaled(np.array(self.low)) + x * self._width
        return np.clip(np.exp(t) if self.log else t, self.low, self.high)

    def _coordinate(self, v: Array) -> Array:
        return (self._scaled(v) - self._scaled(np.array(self.low))) / self._width


@dataclass(frozen=True)
class CategoryBelief:
    """The belief about a categorical coordinate.

    Attributes:
        shares: Probabilities of the choices, in their order, shape ``(k,)``.
    """

    shares: Array

    information = 0.0

    @property
    def flat(self) -> bool:
        """Whether all choices are equally probable."""
        return bool(np.ptp(self.shares) < 1e-10)

    @property
    def mode(self) -> float:
        """The coordinate of the most probable choice, the first of them."""
        return float(np.argmax(self.shares)) / self._last

    def log_ratio(self, x: Array) -> Array:
        """``log r_j`` at coordinates ``(b,)``."""
        return safe_log(self.shares * len(self.shares))[np.rint(x * self._last).astype(np.int64)]

    def slope(self, x: Array) -> Array:
        """0: a choice has no neighbours."""
        return np.zeros_like(x)

    def quantile(self, share: Array) -> Array:
        """Coordinates of choices drawn by uniform numbers."""
        found = np.searchsorted(self.shares.cumsum(), share, side="right")
        return np.minimum(found, self._last) / self._last

    @property
    def _last(self) -> int:
        return len(self.shares) - 1


def safe_log(share: Array) -> Array:
    """The logarithm of numbers that are at least 0, −∞ of 0."""
    with np.errstate(divide="ignore"):
        found: Array = np.log(share)
    return found
