"""BBOB: average rank of samplers on the 24 noiseless functions, on paired designs.

    python -m experiments.bbob --quick          5-D, 24 functions, 2 instances, 60 evaluations
    python -m experiments.bbob --dimension 10 --budget 80 --instances 1 2 3

Traces are kept in runs/bbob.jsonl and are not run again; the table compares all samplers by the
best value so far, with a paired Wilcoxon test (Holm) and a bootstrap interval against fisher.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table

from experiments import statistics
from experiments.traces import RESULTS, Run, Trace, collect, design, optimize

SAMPLERS = ("fisher", "gp", "tpe", "cmaes", "random")
FUNCTIONS = range(1, 25)
LOW, HIGH = -5.0, 5.0


def problem_name(function: int, instance: int, dimension: int) -> str:
    return f"f{function:03d}_i{instance:02d}_d{dimension:02d}"


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    import cocoex

    function, instance, dimension = (int(part[1:]) for part in run.problem.split("_"))
    suite = cocoex.Suite(
        "bbob",
        f"instances: {instance}",
        f"function_indices: {function} dimensions: {dimension}",
    )
    problem = suite[0]
    optimum = _optimum(problem)

    def objective(trial: optuna.Trial) -> float:
        x = [trial.suggest_float(f"x{j:02d}", LOW, HIGH) for j in range(dimension)]
        return float(problem(x)) - optimum

    points = LOW + (HIGH - LOW) * design(dimension, run.problem, run.seed)
    first = ({f"x{j:02d}": float(v) for j, v in enumerate(point)} for point in points)
    return optimize(run, objective, first)


def _optimum(problem: Any) -> float:
    """Value at the function's known minimiser, which cocoex writes to a file only."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                problem._best_parameter("print")
            x = np.loadtxt("._bbob_problem_best_parameter.txt")
        finally:
            os.chdir(here)
    return float(problem(x))


def report(traces: Sequence[Trace], samplers: Sequence[str], budget: int) -> None:
    """Print average ranks at several numbers of evaluations, and the tests at the last."""
    problems = sorted({(t.run.problem, t.run.seed) for t in traces})
    best = {
        (t.run.problem, t.run.seed, t.run.sampler): np.minimum.accumulate(t.values) for t in traces
    }
    marks = [m for m in (15, 20, 30, 40, 60, 80, 100, 150, 200) if m < budget] + [budget]
    losses = {
        m: np.array([[best[*p, s][m - 1] for s in samplers] for p in problems]) for m in marks
    }
    table = Table(title=f"BBOB: average rank over {len(problems)} problems (1 = best)")
    table.add_column("sampler")
    for m in marks:
        table.add_column(f"{m} evals", justify="right")
    for name in (
        "log10 regret",
        "wins of fisher",
        "p (Holm)",
        "rank − fisher, 95 %",
        "CPU ms/suggestion",
    ):
        table.add_column(name, justify="right")
    last = losses[budget]
    p_values = statistics.paired_wilcoxon(np.log10(np.maximum(last, 1e-12)), 0)
    seconds = {s: np.mean([t.cpu_seconds for t in traces if t.run.sampler == s]) for s in samplers}
    for j, s in enumerate(samplers):
        regret = np.log10(np.maximum(last[:, j], 1e-12)).mean()
        row = [f"{statistics.average_ranks(losses[m])[j]:.2f}" for m in marks] + [f"{regret:.2f}"]
        if j == 0:
            row += ["–", "–", "–"]
        else:
            low, high = statistics.bootstrap_interval(last, [p[0][:4] for p in problems], 0, j)
            wins = np.mean(last[:, 0] < last[:, j]) + 0.5 * np.mean(last[:, 0] == last[:, j])
            row += [f"{wins:.0%}", f"{p_values[j]:.1e}", f"[{low:+.2f}, {high:+.2f}]"]
        table.add_row(s, *row, f"{1000 * seconds[s] / budget:.1f}")
    console = Console(width=160)
    console.print(table)
    console.print(
        f"Friedman p = {statistics.friedman_p(last):.1e}; the first 10 points of each problem are "
        "the same for every sampler; p: paired Wilcoxon on log10 regret against fisher"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bbob",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the table of the README, under 5 min")
    parser.add_argument("--dimension", type=int, default=5)
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--functions", type=int, nargs="+", default=list(FUNCTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    if args.quick:
        args.dimension, args.budget, args.instances, args.seeds = 5, 60, [1, 2], [0]
        args.functions = list(FUNCTIONS)
    runs = [
        Run(sampler, problem_name(function, instance, args.dimension), seed, args.budget)
        for sampler in args.samplers
        for function in args.functions
        for instance in args.instances
        for seed in args.seeds
    ]
    traces = collect(runs, work, RESULTS / "bbob.jsonl", workers=args.workers)
    report(traces, args.samplers, args.budget)


if __name__ == "__main__":
    main()
