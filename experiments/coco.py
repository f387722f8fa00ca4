"""COCO's data set of FisherSampler: 24 functions × 15 instances in 2 to 20-D, to 50 D evaluations.

    python -m experiments.coco --quick             2-D and 3-D, 1 instance, 10 evaluations × D
    python -m experiments.coco                     all of it: about four CPU hours
    python -m experiments.coco --dims 2 3 5 --instances 1 2
    python -m experiments.coco --archive *.tgz --write
    python -m experiments.coco --postprocess       COCO's own pages, into runs/coco-pages

COCO's logger observes every run of FisherSampler and lq-CMA-ES, which begin with the same 10 points
(``pip install coco-experiment cma``). A run ends at its budget, or where COCO's last target, 1e-8,
is reached. It is kept in runs/coco.jsonl and, as COCO's data, in runs/coco/SAMPLER/PROBLEM, and is
not made again: an interrupted command loses the run it was at, and goes on when it is repeated.
Instances are those of COCO's suite; 3, 4 and 5 come last, since methods were chosen on them.

``--archive`` names data sets of COCO's archive (https://github.com/numbbo/data-archive), which are
compared at the same budgets. They ran on other instances, but for 1 to 5. ``--write`` makes no run:
it ships those kept in experiments/results/traces, and writes experiments/results/coco.md and two
pictures. Instances of a dimension are reported where all 24 functions have been run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table

from experiments import bbob, coco_tables
from experiments.coco_data import ALL_FUNCTIONS, History, improvements, read
from experiments.coco_tables import DIMENSIONS, REFERENCE
from experiments.harness import rows
from experiments.harness.peers import missing, sampler_version
from experiments.harness.problems import Params
from experiments.harness.provenance import not_installed
from experiments.harness.traces import SHIPPED, Run, optimize, shipped

INSTANCES = (1, 2, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 5, 3, 4)
DEVELOPMENT = (3, 4, 5)
NAMES = {"fisher": REFERENCE, "lq": "lq-CMA-ES"}
PER_DIMENSION = 50


class Solved(Exception):
    """COCO's last target is reached, and the run ends."""


def runs(
    samplers: Sequence[str],
    dimensions: Sequence[int],
    instances: Sequence[int],
    functions: Sequence[int],
    per_dimension: int,
) -> list[Run]:
    """Instance by instance, so that a part of a dimension has all functions; each its own seed."""
    return [
        Run(s, bbob.problem_name(f, i, d), 100_000 * d + 1000 * f + i, per_dimension * d)
        for d in dimensions
        for i in instances
        for f in functions
        for s in samplers
    ]


def folder(sampler: str) -> Path:
    """Where COCO writes the runs of a sampler's present version, each into a folder of its own.

    COCO's post-processing takes all below it as one data set, of this name.
    """
    return rows.RUNS / "coco" / f"{NAMES[sampler]}-{sampler_version(sampler)}"


def work(run: Run) -> rows.Row:
    """One run, observed by COCO's logger."""
    import cocoex

    place = folder(run.sampler) / run.problem
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
    cocoex.log_level("warning")
    observer = cocoex.Observer(
        "bbob",
        f"outer_folder: {place.parent} result_folder: {place.name} "
        f"algorithm_name: {NAMES[run.sampler]}",
    )
    problem, suite = bbob.problem(run.problem), bbob.coco_suite(run.problem)
    observed = suite[0]  # which must not outlive its suite
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


def history(row: rows.Row) -> History:
    """A run from its row."""
    function, instance, dimension = (int(part[1:]) for part in row["run"]["problem"].split("_"))
    found = tuple((int(number), float(value)) for number, value in row["improvements"])
    name = NAMES[row["run"]["sampler"]]
    return History(name, function, instance, dimension, row["evaluations"], found)


def kept() -> dict[str, rows.Row]:
    """Rows of the samplers' present versions, made here or shipped, by key."""
    found = shipped("coco") | rows.load(rows.RUNS / "coco.jsonl")
    return {key: row for key, row in found.items() if key == Run(**row["run"]).key()}


def ship() -> None:
    """Ship the kept runs that had the whole budget, in place of those shipped before."""
    whole = {
        key: row
        for key, row in sorted(kept().items())
        if row["run"]["budget"] == PER_DIMENSION * history(row).dimension
    }
    if not ours(whole)[REFERENCE]:
        raise SystemExit(f"no instance has all functions to {PER_DIMENSION} evaluations × D yet")
    SHIPPED.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"key": key, **row}) + "\n" for key, row in whole.items())
    text = gzip.compress("".join(lines).encode(), mtime=0)
    (SHIPPED / "coco.jsonl.gz").write_bytes(text)


def ours(found: Mapping[str, rows.Row]) -> dict[str, list[History]]:
    """The longest run of each problem, by algorithm, on instances that have all functions."""
    longest = {
        (row["run"]["sampler"], row["run"]["problem"]): history(row)
        for row in sorted(found.values(), key=lambda row: row["run"]["budget"])
    }
    return {
        name: complete([h for (s, _), h in longest.items() if s == sampler])
        for sampler, name in NAMES.items()
    }


def complete(histories: Sequence[History]) -> list[History]:
    """Those of instances and dimensions on which all functions have been run."""
    done: dict[tuple[int, int], set[int]] = {}
    for h in histories:
        done.setdefault((h.dimension, h.instance), set()).add(h.function)
    return [h for h in histories if done[h.dimension, h.instance] >= set(ALL_FUNCTIONS)]


def archived(files: Sequence[Path]) -> dict[str, list[History]]:
    """Runs of data sets of COCO's archive, by algorithm."""
    found: dict[str, list[History]] = {}
    for file in files:
        for h in read(file):
            known = h.algorithm in NAMES.values()
            found.setdefault(f"{h.algorithm} (archive)" if known else h.algorithm, []).append(h)
    return found


def costs(found: Mapping[str, rows.Row]) -> Table:
    """CPU milliseconds an evaluation."""
    table = coco_tables.new_table("CPU ms an evaluation", "dimension", "algorithm", "runs", "mean")
    for dimension in DIMENSIONS:
        for sampler, name in NAMES.items():
            chosen = [
                row
                for row in found.values()
                if row["run"]["sampler"] == sampler and history(row).dimension == dimension
            ]
            if chosen:
                seconds = sum(row["cpu_seconds"] for row in chosen)
                mean = 1000 * seconds / sum(row["evaluations"] for row in chosen)
                table.add_row(f"{dimension}-D", name, str(len(chosen)), f"{mean:.1f}")
    return table


def report(algorithms: coco_tables.Algorithms, found: Mapping[str, rows.Row]) -> Group:
    """All tables."""
    return Group(
        coco_tables.all_functions(algorithms),
        coco_tables.by_group(algorithms),
        coco_tables.running_times(algorithms),
        coco_tables.held_out(algorithms[REFERENCE], DEVELOPMENT),
        costs(found),
    )


def postprocess(place: Path) -> None:
    """COCO's own figures and tables of our runs."""
    if reason := not_installed("--postprocess", "cocopp"):
        print(f"{reason} six")  # which cocopp 2.9 imports, and does not declare
        return
    import cocopp

    cocopp.main(["-o", str(place), *(str(folder(s)) for s in NAMES if folder(s).exists())])


def write(archive: Sequence[Path], argv: Sequence[str] | None) -> None:
    """Ship what is kept, and write the tables and pictures of what is shipped."""
    ship()
    found = shipped("coco")
    algorithms = ours(found) | archived(archive)
    console = Console(width=180, record=True)
    console.print(report(algorithms, found))
    made_by = f"Made by `{rows.command('coco', argv)}`."
    rows.write(console, "coco", "COCO: 24 functions, 2 to 20-D, 50 evaluations × D", made_by)
    coco_tables.draw(algorithms, rows.REPORTS)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.coco",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a small part, under a minute")
    parser.add_argument("--samplers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--dims", type=int, nargs="+", choices=DIMENSIONS, default=DIMENSIONS)
    parser.add_argument("--instances", type=int, nargs="+", choices=INSTANCES, default=INSTANCES)
    parser.add_argument(
        "--functions", type=int, nargs="+", choices=bbob.FUNCTIONS, default=bbob.FUNCTIONS
    )
    parser.add_argument("--per-dimension", type=int, default=PER_DIMENSION)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="data sets of COCO's")
    parser.add_argument("--write", action="store_true", help="ship runs, write results/coco.md")
    parser.add_argument("--postprocess", action="store_true", help="run cocopp on our data")
    args = parser.parse_args(argv)
    if args.postprocess:
        postprocess(rows.RUNS / "coco-pages")
        return
    if args.write:
        write(args.archive, argv)
        return
    for reason in (not_installed("coco", "coco-experiment"), *map(missing, args.samplers)):
        if reason:
            print(reason)
            return
    if args.quick:
        args.dims, args.instances, args.per_dimension = (2, 3), (1,), 10
    wanted = runs(args.samplers, args.dims, args.instances, args.functions, args.per_dimension)
    rows.collect("coco", wanted, work, workers=args.workers, shipped=shipped("coco"))
    found = kept()
    Console(width=180).print(report(ours(found) | archived(args.archive), found))


if __name__ == "__main__":
    main()
