"""Beliefs about a study's objectives and constraints, from its trials and its last fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fisherbo.sampler import memory
from fisherbo.sampler.belief import Belief, Learned, learn
from fisherbo.sampler.memory import Fit
from fisherbo.sampler.slack import learn_slack
from fisherbo.sampler.task import Task
from fisherbo.sampler.transfer import Lesson
from fisherbo.space import Array, Data, Space
from fisherbo.surrogate.posterior import Posterior

if TYPE_CHECKING:
    from fisherbo.surrogate.autograd import Factory

_REFERENCE_POINTS = 32


class Learner:
    """Makes beliefs; what it keeps saves time, follows from the trials, and can be lost.

    Copies and pickles keep nothing.

    Args:
        factory: Makes the objectives' models in place of ours.
        rotation: Whether the objectives' kernels may be rotated.
    """

    def __init__(self, factory: Factory | None = None, *, rotation: bool = True) -> None:
        self._factory = factory
        self._rotation = rotation
        self._bases: dict[str, Posterior] = {}

    def __reduce__(self) -> tuple[Callable[..., Learner], tuple[Factory | None]]:
        return partial(Learner, rotation=self._rotation), (self._factory,)

    def beliefs(self, task: Task, lesson: Lesson | None) -> tuple[list[Belief], list[Belief]]:
        """Beliefs about each objective, and about each slack."""
        return self.objectives(task, lesson), self.constraints(task)

    def objectives(self, task: Task, lesson: Lesson | None) -> list[Belief]:
        """Beliefs about each objective; none where no trial has a value."""
        data = task.evidence.objectives
        if not len(data[0].y):
            return []
        warped, noise = task.evidence.warped, task.evidence.noise
        learn_ours = partial(learn, rotation=self._rotation)
        if self._factory is not None:
            return [
                _believe_by(self._factory, d, y, task.space)
                for d, y in zip(data, warped, strict=True)
            ]
        if len(data) == 1:
            learned = partial(learn_ours, data[0], warped[0], noise, task.space, lesson=lesson)
            return [self._remembering(task, memory.KEY, learned)]
        keys = (f"{memory.KEY}:{j}" for j in range(len(data)))
        nothing = np.zeros(len(data[0].y))  # one noise does not fit all objectives
        return [
            self._remembering(task, key, partial(learn_ours, d, y, nothing, task.space))
            for key, d, y in zip(keys, data, warped, strict=True)
        ]

    def constraints(self, task: Task) -> list[Belief]:
        """Beliefs about each slack."""
        evidence = task.evidence
        pending, merit = evidence.objectives[0].pending, evidence.merit()
        return [
            self._remembering(
                task, s.key, partial(learn_slack, s, evidence.x, pending, merit, task.space)
            )
            for s in evidence.slacks
        ]

    @contextmanager
    def isolated(self, rng: np.random.Generator) -> Iterator[None]:
        """Torch's random state from ours, where torch has a part."""
        if self._factory is None:
            yield
            return
        from fisherbo.surrogate.autograd import isolated  # imported on first use: torch is slow to

        with isolated(int(rng.integers(2**63))):
            yield

    def _remembering(self, task: Task, key: str, learned: Callable[..., Learned]) -> Belief:
        """A belief that starts from the study's last fit; a new fit is kept with the trial."""
        names = tuple(task.search_space)
        last: Fit | None = memory.latest(task.trials, names, key)
        found = learned(last=last, kept=self._bases.get(key))
        self._bases[key] = found.base
        if found.fitted is not last and task.remembers:
            code = memory.encode(found.fitted, names)
            task.study._storage.set_trial_system_attr(task.trial._trial_id, key, code)
        return found.belief


def _believe_by(factory: Factory, data: Data, y: Array, space: Space) -> Belief:
    """The belief of a factory's model of the data."""
    from scipy.stats.qmc import Sobol  # imported on first use: slow to import, as is torch

    from fisherbo.surrogate.autograd import from_factory, with_pending

    reference = space.spread(Sobol(space.dimension, rng=0).random(_REFERENCE_POINTS))
    surrogate = from_factory(factory, data.x, y, reference)
    fantasize = partial(with_pending, surrogate, factory, data.x, y)
    return Belief(surrogate, data.pending, fantasize)
