"""The Gaussian process of growing data: when it is refitted, and on what it is conditioned.

The posterior is a function of the data and of the last fit alone, so that a resumed study continues
as an uninterrupted one does. It is conditioned in two steps: a base holds the observations that the
last fit was made of, and is extended by those made since. The base changes with the fit only, so
that keeping it between suggestions saves a factorisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fisherbo.gp.fit import fit
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.posterior import Posterior, condition, extend, with_values
from fisherbo.gp.replicates import Replicates, merged
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
    """
    merit = y if merit is None else merit
    n = len(y)
    if last is not None and 0 <= n - last.count < _pause(n):
        return last
    mode = prior_mode(space.dimension)
    starts = [mode] if last is None or n <= 40 else []
    starts += [last.hyper] if last is not None else []
    chosen = active_set(x, merit, starts[-1].lengthscale, _FIT_SIZE)
    part = None if known is None else known[chosen]
    tolerance = _FIRST_TOLERANCE if last is None else _TOLERANCE * (space.dimension + 2)
    values = y[chosen] - constant
    hyper = fit(x[chosen], values, space.choices, starts, known=part, tolerance=tolerance)
    return Fit(n, hyper.rounded())


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
    chosen = active_set(x[:count], merit[:count], hyper.lengthscale, MODEL_SIZE)
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
    return condition(data.x, data.y, space.choices, hyper, nugget=nugget, constant=constant)


def _same(kept: Posterior, x: Array, nugget: Array, hyper: Hyper) -> bool:
    """Whether a posterior has these points, noise and hyperparameters, whatever its values."""
    return (
        (kept.hyper.signal, kept.hyper.noise) == (hyper.signal, hyper.noise)
        and np.array_equal(kept.hyper.lengthscale, hyper.lengthscale)
        and np.array_equal(kept.x, x)
        and np.array_equal(kept.nugget, nugget)
    )
