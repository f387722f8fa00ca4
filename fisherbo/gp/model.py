"""The Gaussian process as data grow: when it is refitted, and what it is conditioned on.

The posterior depends only on the data and the last fit, so a resumed study continues exactly as an
uninterrupted one would. It is conditioned in two steps: a base posterior contains the observations
that were there at the last fit, and is extended by the later ones. The base changes only when the
hyperparameters are refitted, so keeping it between suggestions saves a factorisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fisherbo.gp.fit import mode
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.kernel import turned
from fisherbo.gp.posterior import Posterior, condition, extend, with_values
from fisherbo.gp.replicates import Replicates, merged
from fisherbo.gp.rotation import Sample, fit_again, fit_turned, rotatable, rotated, rounded
from fisherbo.gp.subset import active_set
from fisherbo.space import Array, Space

PRIOR_MEAN = -1.5
"""Prior mean of f, in standard deviations of the warped values. Unexplored regions are expected to
be bad, so that the search does not visit the corners of the space one by one."""

MODEL_SIZE = 512
"""Most observations that a model is conditioned on."""

_FIT_SIZE = 256
_LONGEST_PAUSE = 25
_FIRST_TOLERANCE = 0.01  # nats; the last step of a fit, untested, promises less
_TRIED, _FURTHER = 0.2, 0.08  # growth of the data from one rotation, or round of one, to the next
_TOLERANCE = 0.05  # nats for each hyperparameter, whose posterior is half a nat wide


@dataclass(frozen=True)
class Fit:
    """Hyperparameters and the number of observations that they were fitted to.

    Attributes:
        count: Number of observations.
        hyper: The hyperparameters.
    """

    count: int
    hyper: Hyper


def refit(
    x: Array,
    y: Array,
    space: Space,
    last: Fit | None,
    *,
    known: Array | None = None,
    constant: float = PRIOR_MEAN,
    merit: Array | None = None,
    rotation: bool = False,
    after: int | None = None,
) -> Fit:
    """The last fit while it is recent enough, else a new one that starts from it.

    Args:
        x: Coordinates in order of their trials, shape ``(n, d)``.
        y: Warped values, shape ``(n,)``.
        space: The search space.
        last: The last fit that the study knows.
        known: Noise variances in units of the values, beside the fitted one, shape ``(n,)``.
        constant: Prior mean of f.
        merit: By which the active set is chosen, shape ``(n,)``; the values if None.
        rotation: Whether the kernel may be rotated.
        after: New observations from one fit to the next; more of them as n grows if None.
    """
    merit = y if merit is None else merit
    n, index = len(y), rotatable(space) if rotation else np.empty(0, dtype=np.int64)
    if last is not None and not np.isin(rotated(last.hyper.rotation), index).all():
        last = None  # a parameter is another one now, or rotations are not wanted any more
    if last is not None and 0 <= n - last.count < (_pause(n) if after is None else after):
        return last
    first = prior_mode(space.dimension)
    starts = [first] if last is None or n <= 40 else []
    starts += [last.hyper] if last is not None else []
    start = starts[-1]
    chosen = active_set(turned(x, start.rotation), merit, start.lengthscale, _FIT_SIZE)
    part = None if known is None else known[chosen]
    sample = Sample(x[chosen], y[chosen] - constant, space.kinds, part, index)
    tolerance = _FIRST_TOLERANCE if last is None else _TOLERANCE * (space.dimension + 2)
    before = 0 if last is None else last.count
    due = n > 2 * len(index) > 0 and _passes(before, n, _TRIED)
    if start.rotation is None:
        hyper, loss = mode(sample.x, sample.y, space.kinds, starts, known=part, tolerance=tolerance)
        hyper = fit_turned(sample, hyper, loss, tolerance) if due else hyper
    else:
        further = _passes(before, n, _FURTHER)
        hyper = fit_again(sample, start, tolerance, further=further, compare=due)
    return Fit(n, rounded(hyper))


def _passes(before: int, n: int, share: float) -> bool:
    """Whether a power of ``1 + share`` lies between two numbers of observations."""
    power = math.log(1 + share)
    return int(math.log(n) / power) != int(math.log(max(before, 1)) / power)


def _pause(n: int) -> float:
    """Replicates from one fit to the next."""
    return min(max(1.0, (n - 20) / 20), _LONGEST_PAUSE)


def conditioned(
    x: Array,
    y: Array,
    space: Space,
    fitted: Fit,
    kept: Posterior | None,
    *,
    known: Array | None = None,
    constant: float = PRIOR_MEAN,
    merit: Array | None = None,
) -> tuple[Posterior, Posterior]:
    """The posterior of all observations, or of an active set, and its base.

    Args:
        x: Coordinates in order of their trials, shape ``(n, d)``.
        y: Warped values, shape ``(n,)``.
        space: The search space.
        fitted: Hyperparameters, and how many of the observations they were fitted to.
        kept: The base of an earlier suggestion.
        known: Noise variances in units of the values, beside the fitted one, shape ``(n,)``.
        constant: Prior mean of f.
        merit: By which the active set is chosen, shape ``(n,)``; the values if None.
    """
    merit = y if merit is None else merit
    hyper, count = fitted.hyper, fitted.count
    known_x = turned(x[:count], hyper.rotation)
    chosen = active_set(known_x, merit[:count], hyper.lengthscale, MODEL_SIZE)
    part = None if known is None else known[chosen]
    base = _base(merged(x[chosen], y[chosen], part), space, hyper, kept, constant)
    new = np.full(len(y) - count, hyper.noise) + (0.0 if known is None else known[count:])
    return extend(base, x[count:], y[count:], new), base


def _base(
    data: Replicates, space: Space, hyper: Hyper, kept: Posterior | None, constant: float
) -> Posterior:
    nugget = hyper.noise / data.count + data.known
    if kept is not None and kept.constant == constant and _same(kept, data.x, nugget, hyper):
        return with_values(kept, data.y)
    return condition(data.x, data.y, space.kinds, hyper, nugget=nugget, constant=constant)


def _same(kept: Posterior, x: Array, nugget: Array, hyper: Hyper) -> bool:
    """Whether a posterior has these points, noise and hyperparameters, whatever its values."""
    return (
        (kept.hyper.signal, kept.hyper.noise) == (hyper.signal, hyper.noise)
        and np.array_equal(kept.hyper.lengthscale, hyper.lengthscale)
        and _equal(kept.hyper.rotation, hyper.rotation)
        and np.array_equal(kept.x, x)
        and np.array_equal(kept.nugget, nugget)
    )


def _equal(a: Array | None, b: Array | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)
