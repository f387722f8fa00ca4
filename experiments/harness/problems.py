"""A problem that samplers are compared on: a space, who depends on whom in it, and a loss."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
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
        points = sobol(len(self.space), self.name, seed)
        return [self.at(point) for point in points]

    def at(self, point: NDArray[np.float64]) -> Params:
        """Parameters at a point of the unit cube."""
        return {
            name: from_unit(distribution, float(u))
            for (name, distribution), u in zip(self.space.items(), point, strict=True)
        }


def sobol(dimension: int, problem: str, seed: int) -> NDArray[np.float64]:
    """The Sobol points in the unit cube that every sampler starts from, shape ``(N_DESIGN, d)``."""
    digest = hashlib.sha256(f"{problem}/{seed}".encode()).digest()
    engine = qmc.Sobol(dimension, seed=np.random.default_rng(list(digest[:8])))
    points: NDArray[np.float64] = engine.random(16)[:N_DESIGN]
    return points


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


def from_unit(distribution: BaseDistribution, u: float) -> Any:
    """The value at ``u`` in [0, 1): cells of equal width for what is discrete."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[int(u * len(choices))]
        case FloatDistribution(low=low, high=high, step=None, log=log):
            return (
                math.exp(_between(math.log(low), math.log(high), u))
                if log
                else _between(low, high, u)
            )
        case FloatDistribution(low=low, high=high, step=float(step)):
            return low + step * int(u * (round((high - low) / step) + 1))
        case IntDistribution(low=low, high=high, log=True):
            value = math.exp(_between(math.log(low - 0.5), math.log(high + 0.5), u))
            return min(max(round(value), low), high)
        case IntDistribution(low=low, high=high, step=step):
            return low + step * int(u * ((high - low) // step + 1))
        case _:
            raise TypeError(f"no unit interval for {distribution!r}")


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u
