"""Optuna's distributions and parameters to fisherbo's records, and coordinates back."""

from __future__ import annotations

import math
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
        case FloatDistribution():
            step = distribution.step or 0.0
            return distribution.low, distribution.high, step, distribution.log, False
        case IntDistribution():
            step = float(distribution.step)
            return float(distribution.low), float(distribution.high), step, distribution.log, False
        case CategoricalDistribution():
            return 0.0, float(len(distribution.choices) - 1), 1.0, False, True
    raise InvalidInputError(
        f"parameter {name!r} has an unknown distribution {distribution!r}; "
        "use Optuna's float, int or categorical distribution"
    )


def from_params(
    space: Space, search_space: SearchSpace, params: Sequence[Mapping[str, Any]]
) -> Array:
    """Coordinates of parameters, NaN where one is absent, shape ``(n, d)``."""
    columns = [
        _internal(d, [p.get(name, _ABSENT) for p in params]) for name, d in search_space.items()
    ]
    values = np.array(columns, dtype=np.float64).reshape(len(columns), len(params))
    return space.to_unit(np.ascontiguousarray(values.T))


def _internal(distribution: BaseDistribution, values: list[Any]) -> list[float]:
    """Numbers for external values, NaN for absent ones."""
    if isinstance(distribution, CategoricalDistribution):
        index = _index(distribution)
        return [math.nan if v is _ABSENT else index(v) for v in values]
    return [math.nan if v is _ABSENT else float(v) for v in values]


def _index(distribution: CategoricalDistribution) -> Callable[[Any], float]:
    """What gives the index of a choice: a table where they are texts, else Optuna's search."""
    if all(isinstance(choice, str) for choice in distribution.choices):
        return {choice: float(i) for i, choice in enumerate(distribution.choices)}.__getitem__
    return distribution.to_internal_repr


def _external(distribution: BaseDistribution, value: float) -> Any:
    if isinstance(distribution, FloatDistribution):
        return value
    return distribution.to_external_repr(round(value))
