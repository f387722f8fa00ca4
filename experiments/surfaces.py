"""Real tuning surfaces of YAHPO Gym: 82 tasks for development and 61 others, of ten spaces.

    python -m experiments.surfaces --data FOLDER --dev      methods are chosen on these only
    python -m experiments.surfaces --data FOLDER            the others: nothing is chosen there
    python -m experiments.surfaces --data FOLDER --scale    renew the best and median values

FOLDER holds the scenarios of the public repository slds-lmu/yahpo_data (lcbench, rbv2_xgboost and
rbv2_rpart of its head; rbv2_svm and rbv2_aknn of 3a646b8; rbv2_glmnet and rbv2_super of 152cd0c;
nb301 and rbv2_ranger of 0e28806; iaml_xgboost of 24aa31f) and is read with ``pip install
onnxruntime``. Spaces are mixed, with logarithmic ranges, 3 to 38 parameters, and many that exist
only under a condition; they are asked for one by one, as a user's objective does.

FisherSampler ran on the other data sets twice: before and after the margin of its improvements was
chosen on those for development.

Regret is normalised: 0 is the best of 20,000 random configurations and of all shipped traces, 1 the
median of the random ones.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from experiments import yahpo
from experiments.harness.comparison import Scale, Suite, execute, parser
from experiments.harness.problems import Params, Problem
from experiments.harness.provenance import not_installed
from experiments.harness.traces import Run, Trace, optimize, shipped

Array = NDArray[np.float64]

DATA = "YAHPO_DATA"  # a variable of the environment, which worker processes read too
SCALES = Path(__file__).parent / "results" / "surfaces_scale.json"
RANDOM = 20_000
BUDGET = 50
DEVELOPMENT: Mapping[str, Sequence[str]] = {
    "lcbench": (
        *("126029", "168330", "168910", "189862", "189908", "167152", "189909", "168908"),
        *("167168", "167104"),
    ),
    "nb301": ("",),
    "rbv2_xgboost": (
        *("18", "40927", "1049", "1497", "41157", "151", "40496", "60", "40983", "37"),
    ),
    "rbv2_rpart": (*("458", "41156", "41138", "42", "40670", "38", "37", "1111", "40983", "469"),),
    "rbv2_svm": ("3", "12", "15", "22", "24", "28", "29", "37", "38", "1040"),
    "rbv2_aknn": ("3", "12", "15", "22", "24", "28", "23", "41212", "41278", "334"),
    "rbv2_glmnet": ("1461", "41027", "23512", "42", "1468", "40670", "1497", "41164", "11"),
    "rbv2_ranger": ("3", "12", "15", "22", "24", "28", "1457", "307", "1590", "40499"),
    "rbv2_super": (
        *("23381", "1461", "1056", "41143", "1486", "32", "1053", "41156", "1049", "375"),
    ),
    "iaml_xgboost": ("41146", "1067"),
}
FINAL: Mapping[str, Sequence[str]] = {
    "lcbench": ("126025", "189906", "189905", "7593", "168335", "189873", "189866", "3945"),
    "rbv2_xgboost": ("4135", "1050", "469", "41164", "1515", "41165", "1476", "6"),
    "rbv2_rpart": ("41164", "1056", "1462", "1475", "181", "1494", "41212", "41150"),
    "rbv2_svm": ("41216", "1461", "1111", "1464", "41156", "377", "1063", "1053"),
    "rbv2_aknn": ("50", "41161", "40983", "1220", "1515", "1497", "29", "16"),
    "rbv2_glmnet": ("41159", "4154", "1050", "41162", "40982"),
    "rbv2_ranger": ("31", "40498", "1040", "182", "4534", "4538", "40996", "41165"),
    "rbv2_super": ("40978", "1489", "40984", "37", "1040", "1111", "1480", "1515"),
}


def names(tasks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{scenario}/{task}" for scenario, of in tasks.items() for task in of)


@cache
def surface(name: str) -> yahpo.Surface:
    """A surface such as ``rbv2_svm/12``."""
    return yahpo.surface(name, Path(os.environ[DATA]))


def problem(name: str) -> Problem:
    """The same as a problem."""
    found = surface(name)
    return Problem(name, found.space, found.loss, found.conditions)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, problem(run.problem))


def random_scale(name: str) -> tuple[float, float]:
    """Best and median of random configurations."""
    task = problem(name)
    rng = np.random.default_rng(0)
    points = rng.random((RANDOM, len(task.space)))
    losses = surface(name).losses([existing(task, task.at(point)) for point in points])
    return float(losses.min()), float(np.median(losses))


def existing(task: Problem, params: Params) -> Params:
    """The parameters that exist beside each other."""
    found: Params = {}
    for name, value in params.items():
        if task.exists(name, found):
            found[name] = value
    return found


@cache
def scales() -> dict[str, tuple[float, float]]:
    """Best and median of random configurations of every task, kept in results/."""
    kept: dict[str, tuple[float, float]] = json.loads(SCALES.read_text()) if SCALES.exists() else {}
    return kept


def renew_scales() -> None:
    """Measure the best and the median of random configurations again."""
    every = dict.fromkeys((*names(DEVELOPMENT), *names(FINAL)))
    found = {name: random_scale(name) for name in track(every, "random configurations")}
    SCALES.write_text(json.dumps(found, indent=1) + "\n")


def regret() -> Scale:
    """Normalised regret against what is shipped, whatever lies in runs/."""
    optimum = {name: best for name, (best, _) in scales().items()}
    for row in shipped("surfaces").values():
        name = row["run"]["problem"]
        optimum[name] = min(optimum[name], *row["values"])

    def scale(name: str, best: Array) -> Array:
        spread = max(scales()[name][1] - optimum[name], 1e-12)
        scaled: Array = (best - optimum[name]) / spread
        return np.minimum(scaled, 1.0)  # below 0: better than all of them

    return scale


SUITE = Suite(
    "surfaces",
    work,
    final=tuple((name, seed) for name in names(FINAL) for seed in range(3)),
    dev=tuple((name, seed) for name in names(DEVELOPMENT) for seed in (100, 101, 102)),
    quick=tuple((f"{scenario}/{tasks[0]}", 100) for scenario, tasks in DEVELOPMENT.items()),
    scale=regret,
)


def require_data(options: argparse.ArgumentParser, data: Path | None) -> None:
    """Make a folder, by default the variable's, the surfaces', or end with what is missing."""
    folder = data or os.environ.get(DATA)
    if not folder or not (Path(folder) / "lcbench" / "model.onnx").exists():
        options.error(f"--data must be a folder with lcbench/model.onnx in it, got {folder}")
    if absent := not_installed("surfaces", "onnxruntime"):
        options.error(absent)
    os.environ[DATA] = str(Path(folder).resolve())


def main(argv: Sequence[str] | None = None) -> None:
    options = parser("surfaces", __doc__, "data")
    options.set_defaults(budget=BUDGET)
    options.add_argument("--scale", action="store_true", help="renew the scales of regret")
    args = options.parse_args(argv)
    require_data(options, args.data)
    if args.scale:
        renew_scales()
    else:
        execute(SUITE, args)


if __name__ == "__main__":
    main()
