"""Two and three objectives: the hypervolume after 30 and 60 evaluations.

    python -m experiments.multi --quick     6 problems, 1 seed, 30 evaluations
    python -m experiments.multi --dev       methods are chosen on these problems only
    python -m experiments.multi --data FOLDER --samplers gp --families synthetic --seeds 0 1 2
    python -m experiments.multi --data FOLDER --samplers fisher tpe nsgaii random --write
    python -m experiments.multi --ship      copy the traces to experiments/results/traces

The last two make the report, on other problems than those of development, which were run once; it
shows all traces that are kept. GPSampler takes more than half a second a suggestion with three
objectives, and has fewer seeds.

Two objectives: bbob-biobj of COCO in 5-D and 10-D. Three: DTLZ with 6 variables and WFG with 8 (Deb
et al. 2005, Huband et al. 2006; ``pip install pymoo``), and the tuning surfaces of
`experiments.surfaces` with error, time and memory, or what else their scenario measures.

Development and final problems differ as problems, not only as instances or seeds: of the 55
functions of bbob-biobj every fifth from the third and every fifth from the first; DTLZ 2, 3, 6 and
1, 4, 5, 7; WFG with even and with odd numbers; surfaces of `surfaces.DEVELOPMENT` and
`surfaces.FINAL`. This was settled before any of them was run.

A trace holds the share of hypervolume that is missing after each evaluation: 0 where all of the box
from the ideal point to the reference point is dominated, which no front can do, and 1 where no
point beats the reference point. COCO knows ideal and nadir, and the nadir is its reference point.
Of DTLZ and WFG they are published; the reference point is a tenth of the range beyond the nadir,
or the median of random points where that is worse. Surfaces have the best and the median of random
configurations: a search finds better ones, and may dominate more than this box. NSGA-II has a
population of 20: its default of 50 would leave it 10 evaluations.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from rich.console import Console
from rich.table import Table

from experiments import bbob, surfaces, yahpo
from experiments.harness import rows, statistics
from experiments.harness.comparison import REFERENCE, Comparison, Pair, by_group, win_share
from experiments.harness.peers import make_sampler, sampler_version
from experiments.harness.problems import N_DESIGN, Params, Problem
from experiments.harness.provenance import not_installed
from experiments.harness.traces import Run, Trace, collect, load, ship
from experiments.options import command_line

Array = NDArray[np.float64]

BUDGET, MARKS = 60, (30, 60)
SAMPLERS = ("fisher", "gp", "tpe", "nsgaii", "random")
POPULATION = 20
RANDOM = 4096
FAMILIES = {
    "biobj": "Two objectives, COCO bbob-biobj",
    "synthetic": "Three objectives, DTLZ and WFG",
    "surface": "Three objectives, tuning surfaces",
}
NEEDED = {"biobj": "coco-experiment", "synthetic": "pymoo", "surface": "onnxruntime"}
DIMENSIONS = {"dtlz": 6, "wfg": 8}

# of the outputs of a scenario: names, and whether more is better
MEASURED: Mapping[str, tuple[tuple[str, bool], ...]] = {
    "lcbench": (("val_accuracy", True), ("val_cross_entropy", False), ("time", False)),
    "rbv2_xgboost": (("bac", True), ("timetrain", False), ("memory", False)),
    "rbv2_rpart": (("acc", True), ("timetrain", False), ("memory", False)),
    "rbv2_svm": (("mmce", False), ("timetrain", False), ("timepredict", False)),
    "rbv2_aknn": (("mmce", False), ("timetrain", False), ("timepredict", False)),
    "rbv2_ranger": (("acc", True), ("timetrain", False), ("timepredict", False)),
    "iaml_xgboost": (("mmce", False), ("nf", False), ("ias", False)),
}


@dataclass(frozen=True)
class Task:
    """A problem of several objectives to minimise.

    Attributes:
        problem: Space, conditions and first points; its loss is the hypervolume that a point misses
            alone.
        objectives: From parameters to values, shape ``(m,)``.
        ideal: Best value of each objective, shape ``(m,)``.
        reference: Reference point of the hypervolume, shape ``(m,)``.
    """

    problem: Problem
    objectives: Callable[[Params], Array]
    ideal: Array
    reference: Array

    def missing(self, values: Array) -> float:
        """The share of the box from ideal to reference that points ``(n, m)`` do not dominate."""
        import moocore

        scaled = (values - self.ideal) / (self.reference - self.ideal)
        return 1.0 - float(moocore.hypervolume(scaled, ref=np.ones(len(self.ideal))))


def task_of(
    problem: Callable[[Callable[[Params], float]], Problem],
    objectives: Callable[[Params], Array],
    ideal: Array,
    reference: Array,
) -> Task:
    """A task whose problem's loss is that of a point alone."""
    made = Task(problem(lambda params: 0.0), objectives, ideal, reference)
    return replace(made, problem=problem(lambda p: made.missing(objectives(p)[None])))


def task(name: str) -> Task:
    """A problem by its name."""
    return {"biobj": biobj, "synthetic": synthetic, "surface": surface}[family(name)](name)


def family(name: str) -> str:
    """To which of `FAMILIES` a problem belongs."""
    if "/" in name:
        return "surface"
    return "biobj" if name.startswith("biobj") else "synthetic"


def biobj(name: str) -> Task:
    """A pair of functions of COCO, such as ``biobj_f03_i01_d05``, in [−5, 5]^d."""
    import cocoex

    function, instance, dimension = (int(part[1:]) for part in name.split("_")[1:])
    coco = cocoex.Suite(
        "bbob-biobj",
        f"instances: {instance}",
        f"function_indices: {function} dimensions: {dimension}",
    )[0]
    space = {f"x{j:02d}": FloatDistribution(-5.0, 5.0) for j in range(dimension)}
    parts = [bbob.problem(part.removeprefix("bbob_")) for part in coco.name.split("__")]

    def objectives(params: Params) -> Array:
        return np.array([part.loss(params) for part in parts])

    centre = dict.fromkeys(space, 0.0)
    optima = np.array(coco([0.0] * dimension)) - objectives(centre)
    nadir = np.array(coco.largest_fvalues_of_interest) - optima
    return task_of(lambda loss: Problem(name, space, loss), objectives, np.zeros(2), nadir)


def synthetic(name: str) -> Task:
    """A function of DTLZ or WFG with three objectives, such as ``dtlz2``."""
    import pymoo.problems

    kind = name[:-1]
    position = {"k": 4} if kind == "wfg" else {}  # k of WFG: a multiple of m − 1
    made = pymoo.problems.get_problem(name, n_var=DIMENSIONS[kind], n_obj=3, **position)
    low, high = made.xl, made.xu
    axes = zip(low.tolist(), high.tolist(), strict=True)
    space = {f"x{j}": FloatDistribution(*ends) for j, ends in enumerate(axes)}

    def objectives(params: Params) -> Array:
        return np.asarray(made.evaluate(np.array([params[key] for key in space])), float)

    ideal, nadir = bounds(name)
    drawn = made.evaluate(low + (high - low) * np.random.default_rng(0).random((RANDOM, len(low))))
    reference = np.maximum(nadir + 0.1 * (nadir - ideal), np.median(drawn, 0))
    return task_of(lambda loss: Problem(name, space, loss), objectives, ideal, reference)


def bounds(name: str) -> tuple[Array, Array]:
    """Ideal and nadir of a front with three objectives, as published."""
    if name.startswith("wfg"):
        return np.zeros(3), np.array([2.0, 4.0, 6.0])
    half = float(np.sqrt(0.5))
    nadir = {"dtlz1": (0.5, 0.5, 0.5), "dtlz5": (half, half, 1.0), "dtlz6": (half, half, 1.0)}
    if name == "dtlz7":  # f_1, f_2 up to the last maximum of f_3's terms x (1 + sin 3πx) / 2
        x = np.linspace(0.8, 0.9, 100_001)
        gain = x * (1 + np.sin(3 * np.pi * x)) / 2
        last = float(x[gain.argmax()])
        return np.array([0.0, 0.0, 6 - 4 * float(gain.max())]), np.array([last, last, 6.0])
    return np.zeros(3), np.array(nadir.get(name, (1.0, 1.0, 1.0)))


def surface(name: str) -> Task:
    """A tuning surface with what `MEASURED` names as objectives."""
    found = surfaces.surface(name)
    wanted = MEASURED[name.partition("/")[0]]
    parts = [
        yahpo.Surface(
            found.folder, replace(found.scenario, output=output, maximised=more), found.task
        )
        for output, more in wanted
    ]
    for part in parts:
        vars(part)["_session"] = found._session  # one network gives them all

    def values(many: Sequence[Params]) -> Array:
        return np.stack([part.losses(many) for part in parts], 1)

    rng = np.random.default_rng(0)
    plain = surfaces.problem(name)
    points = rng.random((RANDOM, len(plain.space)))
    drawn = values([surfaces.existing(plain, plain.at(point)) for point in points])
    return task_of(
        lambda loss: replace(plain, loss=loss),
        lambda params: values([params])[0],
        drawn.min(0),
        np.median(drawn, 0),
    )


known_task = cache(task)


def work(run: Run) -> Trace:
    """One run, in a worker process."""
    return optimize(run, known_task(run.problem), sampler_of(run.sampler, run.seed))


def optimize(run: Run, known: Task, sampler: optuna.samplers.BaseSampler) -> Trace:
    """One study by ask and tell, from the same first points; only the sampler's time counts."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [StudyDirection.MINIMIZE] * len(known.ideal)
    study = optuna.create_study(directions=directions, sampler=sampler)
    for params in known.problem.design(run.seed):
        study.enqueue_trial(params)
    values, missing, cpu = [], [], 0.0
    for _ in range(run.budget):
        start = time.process_time()
        trial = study.ask()
        params = known.problem.suggest(trial)
        suggested = time.process_time()
        values.append(known.objectives(params))
        missing.append(known.missing(np.array(values)))
        evaluated = time.process_time()
        study.tell(trial, values[-1].tolist())
        cpu += suggested - start + time.process_time() - evaluated
    return Trace(run, tuple(missing), cpu)


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler at its authors' settings, NSGA-II with a smaller population."""
    if name == "nsgaii":
        return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    return make_sampler(name, seed)


def _biobj_names(first: int) -> tuple[str, ...]:
    return tuple(f"biobj_f{f:02d}_i01_d{d:02d}" for d in (5, 10) for f in range(first, 56, 5))


def _surface_names(tasks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{scenario}/{tasks[scenario][0]}" for scenario in MEASURED if scenario in tasks)


DEVELOPMENT = {
    "biobj": _biobj_names(3),
    "synthetic": (*(f"dtlz{i}" for i in (2, 3, 6)), *(f"wfg{i}" for i in (2, 4, 6, 8))),
    "surface": _surface_names(surfaces.DEVELOPMENT),
}
FINAL = {
    "biobj": _biobj_names(1),
    "synthetic": (*(f"dtlz{i}" for i in (1, 4, 5, 7)), *(f"wfg{i}" for i in (1, 3, 5, 7, 9))),
    "surface": _surface_names(surfaces.FINAL),
}
DEVELOPMENT_SEEDS = {"biobj": 2, "synthetic": 6, "surface": 6}
FINAL_SEEDS = {"biobj": 1, "synthetic": 4, "surface": 2}
QUICK = tuple(name for names in DEVELOPMENT.values() for name in names[:2])


def pairs_of(args: argparse.Namespace) -> list[Pair]:
    """The problems with seeds that are asked for and can run here."""
    dev = args.dev or args.quick
    chosen, start = (DEVELOPMENT, 100) if dev else (FINAL, 0)
    seeds = DEVELOPMENT_SEEDS if dev else FINAL_SEEDS
    return [
        (name, start + seed)
        for kind, names in chosen.items()
        if kind in args.families and missing(kind) is None
        for seed in range(1 if args.quick else seeds[kind])
        for name in names
        if not args.quick or name in QUICK
        if name in (args.problems or [name]) and start + seed in (args.seeds or [start + seed])
    ]


def missing(kind: str) -> str | None:
    """What a family of problems lacks here; None if nothing."""
    if kind == "surface" and surfaces.DATA not in os.environ:
        return "surfaces are left out: --data or the variable YAHPO_DATA names their folder"
    return not_installed(FAMILIES[kind], NEEDED[kind])


def compare(traces: Sequence[Trace], pairs: Sequence[Pair]) -> Comparison:
    """Missing hypervolume of the traces on the pairs."""
    wanted = set(pairs)
    best: dict[str, dict[Pair, Array]] = {}
    cpu: dict[str, list[float]] = {}
    for trace in sorted(traces, key=lambda t: (SAMPLERS.index(t.run.sampler), len(t.values))):
        run = trace.run
        if (run.problem, run.seed) in wanted:
            best.setdefault(run.sampler, {})[run.problem, run.seed] = np.array(trace.values)
            suggestions = max(len(trace.values) - N_DESIGN, 1)
            if not math.isnan(trace.cpu_seconds):
                cpu.setdefault(run.sampler, []).append(trace.cpu_seconds / suggestions)
    seconds = {s: float(np.mean(c)) for s, c in cpu.items()}
    return Comparison("missing hypervolume", best, seconds)


def report(title: str, comparison: Comparison) -> Table:
    """Every sampler against fisher on the pairs that both have, after 30 and 60 evaluations."""
    table = Table(title=title)
    table.add_column("sampler")
    for name in ("problems", "runs", *(f"volume {m}, fisher's" for m in MARKS)):
        table.add_column(name, justify="right")
    for name in (*(f"fisher wins {m}" for m in MARKS), *(f"p {m}" for m in MARKS), "CPU ms"):
        table.add_column(name, justify="right")
    others = [s for s in comparison.best if s != REFERENCE and comparison.paired(s)]
    lines, raw = [], []
    for s in others:
        pairs = comparison.paired(s)
        marks = [min(m, comparison.mark(s)) for m in MARKS]
        losses = [comparison.losses((REFERENCE, s), pairs, m) for m in marks]
        means = [by_group(pairs, found) for found in losses]
        raw.append([statistics.wilcoxon_p(m[:, 1] - m[:, 0]) for m in means])
        volumes = [1 - found.mean(0) for found in losses]
        lines.append(
            [
                *(s, str(len(means[0])), str(len(pairs))),
                *(f"{theirs:.3f}, {ours:.3f}" for ours, theirs in volumes),
                *(f"{win_share(found)[1]:.0%}" for found in losses),
            ]
        )
    corrected = np.array([statistics.holm(column) for column in np.array(raw).T])
    for line, p in zip(lines, corrected.T, strict=True):
        cpu = f"{1000 * comparison.seconds.get(line[0], math.nan):.1f}"
        table.add_row(*line, *(f"{value:.1e}" for value in p), cpu)
    ours = comparison.seconds.get(REFERENCE)
    table.caption = (
        "volume: mean share of the box that is dominated. p: Wilcoxon on the problems' means, Holm "
        f"over the samplers. CPU: of a suggestion after the first {N_DESIGN}"
        + (f"; fisher's {1000 * ours:.1f} ms." if ours else ".")
    )
    return table


def problem_table(title: str, comparison: Comparison) -> Table:
    """Mean hypervolume after the last evaluation, by problem."""
    table = Table(title=f"By problem, {title}: volume after {MARKS[-1]} evaluations")
    table.add_column("problem")
    for sampler in comparison.best:
        table.add_column(sampler, justify="right")
    for name in dict.fromkeys(problem for problem, _ in comparison.best[REFERENCE]):
        found = [
            [1 - float(v[-1]) for (problem, _), v in best.items() if problem == name]
            for best in comparison.best.values()
        ]
        table.add_row(name, *(f"{np.mean(f):.3f}" if f else "–" for f in found))
    table.caption = "Means over the runs of each sampler, which for some are fewer."
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line(
        "multi",
        __doc__,
        "data dev problems seeds workers untimed write ship",
        quick="a few minutes",
    )
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS), choices=SAMPLERS)
    args = parser.parse_args(argv)
    if args.ship:
        print(ship("multi", SAMPLERS))
        return
    if args.data is not None:
        os.environ[surfaces.DATA] = str(args.data.resolve())
    console = Console(width=150, record=True)
    for kind in args.families:
        if reason := missing(kind):
            console.print(reason)
    pairs = pairs_of(args)
    budget = MARKS[0] if args.quick else args.budget
    runs = [Run(s, problem, seed, budget) for problem, seed in pairs for s in args.samplers]
    collect("multi", runs, work, workers=args.workers, timed=not args.untimed)
    kept = [t for key, t in load("multi").items() if key == t.run.key() and t.run.budget == budget]
    for kind in args.families:
        title = FAMILIES[kind]
        comparison = compare(kept, [pair for pair in pairs if family(pair[0]) == kind])
        if REFERENCE in comparison.best:
            console.print(report(title, comparison))
            console.print(problem_table(title, comparison))
    if args.write:
        made_by = (
            f"fisher is `FisherSampler` at source digest {sampler_version(REFERENCE)}. Made by "
            f"`{rows.command('multi', argv)}`"
        )
        console.print(f"wrote {rows.write(console, 'multi', 'Two and three objectives', made_by)}")


if __name__ == "__main__":
    main()
