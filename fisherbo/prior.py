"""Beliefs about where the optimum is, for ``FisherSampler(priors=...)``.

A belief is a distribution of the best value of one parameter, with its density on the parameter's
own scale. It says where the optimum is, not how the objective behaves. It is truncated to the range
that is searched. Weights of categories are a plain mapping, ``{"adam": 0.7, "sgd": 0.3}``.

Symbols: p density of the value v; F its distribution function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, ndtr, ndtri, xlog1py, xlogy

from fisherbo.errors import InvalidInputError

_Values = NDArray[np.float64]

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


class NumericPrior(Protocol):
    """A distribution of the best value of a numeric parameter."""

    @property
    def mode(self) -> float:
        """The value that is believed in most, which is tried first."""

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``, −∞ where the density is 0."""

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv`` where the density is positive."""

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``, for shares in [0, 1]."""


@dataclass(frozen=True)
class Normal:
    """A normal distribution: the optimum is about ``mean``, give or take ``sd``.

    Args:
        mean: The most probable value.
        sd: Standard deviation, in units of the parameter.

    Raises:
        InvalidInputError: If the mean is not finite or the deviation not positive and finite.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        _require(math.isfinite(self.mean), "Normal's mean must be finite", self.mean)
        positive = 0 < self.sd < math.inf
        _require(positive, "Normal's sd must be positive and finite", self.sd)

    @property
    def mode(self) -> float:
        """The mean."""
        return self.mean

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``."""
        return -0.5 * self._z(v) ** 2 - math.log(self.sd) - _LOG_ROOT_2PI

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv``."""
        return -self._z(v) / self.sd

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""
        return ndtr(self._z(v))

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``."""
        return self.mean + self.sd * ndtri(share)

    def _z(self, v: _Values) -> _Values:
        return (v - self.mean) / self.sd


@dataclass(frozen=True)
class LogNormal:
    """A normal distribution of the logarithm: about ``median``, give or take a ``factor``.

    Args:
        median: The most probable value on the logarithmic scale, positive.
        factor: One standard deviation, above 1: with 3, two thirds of the probability lie between
            a third of the median and three times the median.

    Raises:
        InvalidInputError: If the median is not positive and finite, or the factor not above 1.
    """

    median: float
    factor: float

    def __post_init__(self) -> None:
        positive = 0 < self.median < math.inf
        _require(positive, "LogNormal's median must be positive and finite", self.median)
        _require(1 < self.factor < math.inf, "LogNormal's factor must be above 1", self.factor)

    @property
    def mode(self) -> float:
        """The median, where the density of the logarithm is largest."""
        return self.median

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``."""
        log_v = _log(v)
        z = (log_v - math.log(self.median)) / self._sd
        inside = -0.5 * z**2 - math.log(self._sd) - _LOG_ROOT_2PI - log_v
        return np.where(v > 0, inside, -np.inf)

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv``."""
        z = (_log(v) - math.log(self.median)) / self._sd
        return -(z / self._sd + 1) / v

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""
        return np.where(v > 0, ndtr((_log(v) - math.log(self.median)) / self._sd), 0.0)

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``."""
        return self.median * np.exp(self._sd * ndtri(share))

    @property
    def _sd(self) -> float:
        return math.log(self.factor)


@dataclass(frozen=True)
class Uniform:
    """The optimum is anywhere between ``low`` and ``high``.

    Uniform on the scale of the search: for a logarithmic parameter it is a `LogUniform`.

    Args:
        low: The smallest value.
        high: The largest value.

    Raises:
        InvalidInputError: If the bounds are not finite or not ascending.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _require_bounds("Uniform", -math.inf, self.low, self.high)

    @property
    def mode(self) -> float:
        """The middle."""
        return 0.5 * (self.low + self.high)

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``."""
        inside = (v >= self.low) & (v <= self.high)
        return np.where(inside, -math.log(self.high - self.low), -np.inf)

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv``: 0."""
        return np.zeros_like(v)

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""
        return np.clip((v - self.low) / (self.high - self.low), 0, 1)

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform:
    """The optimum is anywhere between ``low`` and ``high``, uniformly on a logarithmic scale.

    Args:
        low: The smallest value, positive.
        high: The largest value.

    Raises:
        InvalidInputError: If the bounds are not positive and finite, or not ascending.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _require_bounds("LogUniform", 0.0, self.low, self.high)

    @property
    def mode(self) -> float:
        """The middle of the logarithms."""
        return math.exp(0.5 * (math.log(self.low) + math.log(self.high)))

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``."""
        inside = (v >= self.low) & (v <= self.high)
        return np.where(inside, -_log(v) - math.log(self._width), -np.inf)

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv``."""
        return -1 / v

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""
        return np.clip((_log(v) - math.log(self.low)) / self._width, 0, 1) * (v > 0)

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``."""
        return self.low * np.exp(share * self._width)

    @property
    def _width(self) -> float:
        return math.log(self.high) - math.log(self.low)


@dataclass(frozen=True)
class Beta:
    """A beta distribution, for a share between 0 and 1 such as a momentum or a dropout rate.

    Args:
        a: At least 1; ``a − 1`` pulls towards 1.
        b: At least 1; ``b − 1`` pulls towards 0.

    Raises:
        InvalidInputError: If one of them is below 1, where the density has no mode, or infinite.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        _require(1 <= self.a < math.inf, "Beta's a must be at least 1", self.a)
        _require(1 <= self.b < math.inf, "Beta's b must be at least 1", self.b)

    @property
    def mode(self) -> float:
        """``(a − 1)/(a + b − 2)``, the middle where all values are alike."""
        total = self.a + self.b - 2
        return (self.a - 1) / total if total > 0 else 0.5

    def log_density(self, v: _Values) -> _Values:
        """``log p(v)``."""
        inside = (v >= 0) & (v <= 1)
        u = np.where(inside, v, 0.5)
        found = xlogy(self.a - 1, u) + xlog1py(self.b - 1, -u) - betaln(self.a, self.b)
        return np.where(inside, found, -np.inf)

    def slope(self, v: _Values) -> _Values:
        """``d log p/dv``; finite at the ends, where the density may vanish."""
        least = np.finfo(np.float64).tiny ** 0.5
        u, rest = np.maximum(v, least), np.maximum(1 - v, least)
        return (self.a - 1) / u - (self.b - 1) / rest

    def cdf(self, v: _Values) -> _Values:
        """``F(v)``."""
        return betainc(self.a, self.b, np.clip(v, 0, 1))

    def quantile(self, share: _Values) -> _Values:
        """``F⁻¹(share)``."""
        return betaincinv(self.a, self.b, share)


NUMERIC = (Normal, LogNormal, Uniform, LogUniform, Beta)
"""The distributions of numbers."""


def _log(v: _Values) -> _Values:
    """The logarithm where there is one, else 0."""
    return np.log(np.where(v > 0, v, 1.0))


def _require(holds: bool, rule: str, got: float) -> None:
    if not holds:
        raise InvalidInputError(f"{rule}, got {got!r}; for example fisherbo.prior.Normal(0.9, 0.1)")


def _require_bounds(name: str, least: float, low: float, high: float) -> None:
    if not (least < low < high < math.inf):
        above = "0 < " if least == 0 else ""
        raise InvalidInputError(
            f"{name}'s bounds must be finite with {above}low < high, got {low!r} and {high!r}; "
            "for example fisherbo.prior.Uniform(2, 4)"
        )
