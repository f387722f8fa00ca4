"""A study's trials as one table, a row a trial; each finished trial is read once.

Parameters need not be the same in all trials: the search space is the union of all that were ever
asked for, each with its latest distribution.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import reduce
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.optuna_private import (
    get_all_trials,
    get_trials,
    storage_of,
    study_id,
)
from fisherbo.sampler.reports import Reports, reports_of
from fisherbo.sampler.search_space import (
    Parameters,
    SearchSpace,
    from_params,
    to_space,
    with_conditions,
)
from fisherbo.space import Array, Integers, Mask, Space

FAILED = "fisherbo:failed"
"""Attribute of a trial that failed by itself. Trials of killed workers do not have it; they are
ignored, since they say nothing of the objective."""

CANDIDATE = "fisherbo:candidate"
"""Attribute of a trial: the row of the list of candidates that it has chosen; "" if none fits."""

NOISE_VARIANCE = "fisherbo:noise_variance"
"""User attribute of a trial: the noise variance of its value, in squared units of the objective, as
a cross-validated mean or a Monte Carlo estimate has it.

Noise that the model infers from the data comes on top, for what the variance leaves out. A
number that is no variance counts as not given.
"""

RESUME = "fisherbo:resume"
"""User attribute of a trial that goes on with a pruned one: the number of that trial."""

_FAR = 10.5  # from the centre, in widths of the range
_MOST_STUDIES = 8  # of a storage, that are remembered at a time
_NO_CONSTRAINTS: Mapping[str, float] = {}
_BEGUN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


class Status(IntEnum):
    """How a trial ended, if it did."""

    COMPLETE = 0
    PRUNED = 1
    FAILED = 2
    """By itself: an error of the objective, or a value of NaN."""
    KILLED = 3
    """With its worker."""
    RUNNING = 4
    WAITING = 5


_STATUS = {
    TrialState.COMPLETE: Status.COMPLETE,
    TrialState.PRUNED: Status.PRUNED,
    TrialState.RUNNING: Status.RUNNING,
    TrialState.WAITING: Status.WAITING,
}


@dataclass(frozen=True)
class TrialTable:
    """What ``n`` trials of a study with ``m`` objectives say, a row a trial, in their order.

    Attributes:
        number: Numbers of the trials, shape ``(n,)``.
        status: As `Status`, shape ``(n,)``.
        x: Coordinates, NaN where a trial does not have the parameter, shape ``(n, d)``.
        value: Values of complete trials in units of the objectives, NaN for others, ``(n, m)``.
        noise: Noise variances of the values, 0 where none is given, shape ``(n,)``.
        constraints: Values of the constraints that each finished trial tells, by name.
        reports: What finished trials reported of each objective, by step.
    """

    number: Integers
    status: Integers
    x: Array
    value: Array
    noise: Array
    constraints: tuple[Mapping[str, float], ...]
    reports: tuple[tuple[Reports, ...], ...]

    def __len__(self) -> int:
        return len(self.number)

    def __add__(self, other: TrialTable) -> TrialTable:
        def joined(name: str) -> Any:
            a, b = getattr(self, name), getattr(other, name)
            return a + b if isinstance(a, tuple) else np.concatenate([a, b])

        return TrialTable(*(joined(f.name) for f in fields(self)))

    def first(self, count: int) -> TrialTable:
        """The first rows alone."""
        if count == len(self):
            return self
        return TrialTable(*(getattr(self, f.name)[:count] for f in fields(self)))

    def have(self, *status: Status) -> Mask:
        """Which trials have one of some statuses, shape ``(n,)``."""
        return reduce(np.logical_or, (self.status == int(s) for s in status))

    @property
    def located(self) -> Mask:
        """Which trials have a parameter of the space and are not far outside, shape ``(n,)``.

        A value more than 10 widths outside its range is not informative about the range.
        """
        absent = np.isnan(self.x)
        inside = np.abs(np.where(absent, 0.5, self.x) - 0.5) <= _FAR
        located: Mask = inside.all(1) & np.logical_not(absent.all(1))
        return located

    def points(self, space: Space) -> Array:
        """Coordinates with parameters that a trial does not have at the centre, ``(n, d)``."""
        return np.where(np.isnan(self.x), space.centre, self.x)


def read(
    space: Space, search_space: SearchSpace, trials: Sequence[FrozenTrial], objectives: int = 1
) -> TrialTable:
    """The table of trials of a study with so many objectives."""
    value = np.full((len(trials), objectives), np.nan)
    for row, trial in zip(value, trials, strict=True):
        if trial.state == TrialState.COMPLETE:
            row[:] = trial.values
    nothing: tuple[Reports, ...] = ({},) * objectives
    return TrialTable(
        np.array([t.number for t in trials], dtype=np.int64),
        np.array([status_of(t) for t in trials], dtype=np.int64),
        from_params(space, search_space, [t.params for t in trials]),
        value,
        np.array([_variance(t.user_attrs.get(NOISE_VARIANCE)) for t in trials], dtype=np.float64),
        tuple(_constraints(t) for t in trials),
        tuple(reports_of(t, objectives) if t.state.is_finished() else nothing for t in trials),
    )


def other_trials(study: Study, trial: FrozenTrial, *, use_cache: bool) -> list[FrozenTrial]:
    """All trials of the study that were begun, less one."""
    trials = not_resumed(get_trials(study, _BEGUN, use_cache=use_cache))
    if trials and trials[-1].number == trial.number:
        return trials[:-1]
    return [t for t in trials if t.number != trial.number]


def other_trials_of_all_brackets(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """The same, also where a `HyperbandPruner` shows the sampler a part of them only."""
    return [t for t in get_all_trials(study, _BEGUN) if t.number != trial.number]


def not_resumed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials less those that another one, which did not fail, goes on with."""
    alive = (t for t in trials if RESUME in t.user_attrs and t.state != TrialState.FAIL)
    resumed = {t.user_attrs[RESUME] for t in alive}
    return [t for t in trials if t.number not in resumed] if resumed else list(trials)


def status_of(trial: FrozenTrial) -> Status:
    """How a trial ended, if it did."""
    if trial.state == TrialState.FAIL:
        return Status.FAILED if FAILED in trial.system_attrs else Status.KILLED
    return _STATUS[trial.state]


def _variance(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value > 0 else 0.0


def _constraints(trial: FrozenTrial) -> Mapping[str, float]:
    """Constraints that a finished trial tells, by name; a value of NaN counts as not told."""
    if not trial.state.is_finished():
        return _NO_CONSTRAINTS
    told = trial.constraints
    if not told:
        return _NO_CONSTRAINTS
    return {name: value for name, value in told.items() if not math.isnan(value)}


R = TypeVar("R")


class ReadersByStudy(Generic[R]):
    """Readers of the studies used last; thread-safe. Copies and pickles are empty.

    One sampler or pruner may serve several studies at the same time, each in several threads.

    Args:
        make: Makes a reader.
    """

    def __init__(self, make: Callable[[], R]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._of_storage: WeakKeyDictionary[Any, OrderedDict[int, R]] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[ReadersByStudy[R]], tuple[Callable[[], R]]]:
        return ReadersByStudy, (self._make,)

    def of(self, study: Study) -> R:
        """The reader of a study's trials."""
        identity = study_id(study)
        with self._lock:
            readers = self._of_storage.setdefault(storage_of(study), OrderedDict())
            if identity not in readers:
                readers[identity] = self._make()
            readers.move_to_end(identity)
            while len(readers) > _MOST_STUDIES:
                readers.popitem(last=False)
            return readers[identity]


class StudyReader:
    """Reads the trials of one study; its cache only saves time.

    The result of a call depends only on its arguments, whatever other threads do in between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = _Finished()
        self._seen: set[int] = set()
        self._latest: dict[str, tuple[int, BaseDistribution]] = {}
        self._parameters: Parameters | None = None
        self._key: tuple[Any, ...] = ()
        self._read = _Finished()
        self._space: Space | None = None
        self._table: TrialTable | None = None

    def parameters(self, trials: Sequence[FrozenTrial]) -> Parameters:
        """Every parameter that a trial has, of these or of others that were read before.

        Args:
            trials: Trials of the study, in order of their numbers.
        """
        with self._lock:
            for trial in trials[self._known.within(trials) :]:
                if trial.number not in self._seen:
                    self._note(trial)
            self._known = self._known.extended(trials)
            if self._parameters is None:
                self._parameters = Parameters.of({n: d for n, (_, d) in self._latest.items()})
            return self._parameters

    def table(
        self, search_space: SearchSpace, trials: Sequence[FrozenTrial], objectives: int = 1
    ) -> tuple[Space, TrialTable]:
        """The space of parameters, with the conditions that trials obey, and the trials' table.

        Args:
            search_space: Parameters, in the order of the columns.
            trials: Trials of the study, in order of their numbers.
            objectives: Number of its objectives.
        """
        with self._lock:
            key = (*search_space.items(), objectives)
            if self._space is None or key != self._key:
                self._key, self._space = key, to_space(search_space)
                self._read, self._table = _Finished(), None
            count = self._read.within(trials)
            table = read(self._space, search_space, trials[count:], objectives)
            if self._table is not None and count:
                table = self._table.first(count) + table
            self._read = self._read.extended(trials)
            self._table = table
            if not np.isnan(table.x).any():
                return self._space, table
            whole, pruned = (table.have(state) for state in (Status.COMPLETE, Status.PRUNED))
            return with_conditions(self._space, table.x[whole], table.x[pruned]), table

    def _note(self, trial: FrozenTrial) -> None:
        """Note the distributions of a trial's parameters."""
        for name, distribution in trial.distributions.items():
            number, known = self._latest.get(name, (-1, None))
            if number <= trial.number:
                if known is None or known != distribution:
                    known, self._parameters = distribution, None
                self._latest[name] = trial.number, known
        if trial.state.is_finished():
            self._seen.add(trial.number)


@dataclass(frozen=True)
class _Finished:
    """The trials before the first that has not finished: no other trial can come between them.

    Attributes:
        count: How many they are.
        last: Number of the last of them.
    """

    count: int = 0
    last: int = -1

    def within(self, trials: Sequence[FrozenTrial]) -> int:
        """How many trials begin the list as they did; 0 if one came between after all."""
        same = 0 < self.count <= len(trials) and trials[self.count - 1].number == self.last
        return self.count if same else 0

    def extended(self, trials: Sequence[FrozenTrial]) -> _Finished:
        """The trials up to the first that has not finished by now."""
        count = self.within(trials)
        while count < len(trials) and trials[count].state.is_finished():
            count += 1
        return _Finished(count, trials[count - 1].number) if count else _Finished()
