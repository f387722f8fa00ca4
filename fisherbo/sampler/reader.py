"""A study's trials and its search space, each finished trial read once.

Parameters need not be the same in all trials: the search space is the union of all that were ever
asked for, each with its latest distribution.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from fisherbo.sampler.conditions import with_conditions
from fisherbo.sampler.convert import SearchSpace, to_space
from fisherbo.sampler.reading import Reading, read
from fisherbo.space import Space

if TYPE_CHECKING:
    from optuna.study import Study

_MOST_STUDIES = 8  # of a storage, that are remembered at a time


@dataclass(frozen=True)
class Parameters:
    """Parameters that trials have, with their latest distributions, in order of their names.

    Attributes:
        varying: Those with several values.
        constant: Those with one.
    """

    varying: SearchSpace
    constant: SearchSpace


class Readers:
    """A reader for each of the latest studies; copies and pickles are empty. Threads may share it.

    One sampler object may serve several studies at the same time, each in threads of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_storage: WeakKeyDictionary[Any, OrderedDict[Any, Reader]] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Readers], tuple[()]]:
        return Readers, ()

    def of(self, study: Study) -> Reader:
        """The reader of a study's trials."""
        with self._lock:
            readers = self._of_storage.setdefault(study._storage, OrderedDict())
            reader = readers.setdefault(study._study_id, Reader())
            readers.move_to_end(study._study_id)
            while len(readers) > _MOST_STUDIES:
                readers.popitem(last=False)
            return reader


class Reader:
    """Reads the trials of one study; what it keeps saves time and can be lost at any moment.

    What a call returns follows from its arguments alone, whatever other threads ask in between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learned = _Beginning()
        self._seen: set[int] = set()
        self._latest: dict[str, tuple[int, BaseDistribution]] = {}
        self._parameters: Parameters | None = None
        self._key: tuple[Any, ...] = ()
        self._read = _Beginning()
        self._space: Space | None = None
        self._reading: Reading | None = None

    def parameters(self, trials: Sequence[FrozenTrial]) -> Parameters:
        """Every parameter that a trial has, of these or of others that were read before.

        Args:
            trials: Trials of the study, in order of their numbers.
        """
        with self._lock:
            for trial in trials[self._learned.within(trials) :]:
                if trial.number not in self._seen:
                    self._learn(trial)
            self._learned = self._learned.beyond(trials)
            if self._parameters is None:
                latest = {name: self._latest[name][1] for name in sorted(self._latest)}
                self._parameters = Parameters(
                    {name: d for name, d in latest.items() if not d.single()},
                    {name: d for name, d in latest.items() if d.single()},
                )
            return self._parameters

    def read(
        self, search_space: SearchSpace, trials: Sequence[FrozenTrial], objectives: int = 1
    ) -> tuple[Space, Reading]:
        """The space of parameters, with the conditions that trials obey, and what trials say.

        Args:
            search_space: Parameters, in the order of the columns.
            trials: Trials of the study, in order of their numbers.
            objectives: Number of its objectives.
        """
        with self._lock:
            key = (*search_space.items(), objectives)
            if self._space is None or key != self._key:
                self._key, self._space = key, to_space(search_space)
                self._read, self._reading = _Beginning(), None
            count = self._read.within(trials)
            reading = read(self._space, search_space, trials[count:], objectives)
            if self._reading is not None and count:
                reading = self._reading.first(count) + reading
            self._read = self._read.beyond(trials)
            self._reading = reading
            if not np.isnan(reading.x).any():
                return self._space, reading
            return with_conditions(self._space, reading.x[reading.complete]), reading

    def _learn(self, trial: FrozenTrial) -> None:
        for name, distribution in trial.distributions.items():
            number, known = self._latest.get(name, (-1, None))
            if number <= trial.number:
                if known is None or known != distribution:
                    known, self._parameters = distribution, None
                self._latest[name] = trial.number, known
        if trial.state.is_finished():
            self._seen.add(trial.number)


@dataclass(frozen=True)
class _Beginning:
    """The trials up to the first that has not finished, which no further trial can come between.

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

    def beyond(self, trials: Sequence[FrozenTrial]) -> _Beginning:
        """The trials up to the first that has not finished by now."""
        count = self.within(trials)
        while count < len(trials) and trials[count].state.is_finished():
            count += 1
        return _Beginning(count, trials[count - 1].number) if count else _Beginning()
