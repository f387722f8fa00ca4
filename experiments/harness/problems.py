"""A problem that samplers are compared on: a space, who depends on whom in it, and a loss."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

N_DESIGN = 10

Params = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """A loss to minimise over a space whose parameters may be asked for only under a condition.

    ``conditions[child] = (parent, values)``: the child exists where its parent, which comes before
    it in ``space``, exists and has one of the values. ``constrain`` tells a trial's constraints
    once it is evaluated, by ``set_constraint``; without it there are none.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    loss: Callable[[Params], float]
    conditions: Mapping[str, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)
    constrain: Callable[[optuna.Trial, Params], None] | None = None

    def suggest(self, trial: optuna.trial.BaseTrial) -> Params:
        """Parameters that exist together, asked for one by one, as a user's objective does."""
        params: Params = {}
        for name, distribution in self.space.items():
            if self.exists(name, params):
                params[name] = suggest(trial, name, distribution)
        return params

    def exists(self, name: str, params: Params) -> bool:
        """Whether a parameter is asked for, given those before it."""
        if name not in self.conditions:
            return True
        parent, values = self.conditions[name]
        return parent in params and params[parent] in values

    def design(self, seed: int) -> list[Params]:
        """The first points, the same for every sampler; parameters that do not exist included."""
        digest = hashlib.sha256(f"{self.name}/{seed}".encode()).digest()
        engine = qmc.Sobol(len(self.space), seed=np.random.default_rng(list(digest[:8])))
        return [self.at(point) for point in engine.random(16)[:N_DESIGN]]

    def at(self, point: NDArray[np.float64]) -> Params:
        """Parameters at a point of the unit cube."""
        return {
            name: from_unit(distribution, float(u))
            for (name, distribution), u in zip(self.space.items(), point, strict=True)
        }


def suggest(trial: optuna.trial.BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    """The trial's value of one parameter, by Optuna's public methods."""
    match distribution:
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case _:
            raise TypeError(f"no method suggests {distribution!r}")


def levels(distribution: BaseDistribution) -> Sequence[Any] | None:
    """All values of a discrete distribution; None if continuous or of integers on a log scale."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices
        case FloatDistribution(low=low, high=high, step=float(step)):
            return [low + step * i for i in range(round((high - low) / step) + 1)]
        case IntDistribution(low=low, high=high, step=step, log=False):
            return range(low, high + 1, step)
    return None


def from_unit(distribution: BaseDistribution, u: float) -> Any:
    """The value at ``u`` in [0, 1): cells of equal width for what is discrete."""
    if (values := levels(distribution)) is not None:
        return values[int(u * len(values))]
    match distribution:
        case FloatDistribution(low=low, high=high, log=False):
            return low + (high - low) * u
        case FloatDistribution(low=low, high=high):
            start = math.log(low)
            return math.exp(start + (math.log(high) - start) * u)
        case IntDistribution(low=low, high=high):
            start = math.log(low - 0.5)
            value = math.exp(start + (math.log(high + 0.5) - start) * u)
            return min(max(round(value), low), high)
        case _:
            raise TypeError(f"no unit interval for {distribution!r}")
