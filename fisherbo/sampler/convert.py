"""Optuna's distributions and parameters to fisherbo's records, and coordinates back."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fisherbo.errors import InvalidInputError
from fisherbo.space import Array, Space

SearchSpace = Mapping[str, BaseDistribution]

_ABSENT = object()
_UNKNOWN = (KeyError, ValueError, TypeError, OverflowError)  # of values that have no number
_MOST_LEVELS = 2**31  # of a grid; a finer one is as good as continuous


def to_space(search_space: SearchSpace) -> Space:
    """The unit cube of a search space, coordinates in its order.

    Raises:
        InvalidInputError: If a distribution is none of Optuna's float, int and categorical ones.
    """
    rows = [_row(name, distribution) for name, distribution in search_space.items()]
    low, high, step, log, categorical = zip(*rows, strict=True)
    return Space(
        np.array(low), np.array(high), np.array(step), np.array(log), np.array(categorical)
    )


def to_params(space: Space, search_space: SearchSpace, x: Array) -> dict[str, Any]:
    """Python values of the parameters at coordinates ``x`` of shape ``(d,)``."""
    values = space.from_unit(x).tolist()
    return {
        name: _external(distribution, value)
        for (name, distribution), value in zip(search_space.items(), values, strict=True)
    }


def _row(name: str, distribution: BaseDistribution) -> tuple[float, float, float, bool, bool]:
    """Low, high, step, log and categorical of one parameter."""
    match distribution:
        case FloatDistribution() | IntDistribution():
            low, high = _bounds(name, distribution)
            step, log = float(distribution.step or 0), distribution.log
            many = step > 0 and not log and (high - low) / step > _MOST_LEVELS
            return low, high, 0.0 if many else step, log, False
        case CategoricalDistribution():
            return 0.0, float(len(distribution.choices) - 1), 1.0, False, True
    raise InvalidInputError(
        f"parameter {name!r} has an unknown distribution {distribution!r}; "
        "use Optuna's float, int or categorical distribution"
    )


def _bounds(name: str, distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    try:
        low, high = float(distribution.low), float(distribution.high)
    except OverflowError:
        low, high = -math.inf, math.inf
    if not math.isfinite(high - low):
        raise InvalidInputError(
            f"the range of parameter {name!r} must be no wider than the largest float "
            f"({sys.float_info.max:.3g}), got [{distribution.low}, {distribution.high}]; "
            "suggest a narrower range, or the logarithm of the parameter"
        )
    return low, high


def from_params(
    space: Space, search_space: SearchSpace, params: Sequence[Mapping[str, Any]]
) -> Array:
    """Coordinates of parameters, NaN where one is absent, shape ``(n, d)``.

    A value that the distribution cannot have counts as absent: a choice that is no longer one,
    another kind of value, or one that is not positive where the scale is logarithmic.
    """
    columns = [
        _internal(d, [p.get(name, _ABSENT) for p in params]) for name, d in search_space.items()
    ]
    values = np.array(columns, dtype=np.float64).reshape(len(columns), len(params)).T
    values = np.where(space.log & ~(values > 0), math.nan, values)
    return space.to_unit(np.ascontiguousarray(values))


def _internal(distribution: BaseDistribution, values: list[Any]) -> list[float]:
    """Numbers for external values, NaN for absent ones."""
    number = _index(distribution) if isinstance(distribution, CategoricalDistribution) else float
    try:
        return [math.nan if v is _ABSENT else number(v) for v in values]
    except _UNKNOWN:
        return [_number_or_nan(number, v) for v in values]


def _number_or_nan(number: Callable[[Any], float], value: Any) -> float:
    try:
        return math.nan if value is _ABSENT else number(value)
    except _UNKNOWN:
        return math.nan


def _index(distribution: CategoricalDistribution) -> Callable[[Any], float]:
    """What gives the index of a choice: a table where they are texts, else Optuna's search."""
    if all(isinstance(choice, str) for choice in distribution.choices):
        return {choice: float(i) for i, choice in enumerate(distribution.choices)}.__getitem__
    return distribution.to_internal_repr


def _external(distribution: BaseDistribution, value: float) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, step = distribution.low, distribution.step
        if step is None:
            return value
        return min(low + step * round((value - low) / step), distribution.high)
    if isinstance(distribution, IntDistribution):
        first, unit = distribution.low, distribution.step
        nearest = first + unit * ((round(value) - first + unit // 2) // unit)
        return min(max(nearest, first), distribution.high)  # floats beyond 2⁵³ are rounded
    return distribution.to_external_repr(round(value))
