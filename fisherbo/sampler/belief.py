"""What a study's observations make one believe: the model, with known noise and earlier studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from fisherbo.sampler.memory import Fit
from fisherbo.sampler.model import MODEL_SIZE, PRIOR_MEAN, believe, refit
from fisherbo.sampler.noise import known_noise
from fisherbo.sampler.transfer import Lesson, Taught
from fisherbo.space import Array, Data, Space
from fisherbo.surrogate.active import Region, region_known
from fisherbo.surrogate.posterior import Posterior, with_fantasies
from fisherbo.surrogate.protocol import Surrogate


@dataclass(frozen=True)
class Belief:
    """A model given the observations, and given pending points at their means too.

    Attributes:
        surrogate: Given the observations.
        pending: Points under evaluation, shape ``(m, d)``.
        fantasize: From pending points to the model that takes them as observed at their means.
        region: Where the model knows all observations; None if it does everywhere.
    """

    surrogate: Surrogate
    pending: Array
    fantasize: Callable[[Array], Surrogate]
    region: Region | None = None

    @cached_property
    def expecting(self) -> Surrogate:
        """The model given the observations and the pending points."""
        return self.fantasize(self.pending) if len(self.pending) else self.surrogate

    def with_pending(self, x: Array) -> Belief:
        """The belief with one more pending point ``(d,)``."""
        return replace(self, pending=np.concatenate([self.pending, x[None]]))


@dataclass(frozen=True)
class Learned:
    """A belief and what it came from.

    Attributes:
        belief: The belief.
        fitted: Hyperparameters that it rests on.
        base: What is worth keeping until the next trial.
    """

    belief: Belief
    fitted: Fit
    base: Posterior


def learn(
    data: Data,
    warped: Array,
    noise: Array,
    space: Space,
    last: Fit | None,
    *,
    lesson: Lesson | None = None,
    kept: Posterior | None = None,
    rotation: bool = False,
) -> Learned:
    """The belief that follows from the trials, the last fit and earlier studies alone.

    Args:
        data: Observations and pending points.
        warped: Values of the observations as the model sees them, shape ``(n,)``.
        noise: Noise variances that trials tell, 0 where none is given, shape ``(n,)``.
        space: The search space.
        last: The last fit that the study knows.
        lesson: What earlier studies say.
        kept: The base of an earlier belief; saves time only.
        rotation: Whether the kernel may be rotated.
    """
    known = known_noise(noise, data.y, warped)
    y = warped if lesson is None else warped - lesson(data.x)
    constant = PRIOR_MEAN if lesson is None else lesson.constant
    fitted = refit(data.x, y, space, last, known=known, constant=constant, rotation=rotation)
    posterior, base = believe(data.x, y, space, fitted, kept, known=known, constant=constant)
    hyper = fitted.hyper
    region = region_known(data.x, y, hyper.lengthscale, MODEL_SIZE, hyper.rotation)
    surrogate: Surrogate = posterior
    fantasize: Callable[[Array], Surrogate] = partial(with_fantasies, posterior)
    if lesson is not None:
        surrogate = Taught(posterior, lesson)
        fantasize = surrogate.with_fantasies
    return Learned(Belief(surrogate, data.pending, fantasize, region), fitted, base)
