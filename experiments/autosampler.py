"""FisherSampler against OptunaHub's AutoSampler over the whole map of studies, as one heat map.

    export FISHERBO_AUTOSAMPLER=FOLDER          of package/samplers/auto_sampler, see below
    python -m experiments.autosampler --quick   one problem of each row up to 15 trials
    python -m experiments.autosampler --write   experiments/results/autosampler.md and .svg
    python -m experiments.autosampler --kinds mixed --dimensions 5 --rounds 4 --dev
    python -m experiments.autosampler --dev --against zero-mean --kinds mixed --dimensions 100 300

A row of the map is a kind of space with its number of parameters, a column a number of trials; one
study gives all columns up to its end. Studies are made in rounds: each round has one problem of
every row (`experiments.landscapes`: the functions in turn, new rotations and optima), and the first
rounds go on longer than the others (`LENGTHS`), since AutoSampler's Gaussian process takes most of
the time. Both samplers have the same seed and the same first trial, drawn at random, and are on
their own from the second. Instances from 1000 on are for development (--dev).

A cell is the share of studies in which FisherSampler's best value is better (a tie counts half)
with p by Wilcoxon on the pairs' logarithms, not corrected for the number of cells, the median ratio
of regrets, and the ratio of CPU times. A regret below 1e-8 counts as 1e-8, as in COCO. Of several
objectives it is the hypervolume that is missing from the box of ideal and nadir. --against compares
with a variant of FisherSampler, whose models' prior mean is 0, in AutoSampler's place.

AutoSampler is loaded from a local copy of its folder in github.com/optuna/optunahub-registry, which
FISHERBO_AUTOSAMPLER or --autosampler names, or else by the package optunahub from the net. Rows are
kept in runs/autosampler.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from rich.console import Console
from rich.table import Table

from experiments import heatmap
from experiments.harness import rows, statistics
from experiments.harness.comparison import win_share
from experiments.harness.peers import make_sampler, sampler_version
from experiments.harness.problems import Params, Problem
from experiments.landscapes import functions, problem, task
from experiments.options import command_line
from fisherbo import FisherSampler
from fisherbo.sampler.options import AlgorithmOptions

Array = NDArray[np.float64]

FOLDER = "FISHERBO_AUTOSAMPLER"
OTHERS = {"auto": "AutoSampler", "zero-mean": "FisherSampler with a prior mean of 0"}
MARKS = (5, 15, 50, 200, 1000)
DIMENSIONS: Mapping[str, tuple[int, ...]] = {
    "continuous": (1, 2, 5, 10, 30, 100, 300),
    "mixed": (5, 10, 30, 100, 300),
    "conditional": (5, 10, 30, 100),
    "2 objectives": (5,),
    "3 objectives": (5,),
    "4 objectives": (5,),
}
LENGTHS: Mapping[tuple[str, int], tuple[int, ...]] = {
    ("continuous", 1): (1000, 200, 200),
    ("continuous", 2): (1000, 200, 200),
    ("continuous", 5): (200, 200, 200),
    ("continuous", 10): (200, 200),
    ("continuous", 30): (200,),
    ("continuous", 100): (200,),
    ("mixed", 5): (200, 200),
    ("mixed", 10): (200, 200),
    ("mixed", 30): (200, 200),
    ("mixed", 100): (200, 200),
    ("conditional", 5): (200, 200),
    ("conditional", 10): (200, 200),
    ("conditional", 30): (200, 200),
    ("conditional", 100): (200, 200),
    ("2 objectives", 5): (200,),
    ("4 objectives", 5): (200, 200),
}
SHORT = 50
ROUNDS = 6
DEVELOPMENT = 1000
SOLVED = 1e-8
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Cell:
    """One study of one sampler."""

    sampler: str
    kind: str
    dimension: int
    instance: int
    length: int

    def key(self) -> str:
        """Names the sampler's version and all settings."""
        who = f"{self.sampler}@{version_of(self.sampler)}"
        return f"{who}/{self.name}/{self.length}"

    @property
    def name(self) -> str:
        """The problem's."""
        if "objectives" in self.kind:
            function = self.kind.split()[0]
        else:
            there = functions(self.dimension)
            function = there[self.instance % len(there)]
        return f"{self.kind}/{function}/{self.dimension}/{self.instance}"


@cache
def auto_module(folder: str | None) -> ModuleType:
    """AutoSampler's module, of a folder or a file in it; by optunahub if None.

    Raises:
        SystemExit: It is not there.
    """
    if folder is None:
        try:
            import optunahub

            loaded: ModuleType = optunahub.load_module("samplers/auto_sampler")
            return loaded
        except Exception as error:
            raise SystemExit(
                f"AutoSampler cannot be loaded from OptunaHub ({error!r}); get its folder "
                f"package/samplers/auto_sampler of optunahub-registry and name it by {FOLDER}"
            ) from error
    path = auto_file(folder)
    name = f"fisherbo_experiments_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def auto_file(folder: str) -> Path:
    """The file ``__init__.py`` of AutoSampler's folder.

    Raises:
        SystemExit: There is none.
    """
    place = Path(folder)
    path = (place.parent if place.is_file() else place) / "__init__.py"
    if not path.exists():
        raise SystemExit(f"{FOLDER} names {folder}, where no __init__.py of AutoSampler is")
    return path


@cache
def auto_version(folder: str | None) -> str:
    """Optuna's version and a digest of AutoSampler's source."""
    if folder is None:
        return f"optunahub, optuna-{optuna.__version__}"
    files = sorted(auto_file(folder).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return f"{digest}, optuna-{optuna.__version__}"


def version_of(sampler: str) -> str:
    """Names the source of a sampler."""
    if sampler == "auto":
        return auto_version(os.environ.get(FOLDER))
    return sampler_version("fisher" if sampler == "zero-mean" else sampler)


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """FisherSampler or a variant of it, AutoSampler, or one of `peers`, with its defaults."""
    if name == "zero-mean":
        return FisherSampler(seed=seed, _options=AlgorithmOptions(prior_mean=0.0))
    if name == "auto":
        made: optuna.samplers.BaseSampler = auto_module(os.environ.get(FOLDER)).AutoSampler(
            seed=seed
        )
        return made
    return make_sampler(name, seed)


def work(cell: Cell) -> rows.Row:
    """Best values and CPU seconds at the marks."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    several = "objectives" in cell.kind
    known = task(cell.name) if several else None
    made = problem(cell.name) if known is None else known.problem
    directions = [StudyDirection.MINIMIZE] * (1 if known is None else len(known.ideal))
    study = optuna.create_study(
        directions=directions, sampler=sampler_of(cell.sampler, cell.instance)
    )
    study.enqueue_trial(first_trial(made, cell.instance))
    values: list[list[float]] = []
    marks = marks_to(cell.length)
    cpu, best = 0.0, {}
    seconds = {}
    for number in range(1, cell.length + 1):
        start = time.process_time()
        trial = study.ask()
        params = made.suggest(trial)
        suggested = time.process_time()
        values.append([made.loss(params)] if known is None else known.objectives(params).tolist())
        evaluated = time.process_time()
        study.tell(trial, values[-1])
        cpu += suggested - start + time.process_time() - evaluated
        if number in marks:
            seen = np.array(values)
            best[str(number)] = float(seen.min()) if known is None else known.missing(seen)
            seconds[str(number)] = cpu
    return {"best": best, "seconds": seconds}


def first_trial(made: Problem, instance: int) -> Params:
    """A point drawn uniformly, which both samplers evaluate first."""
    return made.at(np.random.default_rng([instance, 1]).random(len(made.space)))


def marks_to(length: int) -> tuple[int, ...]:
    """The columns that a study of this length gives."""
    return tuple(mark for mark in MARKS if mark <= length)


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """The studies that are asked for, short ones first, so that a part of them is a map too."""
    first = DEVELOPMENT if args.dev else 0
    cells = [
        Cell(s, kind, d, first + k, 15 if args.quick else length_of(kind, d, k))
        for k in range(1 if args.quick else args.rounds)
        for kind in args.kinds
        for d in DIMENSIONS[kind]
        if d in (args.dimensions or [d])
        for s in ("fisher", args.against)
    ]
    return sorted(cells, key=lambda cell: cell.length)


def length_of(kind: str, dimension: int, k: int) -> int:
    """Trials of the studies of round k."""
    lengths = LENGTHS.get((kind, dimension), ())
    return lengths[k] if k < len(lengths) else SHORT


Found = Mapping[Cell, rows.Row]


@dataclass(frozen=True)
class Entry:
    """A cell of the map.

    Attributes:
        kind: Of the space or the study.
        dimension: How many parameters, or "all" of these.
        trials: Of each study.
        pairs: Studies of each sampler.
        wins: Share of those in which FisherSampler is better, a tie counting half.
        ties: Share of ties.
        p: Of Wilcoxon's signed rank on the logarithms.
        ratio: Median of FisherSampler's regret over AutoSampler's.
        cpu: Ratio of the CPU times, AutoSampler's over FisherSampler's, all studies together.
    """

    kind: str
    dimension: str
    trials: int
    pairs: int
    wins: float
    ties: float
    p: float
    ratio: float
    cpu: float

    @property
    def verdict(self) -> str:
        """Whether one sampler is significantly ahead."""
        if self.p >= SIGNIFICANT or self.wins == 0.5:
            return "–"
        return "ahead" if self.wins > 0.5 else "behind"


def entries(found: Found, other: str = "auto") -> list[Entry]:
    """The map, by rows; cells without a pair are left out."""
    return [
        entry(kind, str(d), mark, both)
        for kind, dimensions in DIMENSIONS.items()
        for d in dimensions
        for mark in MARKS
        if (both := pairs(found, other, kind, (d,), mark))
    ]


def together(found: Found, other: str = "auto") -> list[Entry]:
    """The same with all dimensions of a kind in one row."""
    return [
        entry(kind, "all", mark, both)
        for kind, dimensions in DIMENSIONS.items()
        for mark in MARKS
        if (both := pairs(found, other, kind, dimensions, mark))
    ]


Pair = tuple[rows.Row, rows.Row]


def pairs(found: Found, other: str, kind: str, dimensions: Sequence[int], mark: int) -> list[Pair]:
    """Rows of FisherSampler and of the other on each problem that both have up to the mark."""
    chosen = {
        (c.sampler, c.dimension, c.instance): row
        for c, row in found.items()
        if c.kind == kind and c.dimension in dimensions and str(mark) in row["best"]
    }
    return [
        (row, chosen[other, d, k])
        for (sampler, d, k), row in sorted(chosen.items(), key=lambda item: item[0])
        if sampler == "fisher" and (other, d, k) in chosen
    ]


def entry(kind: str, d: str, mark: int, both: Sequence[Pair]) -> Entry:
    """A cell from the rows of FisherSampler and of the other on each problem."""
    key = str(mark)
    losses = np.array([[row["best"][key] for row in pair] for pair in both])
    losses = np.log10(np.maximum(losses, SOLVED))
    seconds = np.array([[row["seconds"][key] for row in pair] for pair in both]).sum(0)
    difference = losses[:, 0] - losses[:, 1]
    return Entry(
        kind,
        d,
        mark,
        len(both),
        float(win_share(losses)[1]),
        float(np.mean(difference == 0)),
        statistics.wilcoxon_p(difference),
        float(10 ** np.median(difference)),
        float(seconds[1] / seconds[0]),
    )


def report(made: Sequence[Entry], title: str) -> Table:
    """Cells of the map as a table."""
    table = Table(title=title)
    for name in ("space", "d", "trials", "pairs", "fisher wins", "ties", "p", "regret ratio"):
        table.add_column(name, justify="right" if table.columns else "left")
    table.add_column("its CPU / fisher's", justify="right")
    table.add_column("fisher is")
    for e in made:
        table.add_row(
            *(e.kind, e.dimension, str(e.trials), str(e.pairs)),
            *(f"{e.wins:.0%}", f"{e.ties:.0%}", f"{e.p:.2g}", f"{e.ratio:.2g}", f"{e.cpu:.1f}"),
            e.verdict,
        )
    table.caption = (
        "regret ratio: median of fisher's over the other's, below 1 where fisher is better; p: "
        "Wilcoxon on the pairs, not corrected for the number of cells."
    )
    return table


def summary(made: Sequence[Entry]) -> str:
    """How many cells are ahead and behind, and those behind by name."""
    behind = [e for e in made if e.verdict == "behind"]
    ahead = sum(e.verdict == "ahead" for e in made)
    lines = [
        f"Of {len(made)} cells fisher is significantly ahead in {ahead}, behind in {len(behind)}; "
        f"of the others it wins more than half in "
        f"{sum(e.verdict == '–' and e.wins > 0.5 for e in made)}, less in "
        f"{sum(e.verdict == '–' and e.wins < 0.5 for e in made)}."
    ]
    lines += [
        f"Behind: {e.kind}, d = {e.dimension}, {e.trials} trials: wins {e.wins:.0%} of {e.pairs}, "
        f"p = {e.p:.2g}, regret ratio {e.ratio:.2g}."
        for e in behind
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("autosampler", __doc__, "dev write", quick="one round of 15 trials")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="problems of each row")
    parser.add_argument("--kinds", nargs="+", default=list(DIMENSIONS), choices=list(DIMENSIONS))
    parser.add_argument("--dimensions", type=int, nargs="+", help="only these")
    parser.add_argument("--against", default="auto", choices=list(OTHERS), help="the other one")
    parser.add_argument("--autosampler", type=Path, help=f"its folder; or by {FOLDER}")
    args = parser.parse_args(argv)
    if args.write and args.against != "auto":
        parser.error("--write is for the map against AutoSampler; leave out --against")
    if args.autosampler is not None:
        os.environ[FOLDER] = str(args.autosampler.resolve())
    if args.against == "auto":
        auto_module(os.environ.get(FOLDER))
    found = rows.collect("autosampler", cells_of(args), work)
    made = entries(found, args.against)
    console = Console(width=120, record=True)
    title = f"FisherSampler against {OTHERS[args.against]}"
    console.print(report(made, title))
    console.print(report(together(found, args.against), f"All dimensions together: {title}"))
    console.print(summary(made), highlight=False)
    if args.write:
        made_by = (
            f"fisher is `FisherSampler` at source digest {version_of('fisher')}, AutoSampler at "
            f"{version_of('auto')}. Made by `{rows.command('autosampler', argv)}`"
        )
        console.print(f"wrote {rows.write(console, 'autosampler', title, made_by)}")
        shown = [
            heatmap.Square(f"{e.kind}, d = {e.dimension}", e.trials, e.wins, e.verdict, e.pairs)
            for e in made
        ]
        path = rows.REPORTS / "autosampler.svg"
        path.write_text(heatmap.picture(title, shown))
        console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
