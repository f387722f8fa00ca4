"""Classical test functions on which no method was chosen: a check beside BBOB, by log10 regret.

    python -m experiments.functions --quick    5 functions, 1 box, 30 evaluations
    python -m experiments.functions --write    15 functions in 3 boxes, to experiments/results too

BBOB's functions have other instances for development, but are the same functions. These 15, of 2 to
8 parameters, are those of ``botorch.test_functions`` (Surjanovic & Bingham's collection) that
neither BBOB nor any experiment on which the sampler was developed has. They were listed before any
of them was run.

Many have their minimum at the centre of their domain, which a search may try first, so every run
is in a box of three quarters of each side, drawn by the run's seed among those that hold the
minimum. Traces are kept in runs/functions.jsonl and are not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from botorch.test_functions import synthetic
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from scipy.optimize import minimize

from experiments.harness.comparison import Suite, log10_regret
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, Trace, optimize
from experiments.suite_command import command

Array = NDArray[np.float64]

BUDGET = 50
BOXES = 3
SHARE = 0.75  # of each side of the domain
MICHALEWICZ = (2.202906, 1.570796, 1.284992, 1.923058, 1.720470)  # BoTorch does not tell it
FUNCTIONS: dict[str, dict[str, int]] = {
    "Beale": {},
    "Bukin": {},
    "Cosine8": {},
    "DixonPrice": {"dim": 5},
    "DropWave": {},
    "EggHolder": {},
    "Griewank": {"dim": 5},
    "Hartmann": {"dim": 3},
    "HolderTable": {},
    "Michalewicz": {"dim": 5},
    "Powell": {"dim": 4},
    "Shekel": {},
    "SixHumpCamel": {},
    "StyblinskiTang": {"dim": 5},
    "ThreeHumpCamel": {},
}


@dataclass(frozen=True)
class Function:
    """A function that is minimised.

    Attributes:
        formula: BoTorch's.
        minimiser: A point where it is least, shape ``(d,)``.
        minimum: Its value there.
    """

    formula: Any
    minimiser: Array
    minimum: float

    @property
    def bounds(self) -> Array:
        """Low and high ends of the domain, shape ``(2, d)``."""
        found: Array = self.formula.bounds.numpy()
        return found

    def __call__(self, x: Sequence[float]) -> float:
        """The value at a point ``(d,)``."""
        return float(self.formula(torch.from_numpy(np.array([x], dtype=np.float64))))


def formula(name: str) -> Any:
    """BoTorch's function; Cosine8, which is published with its maximum, is negated."""
    of = getattr(synthetic, name)
    return of(negate=name == "Cosine8", dtype=torch.double, **FUNCTIONS[name])


@cache
def function(name: str) -> Function:
    """A function of BoTorch, its published minimiser polished to machine precision."""
    known = formula(name)._optimizers or [MICHALEWICZ]
    bare = Function(formula(name), np.array(known[0]), 0.0)
    exact = {"xatol": 1e-12, "fatol": 1e-14, "maxiter": 20_000}
    bounds = list(zip(*bare.bounds, strict=True))
    polished = minimize(bare, known[0], method="Nelder-Mead", bounds=bounds, options=exact)
    best = min((polished.x, bare.minimiser), key=bare)
    return Function(bare.formula, best, bare(best))


def names() -> dict[str, tuple[str, int]]:
    """Functions and boxes by the names of their problems."""
    return {
        f"{name.lower()}_i{box:02d}_d{formula(name).dim}": (name, box)
        for box in range(BOXES)
        for name in FUNCTIONS
    }


def problem(name: str) -> Problem:
    """A function's regret in one of its boxes."""
    label, box = names()[name]
    found = function(label)
    low, high = found.bounds
    width = SHARE * (high - low)
    least = np.maximum(low, found.minimiser - width)
    most = np.minimum(high - width, found.minimiser)
    corner = least + np.random.default_rng(box).random(len(low)) * (most - least)
    space: dict[str, BaseDistribution] = {
        f"x{j}": FloatDistribution(float(a), float(a + w))
        for j, (a, w) in enumerate(zip(corner, width, strict=True))
    }

    def loss(params: Params) -> float:
        return max(found([params[key] for key in space]) - found.minimum, 0.0)

    return Problem(name, space, loss)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, problem(run.problem))


SUITE = Suite(
    "functions",
    work,
    final=tuple((name, box) for name, (_, box) in names().items()),
    dev=(),
    quick=tuple((name, 0) for name in list(names())[: len(FUNCTIONS) : 3]),
    quick_budget=30,
    scale=lambda: log10_regret,
    metric="log10 regret",
    package="botorch",
)


def main(argv: Sequence[str] | None = None) -> None:
    samplers = ("fisher", "gp", "tpe", "cmaes", "lq", "random")
    title = "Test functions that no method was chosen on"
    command(SUITE, __doc__, title, samplers, BUDGET, argv)


if __name__ == "__main__":
    main()
