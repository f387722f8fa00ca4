"""Studies in which something is wrong: one value, the values of a region, or what trials tell.

A study minimises a test function over the unit cube. Its kind says what is wrong:

    clean, again             nothing; in "again" the sampler has other random numbers
    outlier, 1e30, ...       one of the ten design points returns another value
    quarter ...              a penalty is returned in the quarter of the space where u[0] > 0.75
    always, where broken, …  a constraint is broken where u[0] > 0.6, and not all trials tell it

A row has the true values of the trials that count and the points of all trials.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy.stats.qmc import Sobol

from experiments.harness import rows
from experiments.harness.peers import sampler_version
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, optimize

Array = NDArray[np.float64]

AGAIN = 10_000  # added to the seed where the random numbers are to differ
QUARTER = 0.75
LIMIT = 0.6
LURE = 0.5  # of the function's range, by which values are lower where the constraint is broken

ONE_VALUE = ("outlier", "1e30", "largest", "+inf", "-inf", "-1e30", "nan")
PENALTIES: Mapping[str, Callable[[np.random.Generator], float]] = {
    "quarter inf": lambda rng: np.inf,
    "quarter 1e6": lambda rng: 1e6,
    "quarter 1e26": lambda rng: 1e26,
    "quarter 1e26, noisy": lambda rng: 1e26 * (1 + rng.random()),
}
# What trial i tells of a constraint with value c: None for nothing
TOLD: Mapping[str, Callable[[int, float], float | None]] = {
    "always": lambda i, c: c,
    "where broken": lambda i, c: c if c > 0 else None,
    "where broken, as 1": lambda i, c: 1.0 if c > 0 else None,
    "every other trial": lambda i, c: c if i % 2 else None,
}
ONCE = "once"  # trial 3 alone tells 1, whatever it is, and nothing is known of feasibility


# Functions of a point of the unit cube, less their minimum


def branin(u: Array) -> float:
    x, y = 15 * u[0] - 5, 15 * u[1]
    bowl = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10 - 0.39788735772973816)


HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(u: Array) -> float:
    hills = np.exp(-np.sum(HARTMANN_A * (u - HARTMANN_P) ** 2, 1))
    return float(3.32236801141551 - np.array([1.0, 1.2, 3.0, 3.2]) @ hills)


def levy5(u: Array) -> float:
    w = 1 + (20 * u - 11) / 4
    waves = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + waves.sum() + last)


def ellipsoid4(u: Array) -> float:
    return float(10 ** np.linspace(0, 2, 4) @ (u - np.array([0.3, 0.6, 0.45, 0.7])) ** 2)


def constant(u: Array) -> float:
    return 1.0


FUNCTIONS: Mapping[str, tuple[int, Callable[[Array], float]]] = {
    "branin": (2, branin),
    "hartmann6": (6, hartmann6),
    "levy5": (5, levy5),
    "ellipsoid4": (4, ellipsoid4),
    "constant2": (2, constant),
    "constant5": (5, constant),
}


@cache
def value_range(function: str) -> float:
    """Largest less smallest of 1,024 values over the box."""
    d, f = FUNCTIONS[function]
    values = [f(u) for u in Sobol(d, rng=0).random(1024)]
    return max(values) - min(values)


@dataclass(frozen=True)
class Study(Problem):
    """A problem whose design does not change where only the sampler's random numbers shall."""

    def design(self, seed: int) -> list[Params]:
        """The first points of the seed, or of the seed that is run again."""
        return super().design(seed % AGAIN)


@dataclass(frozen=True)
class Cell:
    sampler: str
    function: str
    kind: str
    seed: int
    budget: int

    def key(self) -> str:
        """Names the versions and all settings."""
        who = f"{self.sampler}@{sampler_version(self.sampler)}"
        return f"{who}/{self.function}/{self.kind}/{self.seed}/{self.budget}"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a study, of trial ``i`` at point ``u``.

    Attributes:
        returns: The value that is returned in place of the true value ``y``.
        counts: Whether the trial's true value counts in the regret.
        tells: The value of the constraint that the trial tells, None for nothing.
    """

    returns: Callable[[int, Array, float], float] = lambda i, u, y: y
    counts: Callable[[int, Array], bool] = lambda i, u: True
    tells: Callable[[int, Array], float | None] = lambda i, u: None


def work(cell: Cell) -> rows.Row:
    """Run one study: the true values of the trials that count, in order, and all points."""
    d, f = FUNCTIONS[cell.function]
    space: dict[str, BaseDistribution] = {f"x{j}": FloatDistribution(0, 1) for j in range(d)}
    points: list[list[float]] = []
    fault = fault_of(cell)

    def loss(params: Params) -> float:
        points.append([params[name] for name in space])
        u = np.array(points[-1])
        return fault.returns(len(points) - 1, u, f(u))

    def constrain(trial: optuna.Trial, params: Params) -> None:
        told = fault.tells(trial.number, np.array([params[name] for name in space]))
        if told is not None:
            trial.set_constraint("c", told)

    study = Study(cell.function, space, loss, constrain=constrain)
    seed = cell.seed + AGAIN * (cell.kind == "again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimize(Run(cell.sampler, cell.function, seed, cell.budget), study)
    us = [np.array(u) for u in points]
    return {"values": [f(u) for i, u in enumerate(us) if fault.counts(i, u)], "points": points}


def fault_of(cell: Cell) -> Fault:
    """What is wrong with the cell's study."""
    if cell.kind in ONE_VALUE:
        index, bad = replacement(cell)
        return Fault(
            returns=lambda i, u, y: bad if i == index else y, counts=lambda i, u: i != index
        )
    if cell.kind in PENALTIES:
        penalty, rng = PENALTIES[cell.kind], np.random.default_rng(cell.seed)
        return Fault(
            returns=lambda i, u, y: penalty(rng) if u[0] > QUARTER else y,
            counts=lambda i, u: bool(u[0] <= QUARTER),
        )
    if cell.kind in TOLD:
        told, lure = TOLD[cell.kind], LURE * value_range(cell.function)
        return Fault(
            returns=lambda i, u, y: y - lure if u[0] > LIMIT else y,
            counts=lambda i, u: bool(u[0] <= LIMIT),
            tells=lambda i, u: told(i, float(u[0] - LIMIT)),
        )
    if cell.kind == ONCE:
        return Fault(tells=lambda i, u: 1.0 if i == 3 else None)
    return Fault()


def replacement(cell: Cell) -> tuple[int, float]:
    """Which design point's value is replaced, and by what; it is not the best of the design."""
    d, f = FUNCTIONS[cell.function]
    names = {f"x{j}": FloatDistribution(0, 1) for j in range(d)}
    design = Problem(cell.function, names, lambda p: 0.0).design(cell.seed)
    values = np.array([f(np.array(list(p.values()))) for p in design])
    bad = {
        "outlier": values.max() + 1e6 * value_range(cell.function),
        "largest": sys.float_info.max,
    }
    others = np.argsort(values)[1:]
    drawn = np.random.default_rng(cell.seed).choice(others)
    return int(drawn), float(bad.get(cell.kind, cell.kind))
