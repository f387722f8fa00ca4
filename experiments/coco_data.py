"""Runs on COCO's functions as histories of improvements, ours or as COCO's logger writes them.

COCO counts when a run first reaches each of 51 precisions from 100 to 1e-8, its targets. The share
of targets reached within a number of evaluations is the runtime distribution; evaluations over
successes of one target are its expected running time, ERT (Hansen et al. 2021, "COCO: a platform
for comparing continuous optimizers in a black-box setting").
"""

from __future__ import annotations

import re
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Improvement = tuple[int, float]

TARGETS: Array = 10.0 ** (np.arange(10, -41, -1) / 5)
"""Precisions, largest first."""
GROUPS = {
    "separable": range(1, 6),
    "moderate conditioning": range(6, 10),
    "ill-conditioned": range(10, 15),
    "multimodal": range(15, 20),
    "weak global structure": range(20, 25),
}
ALL_FUNCTIONS = range(1, 25)
_HEAD = re.compile(r"funcId\s*=\s*(\d+),\s*DIM\s*=\s*(\d+).*?algId\s*=\s*'([^']*)'")


@dataclass(frozen=True)
class History:
    """One run.

    Attributes:
        algorithm: Its name.
        function: Number of COCO's function.
        instance: Of its instance.
        dimension: Number of variables.
        evaluations: How many the run made.
        improvements: Evaluations, from 1, with the best regret so far, which falls.
    """

    algorithm: str
    function: int
    instance: int
    dimension: int
    evaluations: int
    improvements: tuple[Improvement, ...]

    def hits(self) -> Array:
        """Evaluations until each target is reached, infinite if it is not, shape ``(51,)``."""
        numbers, best = np.array(self.improvements, dtype=np.float64).T
        place = np.searchsorted(-best, -TARGETS)  # the first that is at most the target
        return np.append(numbers, np.inf)[place]

    def regret(self, evaluations: float) -> float:
        """The best after so many evaluations."""
        reached = [value for number, value in self.improvements if number <= evaluations]
        return reached[-1] if reached else np.inf

    def covers(self, evaluations: float) -> bool:
        """Whether it is known what is reached by so many: it made them, or reached everything."""
        return self.evaluations >= evaluations or self.improvements[-1][1] <= TARGETS[-1]


def improvements(values: Sequence[float]) -> tuple[Improvement, ...]:
    """Each best value so far, with the number of its evaluation."""
    best = np.minimum.accumulate(values)
    first = np.flatnonzero(np.r_[True, best[1:] < best[:-1]])
    return tuple((int(k) + 1, float(best[k])) for k in first)


def read(path: Path) -> list[History]:
    """All runs that COCO's logger wrote into a folder, or into an archive of one.

    Data files with another number of runs than the index says are left out with a warning.

    Raises:
        ValueError: There is no index.
    """
    files = dict(_files(path))
    if not any(name.endswith(".info") for name in files):
        raise ValueError(f"{path}: no data of COCO's logger, whose index is a file *.info")
    found, differing = list[History](), list[str]()
    for name, text in files.items():
        if name.endswith(".info"):
            for head, data, runs in _entries(name, text):
                logs = [_blocks(files.get(data + end, "")) for end in (".dat", ".tdat")]
                if {len(blocks) for blocks in logs if blocks} == {len(runs)}:
                    found += _histories(head, runs, [blocks for blocks in logs if blocks])
                else:
                    differing.append(data)
    if differing:
        said = f"{len(differing)} data files have other numbers of runs than their index"
        warnings.warn(f"{path}: left out, {said}: {', '.join(differing[:3])} ...", stacklevel=2)
    return found


def _files(path: Path) -> Iterator[tuple[str, str]]:
    """Names and texts of the files that are read."""
    wanted = (".info", ".dat", ".tdat")
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in wanted:
                yield file.relative_to(path).as_posix(), file.read_text(errors="replace")
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.endswith(wanted) and (opened := archive.extractfile(member)):
                yield member.name, opened.read().decode(errors="replace")


def _entries(name: str, text: str) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Of an index: what it says of a function, a data file without its ending, its runs.

    A run is an instance and a number of evaluations, which is empty if the run was interrupted.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("%")]
    for head, entry in zip(lines[::2], lines[1::2], strict=True):
        file, *runs = entry.split(",")
        data = PurePosixPath(name).parent / file.strip().replace("\\", "/")
        pairs = [run.partition("|")[0].partition(":") for run in runs]
        yield head, str(data.with_suffix("")), [(i.strip(), n.strip()) for i, _, n in pairs]


def _histories(
    head: str, runs: Sequence[tuple[str, str]], logs: Sequence[Sequence[Sequence[Improvement]]]
) -> Iterator[History]:
    """The runs of a data file, from logs that were kept by different rules."""
    said = _HEAD.search(head)
    if said is None:
        raise ValueError(f"not a line of COCO's index: {head!r}")
    for k, (instance, evaluations) in enumerate(runs):
        logged = sorted(pair for blocks in logs for pair in blocks[k])
        made = int(evaluations or logged[-1][0])
        yield History(said[3], int(said[1]), int(instance), int(said[2]), made, _falling(logged))


def _blocks(text: str) -> list[list[Improvement]]:
    """Evaluations and best regrets of each run of a data file; every run begins with a comment."""
    runs: list[list[Improvement]] = []
    for line in text.splitlines():
        if line.startswith("%"):
            runs.append([])
        elif line.strip():
            cells = line.split(None, 3)
            runs[-1].append((int(cells[0]), float(cells[2])))
    return runs


def _falling(logged: Sequence[Improvement]) -> tuple[Improvement, ...]:
    """Lines in order of evaluations, less those that are no better than before."""
    found: list[Improvement] = []
    for number, value in logged:
        if not found or value < found[-1][1]:
            found.append((number, value))
    return tuple(found)


def shares(runs: Sequence[History], budgets: Sequence[float]) -> Array:
    """Share of the targets reached, by function and budget, shape ``(functions, budgets)``.

    ``budgets`` are evaluations over dimension. Each function counts alike, and so does each of its
    runs.
    """
    rows = []
    for of_one in _by_function(runs).values():
        hits = np.array([run.hits() / run.dimension for run in of_one])
        rows.append([(hits <= budget).mean() for budget in budgets])
    return np.array(rows)


def log_regrets(runs: Sequence[History], budget: float) -> Array:
    """Mean log10 regret of each function, not below the last target, shape ``(functions,)``."""
    return np.array(
        [
            np.mean([np.log10(max(r.regret(budget * r.dimension), TARGETS[-1])) for r in of_one])
            for of_one in _by_function(runs).values()
        ]
    )


def expected_running_times(runs: Sequence[History], precision: float, budget: float) -> Array:
    """ERT over dimension of each function, infinite without a success, shape ``(functions,)``.

    Runs end at the budget.
    """
    target = int(np.argmin(np.abs(np.log(TARGETS / precision))))
    found = []
    for of_one in _by_function(runs).values():
        hits = np.array([run.hits()[target] / run.dimension for run in of_one])
        successes = (hits <= budget).sum()
        spent = np.minimum(hits, budget).sum()
        found.append(spent / successes if successes else np.inf)
    return np.array(found)


def _by_function(runs: Sequence[History]) -> dict[int, list[History]]:
    functions = sorted({run.function for run in runs})
    return {f: [run for run in runs if run.function == f] for f in functions}
