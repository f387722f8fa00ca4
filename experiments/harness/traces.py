"""Traces of samplers on problems: run side by side, kept as JSON lines, never run twice.

A trace is keyed by what determines it (sampler and its version, problem, seed, budget). fisherbo's
version is a digest of its source, so that its traces are renewed whenever the code changes. Traces
that took hours are shipped in experiments/results/traces, as they were made.
"""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import optuna

from experiments.harness import rows
from experiments.harness.peers import PEERS, make_sampler, sampler_version
from experiments.harness.problems import N_DESIGN, Problem

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
    """Objective values in order of evaluation, and all suggestions' CPU seconds; nan: not timed."""

    run: Run
    values: tuple[float, ...]
    cpu_seconds: float


def optimize(
    run: Run, problem: Problem, sampler: optuna.samplers.BaseSampler | None = None
) -> Trace:
    """Run one study by ask and tell; only the sampler's CPU time counts, not the loss's.

    A ``sampler`` takes the place of the run's, with other options for example. A peer from outside
    Optuna is told the first points too, which it did not ask for; its own are enqueued.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    peer = PEERS[run.sampler](problem, run.seed) if run.sampler in PEERS else None
    if sampler is None:
        sampler = make_sampler("random" if peer else run.sampler, run.seed)
    study = optuna.create_study(sampler=sampler)
    for params in problem.design(run.seed):
        study.enqueue_trial(params)
    values, cpu = [], 0.0
    for number in range(run.budget):
        start = time.process_time()
        asked = peer.ask() if peer and number >= N_DESIGN else None
        if asked:
            study.enqueue_trial(asked)
        trial = study.ask()
        params = problem.suggest(trial)
        if asked and params != asked:
            raise RuntimeError(f"{run.sampler} asked for {asked}, which became {params}")
        suggested = time.process_time()
        value = problem.loss(params)
        if problem.constrain is not None:
            problem.constrain(trial, params)
        evaluated = time.process_time()
        study.tell(trial, value)
        if peer:
            peer.tell(params, value)
        cpu += suggested - start + time.process_time() - evaluated
        values.append(value)
    return Trace(run, tuple(values), cpu + (peer.cpu_seconds if peer else 0.0))


def load(name: str) -> dict[str, Trace]:
    """Traces of a suite shipped and kept so far, by key."""
    found = shipped(name) | rows.load(rows.RUNS / f"{name}.jsonl")
    return {key: trace_of(row) for key, row in found.items()}


def shipped(name: str) -> dict[str, rows.Row]:
    """Rows of a suite's traces that are shipped, by key: the same wherever the code is."""
    path = SHIPPED / f"{name}.jsonl.gz"
    text = gzip.decompress(path.read_bytes()).decode() if path.exists() else ""
    return rows.parsed(text.splitlines())


def trace_of(row: rows.Row) -> Trace:
    """A trace from its row."""
    return Trace(Run(**row["run"]), tuple(row["values"]), row["cpu_seconds"])


def is_current(key: str, run: Run, source: str | None = None) -> bool:
    """Whether a trace is of its sampler's present version, or FisherSampler's at a ``source``."""
    if source and run.sampler == "fisher":
        return key.startswith(f"fisher@{source}/")
    return key == run.key()


def ship(name: str, samplers: Sequence[str], source: str | None = None) -> Path:
    """Ship the stored traces of these samplers, of FisherSampler those at one source."""
    SHIPPED.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"key": key, **asdict(trace)}) + "\n"
        for key, trace in sorted(load(name).items())
        if trace.run.sampler in samplers
        if trace.run.sampler != "fisher" or is_current(key, trace.run, source)
    ]
    file = SHIPPED / f"{name}.jsonl.gz"
    file.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return file


def collect(
    name: str,
    runs: Sequence[Run],
    work: Callable[[Run], Trace],
    *,
    workers: int,
    timed: bool = True,
) -> list[Trace]:
    """Traces of the runs; those missing are made, as :func:`rows.collect` does."""
    make = partial(_row, work, timed)
    found = rows.collect(name, runs, make, workers=workers, shipped=shipped(name))
    return [trace_of(row) for row in found.values()]


def _row(work: Callable[[Run], Trace], timed: bool, run: Run) -> rows.Row:
    return asdict(work(run)) | ({} if timed else {"cpu_seconds": math.nan})
