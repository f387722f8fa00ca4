"""What a study's trials say about its search space, read once for each finished trial.

Parameters need not be the same in all trials: the search space is the union of all that were ever
asked for, each with its latest distribution.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.conditions import with_conditions
from fisherbo.sampler.convert import coordinates, to_space
from fisherbo.space import Array, Space

SearchSpace = Mapping[str, BaseDistribution]


class Reader:
    """Reads trials; what it keeps saves time and can be lost at any moment.

    Copies and pickles are empty. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._study: Any = None
        self._seen: set[int] = set()
        self._latest: dict[str, tuple[int, BaseDistribution]] = {}
        self._key: tuple[tuple[str, BaseDistribution], ...] = ()
        self._space: Space | None = None
        self._rows: dict[int, Array] = {}
        self._constraints: dict[int, dict[str, float]] = {}

    def __reduce__(self) -> tuple[type[Reader], tuple[()]]:
        return Reader, ()

    def union(self, study: Any, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """The latest distribution of every parameter that a trial has, in order of their names.

        Args:
            study: What tells one study from another.
            trials: Its trials.
        """
        with self._lock:
            if study != self._study:
                self._study, self._seen, self._latest = study, set(), {}
                self._key, self._space, self._rows, self._constraints = (), None, {}, {}
            for trial in trials:
                if trial.number not in self._seen:
                    self._learn(trial)
            return {name: self._latest[name][1] for name in sorted(self._latest)}

    def read(self, search_space: SearchSpace, trials: Sequence[FrozenTrial]) -> tuple[Space, Array]:
        """The space of parameters, with the conditions that trials obey, and their coordinates.

        Args:
            search_space: Parameters, in the order of the columns.
            trials: Trials of the study that was last asked about.

        Returns:
            The space, and coordinates of shape ``(n, d)``, NaN where a trial has no such parameter.
        """
        with self._lock:
            key = tuple(search_space.items())
            if self._space is None or key != self._key:
                self._key, self._space, self._rows = key, to_space(search_space), {}
            space = self._space
            fresh = [t for t in trials if t.number not in self._rows]
            read = coordinates(space, search_space, fresh)
            new = dict(zip((t.number for t in fresh), read, strict=True))
            self._rows.update((t.number, new[t.number]) for t in fresh if t.state.is_finished())
            known = self._rows | new
            rows = np.concatenate([np.empty(0), *(known[t.number] for t in trials)])
        rows = rows.reshape(len(trials), len(key))
        if not np.isnan(rows).any():
            return space, rows
        complete = [t.state == TrialState.COMPLETE for t in trials]
        return with_conditions(space, rows[np.array(complete, dtype=bool)]), rows

    def constraints(self) -> dict[int, dict[str, float]]:
        """Values of the constraints of finished trials that have any, by the trial's number."""
        with self._lock:
            return dict(self._constraints)

    def _learn(self, trial: FrozenTrial) -> None:
        for name, distribution in trial.distributions.items():
            if name not in self._latest or self._latest[name][0] <= trial.number:
                self._latest[name] = trial.number, distribution
        if trial.state.is_finished():
            self._seen.add(trial.number)
            values = trial.constraints
            if values:
                self._constraints[trial.number] = values
