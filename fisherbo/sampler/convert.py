"""Optuna's distributions and trials to fisherbo's records, and coordinates back to parameters."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
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


def to_data(
    space: Space, search_space: SearchSpace, trials: Sequence[FrozenTrial], *, maximize: bool
) -> Data:
    """Trials that have all parameters of the search space, as observations and pending points.

    A complete trial counts with its value; a pruned one with the value that its rank at its last
    step suggests; one that failed by itself with −inf, which the warp maps to the last rank.
    """
    sign = 1.0 if maximize else -1.0
    known = [t for t in trials if all(name in t.params for name in search_space)]
    expected = _FinalValue([t for t in known if t.state == TrialState.COMPLETE], sign)
    observed = [(t, expected(t)) for t in known if t.state.is_finished()]
    observed = [(t, y) for t, y in observed if y is not None]
    running = [t for t in known if t.state == TrialState.RUNNING]
    return Data(
        _coordinates(space, search_space, [t for t, _ in observed]),
        np.array([y for _, y in observed], dtype=np.float64),
        _coordinates(space, search_space, running),
    )


def to_params(space: Space, search_space: SearchSpace, x: Array) -> dict[str, Any]:
    """Python values of the parameters at coordinates ``x`` of shape ``(d,)``."""
    values = space.from_unit(x).tolist()
    return {
        name: _external(distribution, value)
        for (name, distribution), value in zip(search_space.items(), values, strict=True)
    }


class _FinalValue:
    """The final value, larger is better, that a finished trial stands for; None if it has none."""

    def __init__(self, complete: Sequence[FrozenTrial], sign: float) -> None:
        self._sign = sign
        self._complete = complete
        self._finals: list[float] = sorted(sign * t.values[0] for t in complete)
        self._at_step: dict[int, list[float]] = {}

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


def _coordinates(space: Space, search_space: SearchSpace, trials: Sequence[FrozenTrial]) -> Array:
    columns = [_internal(d, [t.params[name] for t in trials]) for name, d in search_space.items()]
    values = np.array(columns, dtype=np.float64).reshape(len(columns), len(trials))
    return space.to_unit(np.ascontiguousarray(values.T))


def _internal(distribution: BaseDistribution, values: list[Any]) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.to_internal_repr(value) for value in values]
    return [float(value) for value in values]


def _external(distribution: BaseDistribution, value: float) -> Any:
    if isinstance(distribution, FloatDistribution):
        return value
    return distribution.to_external_repr(round(value))
