"""What trials say of feasibility: the slack of named constraints, and failures.

A slack is at least 0 where its constraint holds. That of a constraint with values c (feasible ≤ 0)
is −asinh(c/m), with m the median of |c|, clipped: monotone, so 0 stays the threshold, and close to
linear near it, so that a value of 1e6 does not flatten the others. A failure is a slack of −1, a
success one of 1. The prior mean of f is 0 for a constraint, and 2p − 1 for failures, where
p = (½ + successes)/(1 + n) is the base rate with Jeffreys' prior.

To Optuna a complete trial that does not tell a constraint is feasible. Its slack is positive but of
unknown size: it counts as the typical one, asinh 1, with noise of the same size. Where a constraint
is told only when it is broken, both sides of its boundary are not at 0 but a step apart: what is
told counts as at least most of a typical slack below 0, as if it were told as 1. Else the smooth
model would take the infeasible side of the boundary, where c is small, for nearly feasible.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fisherbo.gp.posterior import Posterior, with_fantasies
from fisherbo.sampler import memory
from fisherbo.sampler.belief import Belief, Learned
from fisherbo.sampler.memory import Fit
from fisherbo.sampler.model import believe, refit
from fisherbo.sampler.reading import Reading
from fisherbo.space import Array, Mask, Space

FAILURES = f"{memory.KEY}:failures"

_TOLERATED = 0.1
_CLIP = 3.0
_LONGEST_NAME = 64
_UNTOLD = math.asinh(1.0)
_UNTOLD_NOISE = 1.0
_STEP, _GRADE = 0.75, 0.25  # of a broken constraint that is told only then


@dataclass(frozen=True)
class Slack:
    """Observed slack of one constraint.

    Attributes:
        key: Trial attribute in which the model's hyperparameters are kept.
        y: Slack of every trial that was read, NaN where it is not known, shape ``(n,)``.
        constant: Prior mean.
        noise: Variance of the slacks about the truth where they are guessed, shape ``(n,)``.
    """

    key: str
    y: Array
    constant: float
    noise: Array

    @property
    def known(self) -> Mask:
        """Of which trials the slack is known, shape ``(n,)``."""
        return ~np.isnan(self.y)

    def longer(self) -> Slack:
        """The same with one more trial, of which nothing is known."""
        return replace(self, y=np.append(self.y, math.nan), noise=np.append(self.noise, 0.0))


def constraint_slacks(reading: Reading) -> list[Slack]:
    """The slack of every named constraint that was broken, or that all complete trials tell.

    Args:
        reading: What the trials say.
    """
    located = reading.located
    told = [c if there else {} for c, there in zip(reading.constraints, located, strict=True)]
    slacks = []
    for name in sorted({name for values in told for name in values}):
        c = np.array([values.get(name, math.nan) for values in told], dtype=np.float64)
        untold = located & reading.complete & np.isnan(c)
        if (c > 0).any() or not untold.any():
            y = _scaled(c)
            if untold.any() and not (c <= 0).any():
                y = _GRADE * y - _STEP
            noise = np.where(untold, _UNTOLD_NOISE, 0.0)
            slacks.append(Slack(_key(name), np.where(untold, _UNTOLD, y), 0.0, noise))
    return slacks


def failure_slack(failed: Mask, teaches: Mask) -> Slack | None:
    """The slack of failing, None if at most a tenth of the trials that teach anything failed."""
    n, bad = int(teaches.sum()), int((failed & teaches).sum())
    if bad <= _TOLERATED * n:
        return None
    label = np.where(failed, -1.0, 1.0)
    base = 2 * (0.5 + n - bad) / (1 + n) - 1
    return Slack(FAILURES, np.where(teaches, label, np.nan), base, np.zeros(len(failed)))


def learn_slack(
    slack: Slack,
    x: Array,
    pending: Array,
    merit: Array,
    space: Space,
    last: Fit | None,
    kept: Posterior | None,
) -> Learned:
    """The belief about a slack; a trial in which it is not known says nothing of it.

    Args:
        slack: What was observed.
        x: Coordinates of the trials, shape ``(n, d)``.
        pending: Coordinates under evaluation, shape ``(m, d)``.
        merit: How good the trials are: of many, those near the best are kept, shape ``(n,)``.
        space: The search space.
        last: The last fit that the study knows.
        kept: The base of an earlier belief; saves time only.
    """
    x, y, merit = x[slack.known], slack.y[slack.known], merit[slack.known]
    constant, noise = slack.constant, slack.noise[slack.known]
    guessed = noise if noise.any() else None
    fitted = refit(x, y, space, last, known=guessed, constant=constant, merit=merit)
    posterior, base = believe(
        x, y, space, fitted, kept, known=guessed, constant=constant, merit=merit
    )
    belief = Belief(posterior, pending, partial(with_fantasies, posterior))
    return Learned(belief, fitted, base)


def _scaled(c: Array) -> Array:
    """Slacks for values of a constraint, NaN where it is not told, shape ``(n,)``."""
    size = np.abs(c[np.isfinite(c) & (c != 0)])
    scale = float(np.median(size)) if len(size) else 1.0
    most = math.sinh(_CLIP) * scale
    return -np.arcsinh(np.clip(c, -most, most) / scale)


def _key(name: str) -> str:
    """An attribute's name; a long constraint's is cut and told apart by a checksum."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}#{zlib.crc32(name.encode()):08x}"
    return f"{memory.KEY}:constraint:{name}"
