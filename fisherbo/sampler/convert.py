"""Optuna's distributions and trials to fisherbo's records, and coordinates back to parameters."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler import memory
from fisherbo.space import Array, Data, Space

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


def to_data(space: Space, rows: Array, trials: Sequence[FrozenTrial], *, maximize: bool) -> Data:
    """Trials as observations and pending points.

    A complete trial counts with its value; a pruned one with the value that its rank at its last
    step suggests; one that failed by itself with −inf, which the warp maps to the last rank.
    Trials without any parameter of the space say nothing.

    Args:
        space: The space.
        rows: Coordinates of the trials, NaN where absent, shape ``(n, d)``.
        trials: The trials.
        maximize: Whether larger values are better.
    """
    expected = _FinalValue(trials, 1.0 if maximize else -1.0)
    absent = np.isnan(rows)
    there = ~absent.all(1)
    running = there & np.array([t.state == TrialState.RUNNING for t in trials], dtype=bool)
    told = (there & ~running).nonzero()[0].tolist()
    values = [(i, value) for i in told if (value := expected(trials[i])) is not None]
    index = np.array([i for i, _ in values], dtype=np.int64)
    y = np.array([value for _, value in values], dtype=np.float64)
    filled = np.where(absent, space.centre, rows)
    return Data(filled[index], y, filled[running], index)


def to_params(space: Space, search_space: SearchSpace, x: Array) -> dict[str, Any]:
    """Python values of the parameters at coordinates ``x`` of shape ``(d,)``."""
    values = space.from_unit(x).tolist()
    return {
        name: _external(distribution, value)
        for (name, distribution), value in zip(search_space.items(), values, strict=True)
    }


class _FinalValue:
    """The final value, larger is better, that a finished trial stands for; None if it has none."""

    def __init__(self, trials: Sequence[FrozenTrial], sign: float) -> None:
        self._sign = sign
        self._trials = trials
        self._at_step: dict[int, list[float]] = {}

    @cached_property
    def _complete(self) -> list[FrozenTrial]:
        return [t for t in self._trials if t.state == TrialState.COMPLETE]

    @cached_property
    def _finals(self) -> list[float]:
        return sorted(self._sign * t.values[0] for t in self._complete)

    def __call__(self, trial: FrozenTrial) -> float | None:
        if trial.state == TrialState.COMPLETE:
            return self._sign * float(trial.values[0])
        if trial.state == TrialState.FAIL:
            return -math.inf if memory.FAILED in trial.system_attrs else None
        return self._of_pruned(trial)

    def _of_pruned(self, trial: FrozenTrial) -> float | None:
        """The final value at the quantile that the last report has among reports of its step."""
        if not trial.intermediate_values or not self._finals:
            return None
        step = max(trial.intermediate_values)
        report = self._sign * trial.intermediate_values[step]
        peers = self._reports(step)
        if math.isnan(report) or not peers:
            return None if peers else self._finals[0]
        share = bisect.bisect_left(peers, report) / len(peers)
        return self._finals[min(int(share * len(self._finals)), len(self._finals) - 1)]

    def _reports(self, step: int) -> list[float]:
        if step not in self._at_step:
            values = (t.intermediate_values.get(step) for t in self._complete)
            signed = (self._sign * v for v in values if v is not None and not math.isnan(v))
            self._at_step[step] = sorted(signed)
        return self._at_step[step]


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


def coordinates(space: Space, search_space: SearchSpace, trials: Sequence[FrozenTrial]) -> Array:
    """Coordinates of trials, NaN where one has no such parameter, shape ``(n, d)``."""
    return from_params(space, search_space, [t.params for t in trials])


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
