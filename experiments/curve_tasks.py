"""Tasks with learning curves: recorded ones, those of surrogates, and made ones that cross.

`taskset/NAME`: TaskSet (Metz et al. 2020, the files of the DyHPO authors): real validation losses
at 51 steps of 1,000 Adam configurations of 8 parameters. A study chooses among the 1,000.
`lcbench/ID`, `nb301/`, `rbv2_svm/ID`, `rbv2_xgboost/ID`: surrogates of YAHPO Gym (Pfisterer et al.
2022): 52 and 98 epochs, and the share of the training data in 20 steps, each of them a training
anew. Their curves are smoother than real ones. All but nb301 tell seconds.
`crossing/NAME`: formulas whose early losses mislead: settings that learn slowly, or have a high
loss until the learning rate falls, end best; those that fit fast overfit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import BaseTrial

from experiments import surfaces
from experiments.harness.problems import Params, Problem

Array = NDArray[np.float64]

TASKSET = "TASKSET_DATA"  # a variable of the environment, as surfaces.DATA is
_CONFIGURATIONS = 1000  # random ones that an end is ranked among
_STEPS = 50  # of made curves
_FIDELITIES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "lcbench": ("epoch", tuple(range(1, 53))),
    "nb301": ("epoch", tuple(range(1, 99))),
    "rbv2_svm": ("trainsize", tuple(k / 20 for k in range(1, 21))),
    "rbv2_xgboost": ("trainsize", tuple(k / 20 for k in range(1, 21))),
}


@dataclass(frozen=True)
class Curve:
    """Losses at each step, which may be NaN, and what was spent until then, ``(t,)`` each."""

    loss: Array
    seconds: Array


class CurveTask(Protocol):
    """A space whose points have learning curves."""

    def suggest(self, trial: BaseTrial) -> Params:
        """Parameters of a trial, by Optuna's public methods."""

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """The curve of a configuration."""

    @property
    def ends(self) -> Array:
        """Last losses of random configurations, ascending, not finite ones last, ``(n,)``."""


@dataclass(frozen=True)
class CurveTable:
    """Configurations with their curves.

    Attributes:
        names: Of the parameters.
        u: Configurations in the unit cube, shape ``(n, d)``.
        loss: Losses at each step, which may be NaN, shape ``(n, t)``.
    """

    names: tuple[str, ...]
    u: Array
    loss: Array

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The parameters' distributions."""
        return {name: FloatDistribution(0, 1) for name in self.names}

    def suggest(self, trial: BaseTrial) -> Params:
        """Parameters of a trial, whose sampler chooses among the configurations."""
        return {name: trial.suggest_float(name, 0, 1) for name in self.names}

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """The curve of the configuration that has these parameters exactly."""
        u = np.array([params[name] for name in self.names])
        loss = self.loss[int(np.abs(self.u - u).sum(1).argmin())]
        return Curve(loss, np.arange(1.0, len(loss) + 1))

    @cached_property
    def ends(self) -> Array:
        """Last losses of all configurations."""
        return np.sort(self.loss[:, -1])


@dataclass(frozen=True)
class CurveSurface:
    """A surrogate whose losses are known at each of some fidelities."""

    name: str

    def suggest(self, trial: BaseTrial) -> Params:
        """Parameters that exist together."""
        return surfaces.problem(self.name).suggest(trial)

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """By one evaluation of the surrogate at each fidelity."""
        scenario = self.name.partition("/")[0]
        fidelity, values = _FIDELITIES[scenario]
        surface = surfaces.surface(self.name)
        out = np.vstack([surface.outputs([dict(params)], **{fidelity: v}) for v in values])
        kind = surface.scenario
        loss = out[:, kind.outputs.index(kind.output)] * (-1 if kind.maximised else 1)
        if scenario == "nb301":  # its seconds do not grow with the epochs
            return Curve(loss, np.arange(1.0, len(loss) + 1))
        seconds = np.maximum(out[:, kind.outputs.index(kind.seconds)], 1e-3)
        if fidelity == "trainsize":
            return Curve(loss, np.cumsum(seconds))
        return Curve(loss, np.maximum.accumulate(seconds) + 1e-3 * np.arange(len(loss)))

    @cached_property
    def ends(self) -> Array:
        """Last losses of random configurations."""
        task, rng = surfaces.problem(self.name), np.random.default_rng(0)
        points = rng.random((_CONFIGURATIONS, len(task.space)))
        params = [surfaces.existing(task, task.at(point)) for point in points]
        return np.sort(surfaces.surface(self.name).losses(params))


@dataclass(frozen=True)
class MadeCurves:
    """Curves by a formula of parameters in the unit cube ``(…, d)`` and steps ``(t,)``."""

    formula: Callable[[Array, Array], Array]
    dimension: int

    @property
    def problem(self) -> Problem:
        """The space."""
        space = {f"x{j}": FloatDistribution(0, 1) for j in range(self.dimension)}
        return Problem("crossing", space, lambda p: float(self.curve(p).loss[-1]))

    def suggest(self, trial: BaseTrial) -> Params:
        """Parameters of a trial."""
        return self.problem.suggest(trial)

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """The formula's values."""
        steps = np.arange(1.0, _STEPS + 1)
        x = np.array([params[f"x{j}"] for j in range(self.dimension)])
        return Curve(self.formula(x[:, None], steps), steps)

    @cached_property
    def ends(self) -> Array:
        """Last losses of random configurations."""
        x = np.random.default_rng(0).random((self.dimension, _CONFIGURATIONS, 1))
        return np.sort(self.formula(x, np.arange(1.0, _STEPS + 1))[:, -1])


def _slow(x: Array, s: Array) -> Array:
    """Small learning rates take ten times as long and end best; below a tenth, too long."""
    rate, momentum, decay = x
    end = 0.1 + 0.5 * rate + 0.3 * (momentum - 0.4) ** 2 + 0.1 * (decay - 0.5) ** 2
    end = end + np.where(rate < 0.1, 0.5, 0.0)
    return end + (2 - end) * np.exp(-s / (3 * 10 ** (1.1 * (1 - rate))))


def _decay(x: Array, s: Array) -> Array:
    """The rate falls at 70 % of the steps: the larger it was, the higher the loss before that."""
    rate, momentum, decay, _ = x
    plateau = 0.3 + 0.5 * rate**1.5 + 0.2 * (momentum - 0.6) ** 2
    end = 0.15 + 0.5 * (rate - 0.7) ** 2 + 0.2 * (momentum - 0.6) ** 2 + 0.1 * (decay - 0.3) ** 2
    before = plateau + (2 - plateau) * np.exp(-s / (2 + 8 * (1 - rate)))
    fallen = 1 / (1 + np.exp(0.7 * s[-1] - s))
    return before * (1 - fallen) + end * fallen


def _overfit(x: Array, s: Array) -> Array:
    """Large models learn fast, and their loss rises again by more than small ones end above."""
    size, rate, decay = x
    speed = 2 + 12 * (1 - size) + 6 * (rate - 0.5) ** 2
    rise = (0.2 + 1.2 * size**2) * (1 - 0.8 * decay) * (s / s[-1]) ** 2
    floor = 0.25 - 0.15 * size + 0.5 * (rate - 0.6) ** 2 + 0.2 * decay**2
    return floor + (1.6 - floor) * np.exp(-s / speed) + rise


def _anneal(x: Array, s: Array) -> Array:
    """The rate falls linearly: the noise of larger ones hides that they get farther."""
    rate, momentum, batch = x
    left = 1 - s / s[-1]
    reach = 0.1 + 0.6 * np.abs(rate - 0.8) + 0.3 * (momentum - 0.3) ** 2
    noise = 2 * rate * (1 - 0.5 * batch) * left
    return reach + 0.1 * batch + noise + np.exp(-s / (2 + 10 * (1 - rate)))


CROSSING: Mapping[str, MadeCurves] = {
    "slow": MadeCurves(_slow, 3),
    "decay": MadeCurves(_decay, 4),
    "overfit": MadeCurves(_overfit, 3),
    "anneal": MadeCurves(_anneal, 3),
}


@cache
def table(path: str) -> CurveTable:
    """The table of a file of TaskSet, parameters as their logarithm (betas as 1 − beta)."""
    data = np.load(path)
    names = tuple(str(name) for name in data["parameters"])
    x = np.array(
        [c if not n.startswith("beta") else 1 - c for n, c in zip(names, data["x"].T, strict=True)]
    ).T
    logarithm = np.log(np.maximum(x, 1e-12))
    low, high = logarithm.min(0), logarithm.max(0)
    return CurveTable(names, (logarithm - low) / (high - low), data["valid_loss"].astype(float))


@cache
def task(name: str) -> CurveTask:
    """A task by its name."""
    suite, _, rest = name.partition("/")
    if suite == "taskset":
        return table(str(Path(os.environ[TASKSET]) / f"{rest}.npz"))
    return CROSSING[rest] if suite == "crossing" else CurveSurface(name)


def names(final: bool) -> dict[str, list[str]]:
    """Tasks by suite, of the folders that are given: for development, or final ones.

    Of TaskSet in alphabetical order the odd ones are for development, the even ones final; of YAHPO
    Gym's tasks those that `experiments.surfaces` has; nb301, which is one task, is final.
    """
    split = surfaces.FINAL if final else surfaces.DEVELOPMENT
    found: dict[str, list[str]] = {}
    if TASKSET in os.environ:
        files = sorted(Path(os.environ[TASKSET]).glob("*.npz"))[int(final) :: 2]
        found["taskset"] = [f"taskset/{file.stem}" for file in files]
    if surfaces.DATA in os.environ:
        found["lcbench"] = [f"lcbench/{t}" for t in split["lcbench"][:4]]
        shares = [f"{s}/{t}" for s in ("rbv2_svm", "rbv2_xgboost") for t in split[s][:2]]
        found["training share"] = shares
        if final:
            found["nb301"] = ["nb301/"]
    made = ("overfit", "anneal") if final else ("slow", "decay")
    found["crossing"] = [f"crossing/{name}" for name in made]
    return found


def nearly(name: str, loss: float) -> float:
    """A loss plus a hundredth of what the median configuration is worse by: as good as it."""
    return loss + 0.01 * max(float(np.nanmedian(task(name).ends)) - loss, 0.0)


def better(name: str, loss: float) -> float:
    """Share of a task's random configurations that end below a loss."""
    ends = task(name).ends
    return float(np.searchsorted(ends, loss)) / len(ends) if math.isfinite(loss) else 1.0
