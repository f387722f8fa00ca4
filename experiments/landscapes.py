"""Test functions of any dimension as continuous, mixed, conditional and multi-objective problems.

Formulas are those of BBOB (Hansen et al. 2009, RR-6829) and Ackley's (1987), without BBOB's small
distortions. Rotation and optimum are drawn for each instance; the optimum's value is 0. A problem
is named ``kind/function/dimension/instance``; of several objectives the function is their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from experiments.harness.problems import Params, Problem
from experiments.multi import Task, task_of

Array = NDArray[np.float64]

LEVELS = np.linspace(-4, 4, 9)  # of an integer
CHOICES = "abcde"
METHODS = ("one", "two", "three")
OFFSETS = (0.0, 0.1, 0.2)  # of the methods' optima, in medians of random points
BOX = 5.0


def ellipsoid(z: Array) -> float:
    """BBOB 2, condition 1e6."""
    return float(_powers_of(1e6, len(z)) @ z**2)


def rastrigin(z: Array) -> float:
    """BBOB 3."""
    return float(np.sum(10 - 10 * np.cos(2 * np.pi * z) + z**2))


def rosenbrock(z: Array) -> float:
    """BBOB 9; two variables or more."""
    z = max(1.0, np.sqrt(len(z)) / 8) * z + 1
    return float(np.sum(100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2))


def ridge(z: Array) -> float:
    """BBOB 13, the sharp ridge, condition 10; two variables or more."""
    z = np.sqrt(_powers_of(10, len(z))) * z
    return float(z[0] ** 2 + 100 * np.linalg.norm(z[1:]))


def different_powers(z: Array) -> float:
    """BBOB 14."""
    exponents = 2 + 4 * np.arange(len(z)) / max(len(z) - 1, 1)
    return float(np.sqrt(np.sum(np.abs(z) ** exponents)))


def ackley(z: Array) -> float:
    """Ackley's function: many local minima, one funnel."""
    width = np.exp(-0.2 * np.sqrt(np.mean(z**2)))
    return float(20 - 20 * width + np.e - np.exp(np.mean(np.cos(2 * np.pi * z))))


def _powers_of(condition: float, dimension: int) -> Array:
    """Weights from 1 to the condition number, shape ``(d,)``."""
    powers: Array = condition ** (np.arange(dimension) / max(dimension - 1, 1))
    return powers


@dataclass(frozen=True)
class Formula:
    """A function with its minimum of 0 at 0.

    Attributes:
        value: From ``(d,)`` to its value.
        rotated: Whether its axes are turned.
        least: Variables that it needs.
    """

    value: Callable[[Array], float]
    rotated: bool
    least: int = 1


FORMULAS: Mapping[str, Formula] = {
    "ellipsoid": Formula(ellipsoid, False),
    "rosenbrock": Formula(rosenbrock, True, 2),
    "rastrigin": Formula(rastrigin, False),
    "ridge": Formula(ridge, True, 2),
    "ackley": Formula(ackley, True),
    "powers": Formula(different_powers, True),
}


def functions(dimension: int) -> tuple[str, ...]:
    """Names of the functions that there are in this dimension."""
    return tuple(name for name, formula in FORMULAS.items() if dimension >= formula.least)


@dataclass(frozen=True)
class Landscape:
    """A function with its optimum moved, and rotated or not.

    Attributes:
        formula: With the minimum at 0.
        optimum: Shape ``(d,)``.
        rotation: Orthogonal, ``(d, d)``; None for none.
    """

    formula: Formula
    optimum: Array
    rotation: Array | None

    def __call__(self, x: Array) -> float:
        """The value at ``(d,)``, 0 or more."""
        z = x - self.optimum
        return self.formula.value(z if self.rotation is None else self.rotation @ z)


def landscape(function: str, optimum: Array, rng: np.random.Generator) -> Landscape:
    """A function of FORMULAS with this optimum ``(d,)`` and a random rotation."""
    formula, d = FORMULAS[function], len(optimum)
    turned = formula.rotated and d > 1
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0] if turned else None
    return Landscape(formula, optimum, rotation)


@cache
def problem(name: str) -> Problem:
    """A problem with one objective by its name."""
    kind, function, dimension, instance = name.split("/")
    rng = np.random.default_rng([int(dimension), int(instance), *function.encode()])
    make = {"continuous": continuous, "mixed": mixed, "conditional": conditional}[kind]
    return make(name, function, int(dimension), rng)


def continuous(name: str, function: str, dimension: int, rng: np.random.Generator) -> Problem:
    """On the box [−5, 5]^d, with the optimum in [−4, 4]^d."""
    f = landscape(function, rng.uniform(-4, 4, dimension), rng)
    space = {f"x{j:03d}": FloatDistribution(-BOX, BOX) for j in range(dimension)}
    return Problem(name, space, lambda params: f(np.array([params[n] for n in space])))


@dataclass(frozen=True)
class Axis:
    """A parameter and the coordinate that its value stands for."""

    distribution: BaseDistribution
    coordinate: Callable[[object], float]
    optimum: float


def mixed_axis(j: int, rng: np.random.Generator) -> Axis:
    """In turn a float, a logarithmic float, an integer, and a category without an order."""
    match j % 4:
        case 0:
            return Axis(FloatDistribution(-BOX, BOX), _number, rng.uniform(-4, 4))
        case 1:
            made = FloatDistribution(10**-BOX, 10**BOX, log=True)
            return Axis(made, lambda v: float(np.log10(_number(v))), rng.uniform(-4, 4))
        case 2:
            return Axis(
                IntDistribution(0, len(LEVELS) - 1),
                lambda v: float(LEVELS[int(_number(v))]),
                float(rng.choice(LEVELS)),
            )
        case _:
            places = rng.permutation(LEVELS[::2]).tolist()
            return Axis(
                CategoricalDistribution(CHOICES),
                lambda v: float(places[CHOICES.index(str(v))]),
                float(rng.choice(places)),
            )


def _number(value: object) -> float:
    assert isinstance(value, (int, float))
    return float(value)


def mixed(name: str, function: str, dimension: int, rng: np.random.Generator) -> Problem:
    """Floats, logarithmic floats, integers and categories in turn; the optimum is one of them."""
    axes = {f"x{j:03d}": mixed_axis(j, rng) for j in range(dimension)}
    f = landscape(function, np.array([axis.optimum for axis in axes.values()]), rng)

    def loss(params: Params) -> float:
        return f(np.array([axis.coordinate(params[n]) for n, axis in axes.items()]))

    return Problem(name, {n: axis.distribution for n, axis in axes.items()}, loss)


def conditional(name: str, function: str, dimension: int, rng: np.random.Generator) -> Problem:
    """Three methods, a category: some parameters are shared, the others are of one method alone.

    Each method has the function with an optimum of its own, at 0, .1 and .2 of the median of random
    points, in an order that is drawn.
    """
    own = (dimension - 1) // 4
    shared = [f"s{j:03d}" for j in range(dimension - 1 - 3 * own)]
    parts = {m: [f"{m}{j:03d}" for j in range(own)] for m in METHODS}
    size = len(shared) + own
    common = rng.uniform(-4, 4, len(shared))
    offsets = dict(zip(rng.permutation(METHODS).tolist(), OFFSETS, strict=True))
    fs = {m: landscape(function, np.append(common, rng.uniform(-4, 4, own)), rng) for m in METHODS}
    scale = float(np.median([fs["one"](x) for x in rng.uniform(-BOX, BOX, (256, size))]))
    space: dict[str, BaseDistribution] = {"method": CategoricalDistribution(METHODS)}
    names = [*shared, *(n for part in parts.values() for n in part)]
    space |= {n: FloatDistribution(-BOX, BOX) for n in names}
    conditions = {n: ("method", (m,)) for m, part in parts.items() for n in part}

    def loss(params: Params) -> float:
        m = params["method"]
        x = np.array([params[n] for n in (*shared, *parts[m])])
        return fs[m](x) + scale * float(offsets[m])

    return Problem(name, space, loss, conditions)


@cache
def task(name: str) -> Task:
    """Several objectives: as many functions, each with its own optimum, as bbob-biobj pairs two.

    Ideal is 0; nadir the worst value of an objective at another one's optimum.
    """
    _, count, dimension, instance = name.split("/")
    m, d, k = int(count), int(dimension), int(instance)
    rng = np.random.default_rng([m, d, k])
    chosen = rng.permutation(functions(d))[:m].tolist()
    fs = [landscape(function, rng.uniform(-4, 4, d), rng) for function in chosen]
    space = {f"x{j:03d}": FloatDistribution(-BOX, BOX) for j in range(d)}

    def objectives(params: Params) -> Array:
        x = np.array([params[n] for n in space])
        return np.array([f(x) for f in fs])

    nadir = np.array([max(f(other.optimum) for other in fs) for f in fs])
    return task_of(lambda loss: Problem(name, space, loss), objectives, np.zeros(m), nadir)
