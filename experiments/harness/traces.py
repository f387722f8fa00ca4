"""Traces of samplers on problems: run side by side, kept as JSON lines, never run twice.

A trace is keyed by what determines it (sampler and its version, problem, seed, budget). fisherbo's
version is a digest of its source, so that its traces are renewed whenever the code changes. Traces
that took hours are shipped in experiments/results/traces, as they were made.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import optuna

from experiments.harness import rows
from experiments.harness.peers import PeerSampler, sampler_version
from experiments.harness.peers import make_sampler as make_sampler
from experiments.harness.problems import Problem

RESULTS = Path("runs")
SHIPPED = Path(__file__).parents[1] / "results" / "traces"


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
    """Traces shipped and kept so far, by key."""
    return {key: _trace(row) for key, row in _stored(path).items()}


def shipped(name: str) -> dict[str, Trace]:
    """Traces of a suite that are shipped, by key: the same wherever the code is."""
    return {key: _trace(row) for key, row in rows.parsed(_lines(name)).items()}


def _stored(path: Path) -> dict[str, rows.Row]:
    return rows.parsed(_lines(path.stem)) | rows.load(path)


def _lines(name: str) -> list[str]:
    path = SHIPPED / f"{name}.jsonl.gz"
    return gzip.decompress(path.read_bytes()).decode().splitlines() if path.exists() else []


def _trace(row: rows.Row) -> Trace:
    return Trace(Run(**row["run"]), tuple(row["values"]), row["cpu_seconds"])


def ship(path: Path, samplers: Sequence[str]) -> Path:
    """Ship the stored traces of these samplers, of FisherSampler those of its present version."""
    SHIPPED.mkdir(parents=True, exist_ok=True)
    chosen = {key: t for key, t in load(path).items() if t.run.sampler in samplers}
    lines = [
        json.dumps({"key": key, **asdict(trace)}) + "\n"
        for key, trace in sorted(chosen.items())
        if trace.run.sampler != "fisher" or key == trace.run.key()
    ]
    file = SHIPPED / f"{path.stem}.jsonl.gz"
    file.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return file


def append(path: Path, trace: Trace) -> None:
    """Add one trace."""
    rows.append(path, trace.run.key(), asdict(trace))


def collect(
    runs: Sequence[Run], work: Callable[[Run], Trace], path: Path, *, workers: int
) -> list[Trace]:
    """Traces of the runs, those missing made in parallel and appended to ``path`` as they end.

    A run that fails is reported by a line, and is left out of what is returned.
    """
    make = partial(_row, work)
    found = rows.complete(path, runs, _stored(path), lambda todo: rows.pooled(todo, make, workers))
    return [_trace(row) for row in found.values()]


def _row(work: Callable[[Run], Trace], run: Run) -> rows.Row:
    return asdict(work(run))
