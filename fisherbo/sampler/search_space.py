"""Optuna's search spaces as `Space`s: distributions, parameters, coordinates and conditions.

Objectives ask for parameters when they need them and declare no conditions, so conditions are
inferred. A parameter that only some trials have depends on a choice (``kernel`` is "rbf") or on an
ordered discrete parameter being above or below a threshold (``n_layers`` at least 3). The simplest
such rule that all trials obey is used; without one the parameter is treated as always present.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.categories import DistanceDistribution, OrderedDistribution
from fisherbo.sampler.simplex import groups
from fisherbo.space import Array, Condition, Mask, Space

SearchSpace = Mapping[str, BaseDistribution]
"""Parameters by name; their order is that of the coordinates."""


class _Absent(Enum):
    """What stands for the value of a parameter that does not exist; the same in copies."""

    ABSENT = 0


ABSENT = _Absent.ABSENT
"""The value of a parameter that does not exist."""

_UNKNOWN = (KeyError, ValueError, TypeError, OverflowError)  # of values that have no number
_MOST_LEVELS = 2**31  # of a grid; a finer one is as good as continuous
_MOST_VALUES = 64  # of a parameter on which others may depend


@dataclass(frozen=True)
class Parameters:
    """All parameters that trials have, with their latest distributions, in order of their names.

    Attributes:
        varying: Those with several values.
        constant: Those with one.
    """

    varying: SearchSpace
    constant: SearchSpace

    @staticmethod
    def of(latest: SearchSpace) -> Parameters:
        """From the latest distributions."""
        ordered = {name: latest[name] for name in sorted(latest)}
        return Parameters(
            {name: d for name, d in ordered.items() if not d.single()},
            {name: d for name, d in ordered.items() if d.single()},
        )

    @property
    def constants(self) -> dict[str, Any]:
        """Values of the parameters that have one only."""
        return {name: d.to_external_repr(_only(d)) for name, d in self.constant.items()}


def to_space(search_space: SearchSpace) -> Space:
    """The unit cube of a search space, coordinates in its order.

    Raises:
        InvalidInputError: If a distribution is none of Optuna's float, int and categorical ones.
    """
    rows = [_row(name, distribution) for name, distribution in search_space.items()]
    low, high, step, log, categorical = zip(*rows, strict=True)
    told = list(search_space.values())
    ordinal = np.array([isinstance(d, OrderedDistribution) for d in told])
    return Space(
        np.array(low),
        np.array(high),
        np.array(step),
        np.array(log),
        np.array(categorical),
        ordinal=ordinal if ordinal.any() else None,
        vectors={j: d.vectors for j, d in enumerate(told) if isinstance(d, DistanceDistribution)},
        simplices=groups(search_space),
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
            unordered = not isinstance(distribution, OrderedDistribution)
            return 0.0, float(len(distribution.choices) - 1), 1.0, False, unordered
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
    columns = {name: [p.get(name, ABSENT) for p in params] for name in search_space}
    return from_columns(space, search_space, columns, len(params))


def from_columns(
    space: Space, search_space: SearchSpace, columns: Mapping[str, Sequence[Any]], count: int
) -> Array:
    """The same from ``count`` values of each parameter, :data:`ABSENT` where it does not exist."""
    none = [ABSENT] * count
    internal = [_internal(d, columns.get(name, none)) for name, d in search_space.items()]
    values = np.array(internal, dtype=np.float64).reshape(len(internal), count).T
    values = np.where(space.log & ~(values > 0), math.nan, values)
    return space.to_unit(np.ascontiguousarray(values))


def _internal(distribution: BaseDistribution, values: Sequence[Any]) -> list[float]:
    """Numbers for external values, NaN for absent ones."""
    number = _index(distribution) if isinstance(distribution, CategoricalDistribution) else float
    try:
        return [math.nan if v is ABSENT else number(v) for v in values]
    except _UNKNOWN:
        return [_number_or_nan(number, v) for v in values]


def _number_or_nan(number: Callable[[Any], float], value: Any) -> float:
    try:
        return math.nan if value is ABSENT else number(value)
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


def _only(distribution: BaseDistribution) -> float:
    """The internal value of a distribution that has one only."""
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return distribution.low
    return 0.0


def with_conditions(space: Space, whole: Array, pruned: Array | None = None) -> Space:
    """The space with the conditions that points obey, NaN where a parameter is absent.

    A pruned trial has usually asked for all its parameters. If pruned trials leave fewer conditions
    than complete ones alone, some of them stopped before that, and they are left out.

    Args:
        space: The space.
        whole: Points of complete trials, shape ``(n, d)``.
        pruned: Points of pruned trials, shape ``(p, d)``; none if None.
    """
    found = _obeyed(space, whole)
    if pruned is None or not len(pruned):
        return found
    together = _obeyed(space, np.concatenate([whole, pruned]))
    return found if len(found.conditions) > len(together.conditions) else together


def _obeyed(space: Space, x: Array) -> Space:
    """The space with the conditions that points ``(n, d)`` obey."""
    present = ~np.isnan(x)
    if present.all():
        return space
    share = present.mean(0) if len(x) else np.ones(space.dimension)
    varying = [j for j in np.argsort(-share, kind="stable").tolist() if 0 < share[j] < 1]
    found = (_condition(space, x, present, j) for j in varying)
    return replace(space, conditions=tuple(c for c in found if c is not None))


def _condition(space: Space, x: Array, present: Mask, child: int) -> Condition | None:
    """The simplest rule for one coordinate: fewest changes over its parent's values."""
    rules = []
    for parent in range(space.dimension):
        few = space.discrete[parent] and space.levels[parent] <= _MOST_VALUES
        within = (present[:, parent] >= present[:, child]).all()
        if parent != child and few and within and not _same(present, parent, child):
            rule = _rule(space, x, present, parent, child)
            if rule is not None:
                cost = len(rule.known) if space.listed[parent] else 2
                rules.append((cost, -present[:, parent].sum(), parent, rule))
    return min(rules, key=lambda r: r[:3])[3] if rules else None


def _same(present: Mask, parent: int, child: int) -> bool:
    return bool((present[:, parent] == present[:, child]).all())


def _rule(space: Space, x: Array, present: Mask, parent: int, child: int) -> Condition | None:
    """The condition of ``child`` on ``parent``, or None if the points contradict it."""
    rows = present[:, parent]
    known, group = np.unique(np.round(x[rows, parent], 9), return_inverse=True)
    count = np.bincount(group)
    with_child = np.bincount(group, weights=present[rows, child])
    if ((with_child > 0) & (with_child < count)).any():
        return None
    exists = with_child > 0
    if not space.listed[parent]:
        once = np.count_nonzero(np.diff(exists.astype(int))) == 1
        return Condition(child, parent, known, exists) if once else None
    levels = int(space.levels[parent])
    choices = np.arange(levels) / max(levels - 1, 1)
    seen = np.abs(choices[:, None] - known).min(1) < 1e-6
    table = np.ones(len(choices), dtype=bool)  # a choice not seen yet may have the parameter
    table[seen] = exists
    return Condition(child, parent, choices, table)
