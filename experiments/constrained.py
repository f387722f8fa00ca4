"""Several constraints: COCO's bbob-constrained and engineering designs, by log10 regret.

    python -m experiments.constrained --quick    5 problems, 1 seed, 30 evaluations
    python -m experiments.constrained --dev      other problems; methods are chosen on these only
    python -m experiments.constrained --write    26 problems, 2 seeds, to experiments/results too

Every constraint is told by ``Trial.set_constraint`` after the evaluation; CMA-ES cannot use it.
Final and development problems are different functions, divided before anything was run:

- COCO: its functions are nine objectives with six numbers of constraints each. Those with 3 and 9
  constraints are used in 5-D, those with 3 in 10-D. Final are the first, third, … of the nine
  (sphere, slope, discus, different powers, rotated Rastrigin), development the others (two
  ellipsoids, bent cigar, Rastrigin). Final runs are of instance 2: those of instance 1 were made
  with two earlier versions of the sampler, and its author knew their result.
- Designs (`experiments.designs`): final are the first, third, … of their names in alphabetical
  order.

The score after n evaluations is log10 of the best feasible point's regret so far, relative to the
optimum's absolute value (designs), or to the regret of the feasible point that COCO provides. It is
clipped to [−6, 2]; without a feasible point it is 3, which is worse than with any. Traces are kept
in runs/constrained.jsonl, with infinity in place of the values of infeasible points, and are not
run again. Needs ``coco-experiment``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution

from experiments.bbob import minimiser
from experiments.designs import DESIGNS
from experiments.harness.comparison import Scale, Suite
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, Trace, optimize
from experiments.suite_command import command

Array = NDArray[np.float64]

BUDGET = 60
LEVELS = 6  # numbers of constraints that COCO's objectives have: 1, 3, 9, 12, 16, 31 in 5-D
OBJECTIVES = 9
FINAL_INSTANCE, DEVELOPMENT_INSTANCE = 2, 1
SOLVED, LARGEST, INFEASIBLE = 1e-6, 1e2, 1e3


@dataclass(frozen=True)
class Constrained:
    """A problem whose constraints hold where all are at most 0.

    Attributes:
        space: Distributions by name.
        evaluate: Objective and constraints of parameters.
        optimum: Least feasible objective.
        unit: In which regret is measured.
    """

    space: dict[str, BaseDistribution]
    evaluate: Callable[[Params], tuple[float, Sequence[float]]]
    optimum: float
    unit: float


def design(name: str) -> Constrained:
    """An engineering design."""
    found = DESIGNS[name]
    value, space = found.value, found.space

    def evaluate(params: Params) -> tuple[float, Sequence[float]]:
        return found.formula([params[key] for key in space])

    return Constrained(space, evaluate, value, abs(value))


def coco_name(objective: int, level: int, dimension: int, instance: int = 1) -> str:
    """Of the objective (from 0) with COCO's number of constraints (from 0)."""
    function = objective * LEVELS + level + 1
    return f"bbob-constrained_f{function:03d}_i{instance:02d}_d{dimension:02d}"


def coco(name: str) -> Constrained:
    """A function of COCO."""
    import cocoex

    function, instance, dimension = (int(part[1:]) for part in name.split("_")[-3:])
    suite = cocoex.Suite(
        "bbob-constrained",
        f"instances: {instance}",
        f"function_indices: {function} dimensions: {dimension}",
    )
    problem: Any = suite[0]
    space: dict[str, BaseDistribution] = {
        f"x{j:02d}": FloatDistribution(float(low), float(high))
        for j, (low, high) in enumerate(
            zip(problem.lower_bounds, problem.upper_bounds, strict=True)
        )
    }

    def evaluate(params: Params) -> tuple[float, Sequence[float]]:
        x = [params[key] for key in space]
        return float(problem(x)), [float(c) for c in problem.constraint(x)]

    optimum = float(problem(minimiser(problem)))
    return Constrained(space, evaluate, optimum, float(problem(problem.initial_solution)) - optimum)


@cache
def constrained(name: str) -> Constrained:
    """A problem by its name in the suite."""
    return coco(name) if name.startswith("bbob") else design(name)


def problem(name: str) -> tuple[Problem, list[bool]]:
    """The same for a study, and a list of which trials were feasible, filled as they are told."""
    found = constrained(name)
    feasible: list[bool] = []

    def loss(params: Params) -> float:
        return found.evaluate(params)[0]

    def constrain(trial: optuna.Trial, params: Params) -> None:
        told = found.evaluate(params)[1]
        for j, value in enumerate(told):
            trial.set_constraint(f"c{j:02d}", value)
        feasible.append(max(told) <= 0)

    return Problem(name, found.space, loss, constrain=constrain), feasible


def run_on(run: Run, sampler: optuna.samplers.BaseSampler | None = None) -> Trace:
    """One run; infinity stands for the values of infeasible points."""
    task, feasible = problem(run.problem)
    trace = optimize(run, task, sampler)
    values = (v if holds else math.inf for v, holds in zip(trace.values, feasible, strict=True))
    return replace(trace, values=tuple(values))


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return run_on(run)


def score() -> Scale:
    """log10 of the regret in the problem's unit."""

    def scale(name: str, best: Array) -> Array:
        found = constrained(name)
        regret = np.clip((best - found.optimum) / found.unit, SOLVED, LARGEST)
        scaled: Array = np.log10(np.where(np.isfinite(best), regret, INFEASIBLE))
        return scaled

    return scale


def names(first: int) -> tuple[str, ...]:
    """Every second problem, from this one on (0: final, 1: development)."""
    objectives = range(first, OBJECTIVES, 2)
    kinds = ((1, 5), (2, 5), (1, 10))
    instance = DEVELOPMENT_INSTANCE if first else FINAL_INSTANCE
    found = (coco_name(o, level, n, instance) for level, n in kinds for o in objectives)
    return (*sorted(DESIGNS)[first::2], *found)


FINAL, DEVELOPMENT = names(0), names(1)
SUITE = Suite(
    "constrained",
    work,
    final=tuple((name, seed) for seed in (0, 1) for name in FINAL),
    dev=tuple((name, seed) for seed in (100, 101, 102) for name in DEVELOPMENT),
    quick=tuple((name, 100) for name in DEVELOPMENT[::5]),
    quick_budget=30,
    scale=score,
    metric=f"log10 regret ({math.log10(INFEASIBLE):.0f}: no feasible point)",
    package="coco-experiment",
)


def main(argv: Sequence[str] | None = None) -> None:
    samplers = ("fisher", "gp", "tpe", "random")
    command(SUITE, __doc__, "Several constraints", samplers, BUDGET, argv)


if __name__ == "__main__":
    main()
