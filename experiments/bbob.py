"""BBOB: the 24 noiseless functions, continuous or with integers, by log10 regret.

    python -m experiments.bbob --quick              24 functions, 1 instance, 40 evaluations
    python -m experiments.bbob                      5-D, instances 1 and 2, 100 evaluations
    python -m experiments.bbob --dimension 10
    python -m experiments.bbob --suite mixint       4 of 5 variables are integers
    python -m experiments.bbob --dev                instances 3 and 4
    python -m experiments.bbob --late --write       2, 3, 5 and 10-D, 50 evaluations a dimension

Methods are tuned on the development instances only; reports are about the others. Traces are kept
in runs/bbob.jsonl and runs/mixint.jsonl and are not run again. Needs ``coco-experiment``.

The late runs, in runs/late.jsonl, are against CMA-ES and lq-CMA-ES (``pip install cma``), which
need such numbers of evaluations. Their tables are written to experiments/results/late.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from rich.console import Console

from experiments.harness import rows
from experiments.harness.comparison import (
    DEFAULT_SAMPLERS,
    Suite,
    compare,
    current,
    execute,
    log10_regret,
    parser,
    report,
)
from experiments.harness.problems import Params, Problem
from experiments.harness.traces import Run, Trace, optimize

FUNCTIONS = range(1, 25)
LATE_DIMENSIONS, LATE_SAMPLERS = (2, 3, 5, 10), ("fisher", "lq", "cmaes")
PER_DIMENSION = 50  # evaluations of the late runs


def problem_name(function: int, instance: int, dimension: int, *, mixint: bool = False) -> str:
    return f"{'mixint_' * mixint}f{function:03d}_i{instance:02d}_d{dimension:02d}"


def coco_suite(name: str) -> Any:
    """COCO's suite whose only problem is this function."""
    import cocoex

    function, instance, dimension = (int(part[1:]) for part in name.split("_")[-3:])
    return cocoex.Suite(
        "bbob-mixint" if name.startswith("mixint") else "bbob",
        f"instances: {instance}",
        f"function_indices: {function} dimensions: {dimension}",
    )


def problem(name: str) -> Problem:
    """A function of COCO, less its optimum."""
    coco = coco_suite(name)[0]
    optimum = float(coco(minimiser(coco)))
    space: dict[str, BaseDistribution] = {
        f"x{j:02d}": IntDistribution(int(low), int(high))
        if j < coco.number_of_integer_variables
        else FloatDistribution(float(low), float(high))
        for j, (low, high) in enumerate(zip(coco.lower_bounds, coco.upper_bounds, strict=True))
    }

    def loss(params: Params) -> float:
        return float(coco([params[key] for key in space])) - optimum

    return Problem(name, space, loss)


def minimiser(coco: Any) -> NDArray[np.float64]:
    """The known minimiser of a function of COCO, which cocoex writes to a file only, ``(d,)``."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                coco._best_parameter("print")
            return np.atleast_1d(np.loadtxt("._bbob_problem_best_parameter.txt"))
        finally:
            os.chdir(here)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, problem(run.problem))


def suite(
    dimension: int = 5,
    *,
    mixint: bool = False,
    instances: Sequence[int] = (1, 2),
    functions: Sequence[int] = FUNCTIONS,
) -> Suite:
    """The functions in one dimension; instances 3 and 4 are for development."""

    def pairs(chosen: Sequence[int]) -> tuple[tuple[str, int], ...]:
        return tuple(
            (problem_name(f, i, dimension, mixint=mixint), 0) for i in chosen for f in functions
        )

    return Suite(
        "mixint" if mixint else "bbob",
        work,
        final=pairs(instances),
        dev=pairs((3, 4)),
        quick=pairs(instances[:1]),
        quick_budget=30 if mixint else 40,
        scale=lambda: log10_regret,
        metric="log10 regret",
        package="coco-experiment",
    )


def late(args: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Long runs in several dimensions, and their tables."""
    console = Console(width=180, record=True)
    for dimension in LATE_DIMENSIONS:
        chosen = replace(
            suite(dimension, instances=args.instances, functions=args.functions), name="late"
        )
        args.budget = PER_DIMENSION * dimension
        execute(chosen, args)
        pairs = chosen.quick if args.quick else chosen.dev if args.dev else chosen.final
        if traces := current(chosen):
            console.print(report(f"BBOB {dimension}-D", compare(chosen, traces, pairs)))
    if args.write:
        made_by = f"Made by `{rows.command('bbob', argv)}`."
        rows.write(console, "late", "BBOB to 50 evaluations a dimension", made_by)


def main(argv: Sequence[str] | None = None) -> None:
    options = parser("bbob", __doc__, "write")
    options.add_argument("--late", action="store_true", help="50 evaluations a dimension")
    options.add_argument("--suite", choices=("bbob", "mixint"), default="bbob")
    options.add_argument("--dimension", type=int, default=5)
    options.add_argument("--instances", type=int, nargs="+", default=[1, 2])
    options.add_argument("--functions", type=int, nargs="+", default=list(FUNCTIONS))
    options.set_defaults(samplers=None)
    args = options.parse_args(argv)
    args.samplers = args.samplers or list(LATE_SAMPLERS if args.late else DEFAULT_SAMPLERS)
    if args.late:
        late(args, argv)
        return
    chosen = suite(
        args.dimension,
        mixint=args.suite == "mixint",
        instances=args.instances,
        functions=args.functions,
    )
    execute(chosen, args)


if __name__ == "__main__":
    main()
