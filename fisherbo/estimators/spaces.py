"""Search spaces as scikit-learn's users write them, as Optuna's distributions, and back.

A space is a dict of parameters, or a list of such dicts: branches that have their own parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial

from fisherbo.estimators.axes import SearchAxis, is_plain, parameter, word
from fisherbo.tuning.search_spaces import suggest_value

BRANCH = "branch[index]"

Params = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Branch:
    """One dict of the space: what is constant in it, and what varies, by parameter."""

    label: str
    constants: Mapping[str, Any]
    axes: Mapping[str, SearchAxis]

    def grid(self) -> Iterator[Params]:
        """All points as trials hold them; only for finite branches."""
        choices = [values(axis.distribution) for axis in self.axes.values()]
        for point in product(*choices):
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
            suggest_value(trial, axis.label, axis.distribution)

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
    axes: dict[str, SearchAxis] = {}
    for name, value in sorted(candidate.items()):
        made = parameter(name, value)
        if isinstance(made, SearchAxis):
            axes[name] = made
        else:
            constants[name] = made[0]
    words = [word(value) for value in constants.values() if not is_plain(value)]
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
            else SearchAxis(f"{axis.label}@{index}", axis.distribution, axis.decode)
            for name, axis in branch.axes.items()
        }
        yield Branch(branch.label, branch.constants, axes)


def _spelt(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else repr(value)


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


def values(distribution: BaseDistribution) -> Sequence[Any]:
    """All values of a finite distribution, in order."""
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
