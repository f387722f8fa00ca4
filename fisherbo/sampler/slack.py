"""What trials say of feasibility: the slack of named constraints, and failures.

A slack is at least 0 where its constraint holds. That of a constraint with values c (feasible ≤ 0)
is −asinh(c/m), with m the median of |c|, clipped: monotone, so 0 stays the threshold, and close to
linear near it, so that a value of 1e6 does not flatten the others. A failure is a slack of −1, a
success one of 1. The prior mean of f is 0 for a constraint, and 2p − 1 for failures, where
p = (½ + successes)/(1 + n) is the base rate with Jeffreys' prior.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.sampler import memory
from fisherbo.sampler.belief import Belief, Learned
from fisherbo.sampler.memory import Fit
from fisherbo.sampler.model import believe, refit
from fisherbo.space import Array, Mask, Space
from fisherbo.surrogate.posterior import Posterior, with_fantasies

FAILURES = f"{memory.KEY}:failures"

_TOLERATED = 0.1
_CLIP = 3.0
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Slack:
    """Observed slack of one constraint.

    Attributes:
        key: Trial attribute in which the model's hyperparameters are kept.
        y: Slack of every trial that was read, NaN where it is not known, shape ``(n,)``.
        constant: Prior mean.
    """

    key: str
    y: Array
    constant: float = 0.0

    @property
    def known(self) -> Mask:
        """Of which trials the slack is known, shape ``(n,)``."""
        return ~np.isnan(self.y)


def constraint_slacks(
    trials: Sequence[FrozenTrial], constraints: Mapping[int, Mapping[str, float]]
) -> list[Slack]:
    """The slack of every named constraint that a finished trial has a value of.

    Args:
        trials: The trials.
        constraints: Values of each trial that has any, by the trial's number.
    """
    names = sorted({name for values in constraints.values() for name in values})
    return [
        Slack(_key(name), _scaled([constraints.get(t.number, {}).get(name) for t in trials]))
        for name in names
    ]


def failure_slack(failed: Mask, teaches: Mask) -> Slack | None:
    """The slack of failing, None if at most a tenth of the trials that teach anything failed."""
    n, bad = int(teaches.sum()), int((failed & teaches).sum())
    if bad <= _TOLERATED * n:
        return None
    label = np.where(failed, -1.0, 1.0)
    base = 2 * (0.5 + n - bad) / (1 + n) - 1
    return Slack(FAILURES, np.where(teaches, label, np.nan), base)


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
    constant = slack.constant
    fitted = refit(x, y, space, last, constant=constant, merit=merit)
    posterior, base = believe(x, y, space, fitted, kept, constant=constant, merit=merit)
    belief = Belief(posterior, with_fantasies(posterior, pending))
    return Learned(belief, fitted, base)


def _scaled(values: Sequence[float | None]) -> Array:
    c = np.array([math.nan if v is None else float(v) for v in values], dtype=np.float64)
    size = np.abs(c[np.isfinite(c) & (c != 0)])
    scale = float(np.median(size)) if len(size) else 1.0
    return np.clip(-np.arcsinh(c / scale), -_CLIP, _CLIP)


def _key(name: str) -> str:
    """An attribute's name; a long constraint's is cut and told apart by a checksum."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}#{zlib.crc32(name.encode()):08x}"
    return f"{memory.KEY}:constraint:{name}"
