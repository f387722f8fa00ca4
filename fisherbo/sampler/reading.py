"""What each trial says by itself, as arrays: a finished trial need be read but once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler import memory
from fisherbo.sampler.convert import SearchSpace, from_params
from fisherbo.sampler.noise import given_noise
from fisherbo.space import Array, Integers, Mask, Space

_FAR = 10.5  # from the centre, in widths of the range
_NO_CONSTRAINTS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Reading:
    """``n`` trials, in the order that they were read.

    Attributes:
        x: Coordinates, NaN where a trial has no such parameter, shape ``(n, d)``.
        state: Numbers of Optuna's trial states, shape ``(n,)``.
        value: Values of complete trials, NaN for others, one column an objective, ``(n, m)``.
        failed: Which trials failed by themselves, shape ``(n,)``: a killed worker's did not.
        noise: Noise variances that they tell, 0 where none is given, shape ``(n,)``.
        constraints: Values of the constraints that each finished trial tells, by name, ``n`` of
            them.
    """

    x: Array
    state: Integers
    value: Array
    failed: Mask
    noise: Array
    constraints: tuple[Mapping[str, float], ...]

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.state, other.state]),
            np.concatenate([self.value, other.value]),
            np.concatenate([self.failed, other.failed]),
            np.concatenate([self.noise, other.noise]),
            self.constraints + other.constraints,
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
            self.constraints[:count],
        )

    @property
    def located(self) -> Mask:
        """Which trials have a parameter of the space and are not far outside, shape ``(n,)``.

        A value 10 widths of its range beyond it says nothing of the range.
        """
        absent = np.isnan(self.x)
        inside = np.abs(np.where(absent, 0.5, self.x) - 0.5) <= _FAR
        located: Mask = inside.all(1) & np.logical_not(absent.all(1))
        return located

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
        tuple(_constraints(t) for t in trials),
    )


def _constraints(trial: FrozenTrial) -> Mapping[str, float]:
    """Constraints that a finished trial tells, by name; a value of NaN counts as not told."""
    if not trial.state.is_finished():
        return _NO_CONSTRAINTS
    told = trial.constraints
    if not told:
        return _NO_CONSTRAINTS
    return {name: value for name, value in told.items() if not math.isnan(value)}
