"""What each trial says by itself, as arrays: a finished trial need be read but once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler import memory
from fisherbo.sampler.convert import SearchSpace, from_params
from fisherbo.sampler.noise import given_noise
from fisherbo.space import Array, Integers, Mask, Space


@dataclass(frozen=True)
class Reading:
    """``n`` trials, in the order that they were read.

    Attributes:
        x: Coordinates, NaN where a trial has no such parameter, shape ``(n, d)``.
        state: Numbers of Optuna's trial states, shape ``(n,)``.
        value: Values of complete trials, NaN for others, one column an objective, ``(n, m)``.
        failed: Which trials failed by themselves, shape ``(n,)``: a killed worker's did not.
        noise: Noise variances that they tell, 0 where none is given, shape ``(n,)``.
    """

    x: Array
    state: Integers
    value: Array
    failed: Mask
    noise: Array

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.state, other.state]),
            np.concatenate([self.value, other.value]),
            np.concatenate([self.failed, other.failed]),
            np.concatenate([self.noise, other.noise]),
        )

    def first(self, count: int) -> Reading:
        """The first trials alone."""
        if count == len(self.x):
            return self
        return Reading(
            self.x[:count],
            self.state[:count],
            self.value[:count],
            self.failed[:count],
            self.noise[:count],
        )

    @property
    def complete(self) -> Mask:
        """Which trials are complete, shape ``(n,)``."""
        return self.state == TrialState.COMPLETE.value

    @property
    def running(self) -> Mask:
        """Which trials are running, shape ``(n,)``."""
        return self.state == TrialState.RUNNING.value

    @property
    def killed(self) -> Mask:
        """Which trials failed with their worker, shape ``(n,)``."""
        return (self.state == TrialState.FAIL.value) & ~self.failed


def read(
    space: Space, search_space: SearchSpace, trials: Sequence[FrozenTrial], objectives: int = 1
) -> Reading:
    """What trials of a study with so many objectives say."""
    value = np.full((len(trials), objectives), np.nan)
    for row, trial in zip(value, trials, strict=True):
        if trial.state == TrialState.COMPLETE:
            row[:] = trial.values
    failed = [t.state == TrialState.FAIL and memory.FAILED in t.system_attrs for t in trials]
    return Reading(
        from_params(space, search_space, [t.params for t in trials]),
        np.array([t.state.value for t in trials], dtype=np.int64),
        value,
        np.array(failed, dtype=bool),
        given_noise(trials),
    )
