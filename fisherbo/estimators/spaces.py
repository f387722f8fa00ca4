"""Search spaces as scikit-learn's users write them, as Optuna's distributions, and back.

A space is a dict of parameters, or a list of such dicts: branches that have their own parameters. A
parameter is a list of values, a distribution of scipy.stats or one of Optuna. Each becomes an axis
whose geometry a model can use:

    list of numbers             their order: integers from 0, under the name "C[index]"; evenly
                                spaced integers are themselves
    list of anything else       categories
    uniform, loguniform, randint  the same distribution of Optuna
    another distribution        its quantile u, by the name "C[quantile]": C = F⁻¹(u)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial
from scipy.stats import rv_discrete
from scipy.stats.distributions import rv_frozen

BRANCH = "branch[index]"
TAIL = 1e-3  # share of a distribution with unbounded support that is left out on either side
DRAWS = 256

Params = dict[str, Any]


@runtime_checkable
class Drawable(Protocol):
    """What scikit-learn takes for a distribution."""

    def rvs(self, *, random_state: Any = None) -> Any:
        """One value."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One parameter that varies.

    Attributes:
        label: its name in trials.
        distribution: its values in trials.
        decode: the estimator's value of a trial's value.
    """

    label: str
    distribution: BaseDistribution
    decode: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Branch:
    """One dict of the space: what is constant in it, and what varies, by parameter."""

    label: str
    constants: Mapping[str, Any]
    axes: Mapping[str, Axis]

    def grid(self) -> Iterator[Params]:
        """All points as trials hold them; only for finite branches."""
        values = [_values(axis.distribution) for axis in self.axes.values()]
        for point in product(*values):
            yield dict(zip((axis.label for axis in self.axes.values()), point, strict=True))

    def decode(self, values: Mapping[str, Any]) -> Params:
        """The estimator's parameters of a trial's."""
        varying = {name: axis.decode(values[axis.label]) for name, axis in self.axes.items()}
        return {**self.constants, **varying}

    def first(self) -> Params:
        """Some point, as the estimator's parameters."""
        starts = {name: _start(axis.distribution) for name, axis in self.axes.items()}
        return {
            **self.constants,
            **{name: axis.decode(starts[name]) for name, axis in self.axes.items()},
        }


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """Branches; with more than one, the branch is the first parameter of every trial."""

    branches: tuple[Branch, ...]

    @property
    def size(self) -> float:
        """Number of points, infinite where a parameter is continuous."""
        return sum(
            math.prod(_count(axis.distribution) for axis in branch.axes.values())
            for branch in self.branches
        )

    def suggest(self, trial: Trial) -> None:
        """Have the trial choose a point."""
        branch = self.branches[0]
        if len(self.branches) > 1:
            labels = [b.label for b in self.branches]
            branch = self.branches[labels.index(trial.suggest_categorical(BRANCH, labels))]
        for axis in branch.axes.values():
            _suggest(trial, axis.label, axis.distribution)

    def decode(self, values: Mapping[str, Any]) -> Params:
        """The estimator's parameters of a trial's."""
        return self._branch(values).decode(values)

    def grid(self) -> list[Params]:
        """All points of a finite space, as trials hold them."""
        several = len(self.branches) > 1
        return [
            {**({BRANCH: branch.label} if several else {}), **point}
            for branch in self.branches
            for point in branch.grid()
        ]

    def key(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Equal for trials of one point, however a float was computed."""
        labels = [axis.label for axis in self._branch(values).axes.values()]
        return str(values.get(BRANCH)), *(_spelt(values[label]) for label in labels)

    def describe(self) -> list[dict[str, str]]:
        """How trials hold the points: labels and distributions."""
        return [
            {axis.label: distribution_to_json(axis.distribution) for axis in branch.axes.values()}
            for branch in self.branches
        ]

    def _branch(self, values: Mapping[str, Any]) -> Branch:
        if len(self.branches) == 1:
            return self.branches[0]
        return next(b for b in self.branches if b.label == values[BRANCH])


def as_space(param_distributions: Any) -> SearchSpace:
    """The search space of a dict or a list of dicts.

    Raises:
        TypeError: it is neither, or a value is neither a list nor a distribution.
        ValueError: a list is empty or has more than one dimension.
    """
    if isinstance(param_distributions, Mapping):
        param_distributions = [param_distributions]
    if not isinstance(param_distributions, Sequence) or isinstance(param_distributions, str):
        raise TypeError(
            f"Parameter distribution is not a dict or a list, got: {param_distributions!r} of type "
            f"{type(param_distributions).__name__}"
        )
    for candidate in param_distributions:
        if not isinstance(candidate, Mapping):
            raise TypeError(f"Parameter distribution is not a dict ({candidate!r})")
    branches = [_branch(i, candidate) for i, candidate in enumerate(param_distributions)]
    return SearchSpace(tuple(_told_apart(branches)))


def _branch(index: int, candidate: Mapping[str, Any]) -> Branch:
    constants: dict[str, Any] = {}
    axes: dict[str, Axis] = {}
    for name, value in sorted(candidate.items()):
        made = _parameter(name, value)
        if isinstance(made, Axis):
            axes[name] = made
        else:
            constants[name] = made[0]
    words = [_word(value) for value in constants.values() if not _is_plain(value)]
    return Branch(":".join([str(index), *words]), constants, axes)


def _told_apart(branches: Sequence[Branch]) -> Iterator[Branch]:
    """Axes of one label but different distributions get the number of their branch."""
    kinds: dict[str, set[str]] = {}
    for branch in branches:
        for axis in branch.axes.values():
            kinds.setdefault(axis.label, set()).add(distribution_to_json(axis.distribution))
    for index, branch in enumerate(branches):
        axes = {
            name: axis
            if len(kinds[axis.label]) == 1
            else Axis(f"{axis.label}@{index}", axis.distribution, axis.decode)
            for name, axis in branch.axes.items()
        }
        yield Branch(branch.label, branch.constants, axes)


def _parameter(name: str, value: Any) -> Axis | tuple[Any]:
    """An axis, or the one value."""
    if isinstance(value, BaseDistribution):
        return Axis(name, value, lambda chosen: chosen)
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


def _of_list(name: str, values: list[Any]) -> Axis:
    if all(_is_number(v) for v in values):
        return _of_numbers(name, sorted(values))
    choices = _choices(values)
    distribution = CategoricalDistribution(choices)
    return Axis(name, distribution, lambda c: values[int(distribution.to_internal_repr(c))])


def _of_numbers(name: str, values: list[Any]) -> Axis:
    gaps = {b - a for a, b in pairwise(values)}
    if all(isinstance(v, Integral) for v in values) and len(gaps) == 1 and min(gaps) > 0:
        low, step = int(values[0]), int(gaps.pop())
        even = IntDistribution(low, int(values[-1]), step=step)
        return Axis(name, even, lambda chosen: values[(chosen - low) // step])
    return Axis(
        f"{name}[index]", IntDistribution(0, len(values) - 1), lambda chosen: values[chosen]
    )


def _of_scipy(name: str, value: Any) -> Axis | tuple[Any]:
    drawn = _drawn(name, value, np.random.RandomState(0))
    low, high = (float(np.asarray(end).item()) for end in value.support())
    if math.isnan(low) or low == high:  # of scale 0, for which scipy has no support
        return (drawn,)
    kind = value.dist.name
    if kind == "randint":
        return Axis(name, IntDistribution(int(low), int(high)), lambda chosen: chosen)
    if kind in ("uniform", "loguniform", "reciprocal"):
        log = kind != "uniform"
        return Axis(name, FloatDistribution(low, high, log=log), lambda chosen: chosen)
    whole = isinstance(value.dist, rv_discrete)

    def quantile(u: float) -> Any:
        x = np.asarray(value.ppf(u)).item()
        return int(x) if whole else float(x)

    return Axis(f"{name}[quantile]", FloatDistribution(TAIL, 1 - TAIL), quantile)


def _of_draws(name: str, value: Drawable) -> Axis | tuple[Any]:
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


def _spelt(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


def _is_number(value: Any) -> bool:
    is_bool = isinstance(value, bool | np.bool_)
    return isinstance(value, Real) and not is_bool and math.isfinite(value)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _choices(values: list[Any]) -> tuple[CategoricalChoiceType, ...]:
    """The values themselves if storages can keep them and tell them apart, else words."""
    if all(_is_plain(v) for v in values):
        plain = [v.item() if isinstance(v, np.generic) else v for v in values]
        if len(set(plain)) == len(plain) and not any(
            isinstance(v, float) and math.isnan(v) for v in plain
        ):
            return tuple(plain)
    return tuple(f"{i}:{_word(v)}" for i, v in enumerate(values))


def _word(value: Any) -> str:
    """A short name that is the same in every process, which a repr with an address is not."""
    if _is_plain(value):
        return repr(value)
    return str(getattr(value, "__name__", type(value).__name__))


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, FloatDistribution):
        if distribution.low == distribution.high:
            return 1
        if distribution.step is None:
            return math.inf
        return round((distribution.high - distribution.low) / distribution.step) + 1
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    assert isinstance(distribution, CategoricalDistribution)
    return len(distribution.choices)


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    assert isinstance(distribution, FloatDistribution)
    step = distribution.step or 0.0
    count = int(_count(distribution))
    return [min(distribution.low + i * step, distribution.high) for i in range(count)]


def _start(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low


def _suggest(trial: Trial, label: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(label, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        trial.suggest_int(label, low, high, step=step, log=distribution.log)
    else:
        assert isinstance(distribution, FloatDistribution)
        start, end, width = distribution.low, distribution.high, distribution.step
        trial.suggest_float(label, start, end, step=width, log=distribution.log)
