"""Traces of samplers on problems: run side by side, kept as JSON lines, never run twice.

A trace is keyed by what determines it (sampler and its version, problem, seed, budget). fisherbo's
version is a digest of its source, so that its traces are renewed whenever the code changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import qmc

RESULTS = Path("runs")
N_DESIGN = 10
_SAMPLER_CODE = ("space.py", "geometry", "optimize", "surrogate", "acquisition", "sampler")


@dataclass(frozen=True)
class Run:
    """One sampler on one problem with one seed."""

    sampler: str
    problem: str
    seed: int
    budget: int

    def key(self) -> str:
        """Text that tells this run, at the sampler's version, from every other."""
        who = f"{self.sampler}@{sampler_version(self.sampler)}"
        return f"{who}/{self.problem}/{self.seed}/{self.budget}"


@dataclass(frozen=True)
class Trace:
    """Objective values in order of evaluation, and the CPU seconds of all suggestions."""

    run: Run
    values: tuple[float, ...]
    cpu_seconds: float


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler at the settings its authors chose."""
    from fisherbo import FisherSampler

    makers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "fisher": lambda: FisherSampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    return makers[name]()


@cache
def sampler_version(name: str) -> str:
    """Version of a peer's package, or a digest of fisherbo's sampler source."""
    if name != "fisher":
        return f"optuna-{version('optuna')}"
    root = Path(__file__).parents[1] / "fisherbo"
    files = sorted(p for part in _SAMPLER_CODE for p in _python_files(root / part))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else list(path.rglob("*.py"))


def design(dimension: int, problem: str, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The Sobol points in the unit cube that every sampler starts from, shape ``(N_DESIGN, d)``."""
    digest = hashlib.sha256(f"{problem}/{seed}".encode()).digest()
    engine = qmc.Sobol(dimension, seed=np.random.default_rng(list(digest[:8])))
    points: np.ndarray[Any, np.dtype[np.float64]] = engine.random(16)[:N_DESIGN]
    return points


def optimize(
    run: Run,
    objective: Callable[[optuna.Trial], float],
    first: Iterable[dict[str, Any]],
) -> Trace:
    """Run one study by ask and tell; only the suggestions' CPU time counts."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=make_sampler(run.sampler, run.seed))
    for params in first:
        study.enqueue_trial(params)
    values, cpu = [], 0.0
    for _ in range(run.budget):
        start = time.process_time()
        trial = study.ask()
        value = objective(trial)
        study.tell(trial, value)
        cpu += time.process_time() - start
        values.append(value)
    return Trace(run, tuple(values), cpu)


def load(path: Path) -> dict[str, Trace]:
    """Traces kept so far, by key; a line cut short by an interruption is passed over."""
    traces = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            run = Run(**row["run"])
            traces[row["key"]] = Trace(run, tuple(row["values"]), row["cpu_seconds"])
    return traces


def collect(
    runs: Sequence[Run], work: Callable[[Run], Trace], path: Path, *, workers: int
) -> list[Trace]:
    """Traces of all runs, those missing made in parallel and appended to ``path`` as they end."""
    kept = load(path)
    todo = [run for run in runs if run.key() not in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bar = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    context = get_context("spawn")  # every worker imports afresh, with one thread each
    with (
        Progress(*bar) as progress,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
        path.open("a") as file,
    ):
        task = progress.add_task(path.stem, total=len(runs), completed=len(runs) - len(todo))
        for future in as_completed([pool.submit(work, run) for run in todo]):
            trace = future.result()
            kept[trace.run.key()] = trace
            file.write(json.dumps({"key": trace.run.key(), **asdict(trace)}) + "\n")
            file.flush()
            progress.advance(task)
    return [kept[run.key()] for run in runs]
