"""COCO's data set of FisherSampler: 24 functions, 15 instances, 2 to 20-D, observed by COCO."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments import bbob
from experiments.harness import rows
from experiments.harness.problems import Params
from experiments.harness.traces import Run, optimize

DIMENSIONS = (2, 3, 5, 10, 20)
INSTANCES = (1, 2, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 5, 3, 4)
SAMPLERS = ("fisher", "lq")
PER_DIMENSION = 50
NAMES = {"fisher": "FisherSampler", "lq": "lq-CMA-ES"}
Improvement = tuple[int, float]


def runs(
    samplers: Sequence[str],
    dimensions: Sequence[int],
    instances: Sequence[int],
    functions: Sequence[int],
    per_dimension: int,
) -> list[Run]:
    """Instance by instance, so that a part of a dimension has all functions."""
    return [
        Run(s, bbob.problem_name(f, i, d), 100_000 * d + 1000 * f + i, per_dimension * d)
        for d in dimensions
        for i in instances
        for f in functions
        for s in samplers
    ]


def folder(run: Run) -> Path:
    """Where COCO writes a run."""
    who, _, _ = run.key().partition("/")
    return rows.RUNS / "coco" / who / run.problem


def work(run: Run) -> rows.Row:
    """One run, observed by COCO's logger."""
    import cocoex

    place = folder(run)
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
    cocoex.log_level("warning")
    observer = cocoex.Observer(
        "bbob",
        f"outer_folder: {place.parent} result_folder: {place.name} "
        f"algorithm_name: {NAMES[run.sampler]}",
    )
    problem, suite = bbob.problem(run.problem), bbob.coco_suite(run.problem)
    observed = suite[0]  # which the logger needs the whole suite for
    observed.observe_with(observer)

    values: list[float] = []

    def loss(params: Params) -> float:
        observed([params[name] for name in problem.space])
        values.append(problem.loss(params))
        if observed.final_target_hit:
            raise Solved
        return values[-1]

    start = time.process_time()
    try:
        with suppress(Solved):
            optimize(run, replace(problem, loss=loss))
    finally:
        observed.free()
    return {
        "run": asdict(run),
        "improvements": improvements(values),
        "evaluations": len(values),
        "cpu_seconds": time.process_time() - start,
    }


class Solved(Exception):
    """COCO's last target is reached, and the run ends."""


def improvements(values: Sequence[float]) -> list[Improvement]:
    """Each best value so far, with the number of its evaluation."""
    found: list[Improvement] = []
    for number, value in enumerate(values, 1):
        if not found or value < found[-1][1]:
            found.append((number, value))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.coco", description=__doc__)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--dims", type=int, nargs="+", default=list(DIMENSIONS))
    parser.add_argument("--instances", type=int, nargs="+", default=list(INSTANCES))
    parser.add_argument("--functions", type=int, nargs="+", default=list(bbob.FUNCTIONS))
    parser.add_argument("--per-dimension", type=int, default=PER_DIMENSION)
    args = parser.parse_args(argv)
    wanted = runs(args.samplers, args.dims, args.instances, args.functions, args.per_dimension)
    made = rows.collect("coco", wanted, work)


if __name__ == "__main__":
    main()
