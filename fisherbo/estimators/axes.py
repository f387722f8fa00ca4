"""One parameter of a search space, as scikit-learn's users write it, as a distribution of Optuna.

A parameter is a list of values, a distribution of scipy.stats or one of Optuna. Each becomes an
axis whose geometry a model can use:

    list of numbers             their order: integers from 0, under the name "C[index]"; evenly
                                spaced integers are themselves
    list of anything else       categories
    uniform, loguniform, randint  the same distribution of Optuna
    another distribution        its quantile u, by the name "C[quantile]": C = F⁻¹(u)
    one value                   a constant
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import rv_discrete
from scipy.stats.distributions import rv_frozen

TAIL = 1e-3  # share of a distribution with unbounded support that is left out on either side
DRAWS = 256


@runtime_checkable
class Drawable(Protocol):
    """What scikit-learn takes for a distribution."""

    def rvs(self, *, random_state: Any = None) -> Any:
        """One value."""


@dataclass(frozen=True, eq=False)
class SearchAxis:
    """One parameter that varies.

    Attributes:
        label: its name in trials.
        distribution: its values in trials.
        decode: the estimator's value of a trial's value.
    """

    label: str
    distribution: BaseDistribution
    decode: Callable[[Any], Any]


def parameter(name: str, value: Any) -> SearchAxis | tuple[Any]:
    """An axis, or the one value."""
    if isinstance(value, SearchAxis):
        return value
    if isinstance(value, BaseDistribution):
        return SearchAxis(name, value, lambda chosen: chosen)
    if isinstance(value, rv_frozen):
        return _of_scipy(name, value)
    if isinstance(value, Drawable):
        return _of_draws(name, value)
    values = _as_list(name, value)
    return (values[0],) if len(values) == 1 else _of_list(name, values)


def _as_list(name: str, value: Any) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim != 1:
        raise ValueError(
            f"Parameter array for {name!r} should be one-dimensional, got: {value!r} with shape "
            f"{value.shape}"
        )
    if not isinstance(value, Iterable):
        raise TypeError(
            f"Parameter grid for parameter {name!r} is not iterable or a distribution "
            f"(value={value})"
        )
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(
            f"Parameter grid for parameter {name!r} needs to be a list or a numpy array, but got "
            f"{value!r} (of type {type(value).__name__}) instead. Single values need to be wrapped "
            "in a list with one element."
        )
    if len(value) == 0:
        raise ValueError(
            f"Parameter grid for parameter {name!r} need to be a non-empty sequence, got: {value!r}"
        )
    return list(value)


def _of_list(name: str, values: list[Any]) -> SearchAxis:
    if all(_is_number(v) for v in values):
        return _of_numbers(name, sorted(values))
    choices = _choices(values)
    distribution = CategoricalDistribution(choices)
    return SearchAxis(name, distribution, lambda c: values[int(distribution.to_internal_repr(c))])


def _of_numbers(name: str, values: list[Any]) -> SearchAxis:
    gaps = {b - a for a, b in pairwise(values)}
    if all(isinstance(v, Integral) for v in values) and len(gaps) == 1 and min(gaps) > 0:
        low, step = int(values[0]), int(gaps.pop())
        even = IntDistribution(low, int(values[-1]), step=step)
        return SearchAxis(name, even, lambda chosen: values[(chosen - low) // step])
    return SearchAxis(
        f"{name}[index]", IntDistribution(0, len(values) - 1), lambda chosen: values[chosen]
    )


def _of_scipy(name: str, value: Any) -> SearchAxis | tuple[Any]:
    drawn = _drawn(name, value, np.random.RandomState(0))
    low, high = (float(np.asarray(end).item()) for end in value.support())
    if math.isnan(low) or low == high:  # of scale 0, for which scipy has no support
        return (drawn,)
    kind = value.dist.name
    if kind == "randint":
        return SearchAxis(name, IntDistribution(int(low), int(high)), lambda chosen: chosen)
    if kind in ("uniform", "loguniform", "reciprocal"):
        log = kind != "uniform"
        return SearchAxis(name, FloatDistribution(low, high, log=log), lambda chosen: chosen)
    whole = isinstance(value.dist, rv_discrete)

    def quantile(u: float) -> Any:
        x = np.asarray(value.ppf(u)).item()
        return int(x) if whole else float(x)

    return SearchAxis(f"{name}[quantile]", FloatDistribution(TAIL, 1 - TAIL), quantile)


def _of_draws(name: str, value: Drawable) -> SearchAxis | tuple[Any]:
    """A distribution that can only be drawn from, by the order of a fixed sample."""
    rng = np.random.RandomState(0)  # what rvs takes
    draws = sorted(_drawn(name, value, rng) for _ in range(DRAWS))
    return (draws[0],) if draws[0] == draws[-1] else _of_numbers(name, draws)


def _drawn(name: str, value: Drawable, rng: np.random.RandomState) -> Any:
    """One value, as `ParameterSampler` would draw it."""
    try:
        drawn = value.rvs(random_state=rng)
    except ValueError as error:
        raise ValueError(
            f"Parameter distribution for parameter {name!r} cannot be drawn from "
            f"(value={_call(value)}): {error}"
        ) from error
    if not _is_number(drawn):
        raise TypeError(
            f"Parameter grid for parameter {name!r} is a distribution of values that are not "
            f"numbers, got {drawn!r} (value={_call(value)}); give the values as a list"
        )
    return drawn


def _call(value: Any) -> str:
    """A frozen distribution as it was written."""
    if not isinstance(value, rv_frozen):
        return repr(value)
    words = [repr(a) for a in value.args] + [f"{k}={v!r}" for k, v in value.kwds.items()]
    return f"{value.dist.name}({', '.join(words)})"


def _is_number(value: Any) -> bool:
    is_bool = isinstance(value, bool | np.bool_)
    return isinstance(value, Real) and not is_bool and math.isfinite(value)


def is_plain(value: Any) -> bool:
    """Whether storages can keep the value as a choice."""
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _choices(values: list[Any]) -> tuple[CategoricalChoiceType, ...]:
    """The values themselves if storages can keep them and tell them apart, else words."""
    if all(is_plain(v) for v in values):
        plain = [v.item() if isinstance(v, np.generic) else v for v in values]
        if len(set(plain)) == len(plain) and not any(
            isinstance(v, float) and math.isnan(v) for v in plain
        ):
            return tuple(plain)
    return tuple(f"{i}:{word(v)}" for i, v in enumerate(values))


def word(value: Any) -> str:
    """A short name that is the same in every process, which a repr with an address is not."""
    if is_plain(value):
        return repr(value)
    return str(getattr(value, "__name__", type(value).__name__))
