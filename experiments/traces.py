"""Traces of samplers on problems: run side by side, kept as JSON lines, never run twice.

A trace is keyed by what determines it (sampler and its version, problem, seed, budget). fisherbo's
version is a digest of its source, so that its traces are renewed whenever the code changes. Peers'
traces that took hours are shipped in experiments/results/traces, as they were made.
"""

from __future__ import annotations

import gzip
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import optuna
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.peers import PeerSampler, sampler_version
from experiments.peers import make_sampler as make_sampler
from experiments.problems import Problem

RESULTS = Path("runs")
SHIPPED = Path(__file__).parent / "results" / "traces"


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


def optimize(
    run: Run, problem: Problem, sampler: optuna.samplers.BaseSampler | None = None
) -> Trace:
    """Run one study by ask and tell; only the sampler's CPU time counts, not the loss's.

    A ``sampler`` takes the place of the run's, with other options for example.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = make_sampler(run.sampler, run.seed, problem) if sampler is None else sampler
    study = optuna.create_study(sampler=sampler)
    for params in problem.design(run.seed):
        study.enqueue_trial(params)
    values, cpu = [], 0.0
    for _ in range(run.budget):
        start = time.process_time()
        trial = study.ask()
        params = problem.suggest(trial)
        asked = time.process_time()
        value = problem.loss(params)
        if problem.constrain is not None:
            problem.constrain(trial, params)
        evaluated = time.process_time()
        study.tell(trial, value)
        cpu += asked - start + time.process_time() - evaluated
        values.append(value)
    if isinstance(sampler, PeerSampler):
        cpu += sampler.peer.cpu_seconds
    return Trace(run, tuple(values), cpu)


def load(path: Path) -> dict[str, Trace]:
    """Traces shipped and kept so far, by key; a line that was cut short is passed over."""
    traces = {}
    for line in _lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        run = Run(**row["run"])
        traces[row["key"]] = Trace(run, tuple(row["values"]), row["cpu_seconds"])
    return traces


def _lines(path: Path) -> list[str]:
    shipped = SHIPPED / f"{path.name}.gz"
    lines = gzip.decompress(shipped.read_bytes()).decode().splitlines() if shipped.exists() else []
    return lines + (path.read_text().splitlines() if path.exists() else [])


def ship(path: Path, samplers: Sequence[str]) -> Path:
    """Add kept traces of these samplers to those that are shipped."""
    SHIPPED.mkdir(parents=True, exist_ok=True)
    chosen = {key: t for key, t in load(path).items() if t.run.sampler in samplers}
    lines = [_line(key, chosen[key]) for key in sorted(chosen)]
    shipped = SHIPPED / f"{path.name}.gz"
    shipped.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return shipped


def append(path: Path, trace: Trace) -> None:
    """Add one trace by a single write, so that several processes may share the file."""
    line = _line(trace.run.key(), trace)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def _line(key: str, trace: Trace) -> str:
    return json.dumps({"key": key, **asdict(trace)}) + "\n"


def collect(
    runs: Sequence[Run], work: Callable[[Run], Trace], path: Path, *, workers: int
) -> list[Trace]:
    """Traces of the runs, those missing made in parallel and appended to ``path`` as they end.

    A run that fails is reported by a line, and is left out of what is returned.
    """
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
        ProcessPoolExecutor(workers, mp_context=context, initializer=_hush) as pool,
    ):
        task = progress.add_task(path.stem, total=len(runs), completed=len(runs) - len(todo))
        futures = {pool.submit(work, run): run for run in todo}
        for future in as_completed(futures):
            if error := future.exception():
                progress.console.print(f"failed: {futures[future].key()}: {error!r}")
            else:
                trace = future.result()
                kept[trace.run.key()] = trace
                append(path, trace)
            progress.advance(task)
    return [kept[run.key()] for run in runs if run.key() in kept]


def _hush() -> None:
    """Peers' warnings would tear the progress bar."""
    warnings.simplefilter("ignore")
