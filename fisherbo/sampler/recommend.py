"""Which evaluated point to use in the end: the best posterior mean, not the luckiest value.

The model lives on warped values. The warp is monotone, so that a quantile of the noise-free value
at a point becomes a quantile in the objective's units by the inverse warp; it is known at observed
values, interpolated between them, a straight line above the best and flat below the worst. The mean
of the warped value becomes the median of the objective's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.gp.protocol import Surrogate
from fisherbo.sampler.noise import slope
from fisherbo.space import Array, Data

LEVEL = 0.95
QUANTILE = 1.959963984540054  # of the standard normal at (1 + LEVEL)/2


@dataclass(frozen=True)
class Recommendation:
    """The evaluated point that the model believes to be the best.

    Attributes:
        number: Number of the (first) trial there.
        params: Its parameters.
        value: What is expected of its noise-free value: the posterior median, which is the mean
            before the inverse warp; in units of the objective.
        low: Lower end of the central 95 % credible interval of its noise-free value.
        high: Upper end. Neither end is worse than the worst value observed.
    """

    number: int
    params: Mapping[str, Any]
    value: float
    low: float
    high: float


def unwarp(values: Array, y: Array, warped: Array) -> Array:
    """Values of the objective for warped ``values``, by observed pairs ``(y, warped)``."""
    finite = np.isfinite(y)
    knots, place = np.unique(warped[finite], return_index=True)
    heights = y[finite][place]
    inside = np.interp(values, knots, heights)
    steepness = slope(y, warped)
    beyond = np.maximum(values - knots[-1], 0.0)
    return inside + (beyond / steepness if steepness > 0 else 0.0)


def recommended(
    trials: Sequence[FrozenTrial],
    data: Data,
    surrogate: Surrogate,
    warped: Array,
    *,
    maximize: bool,
) -> Recommendation:
    """The complete, feasible trial of the best posterior mean.

    Args:
        trials: Trials that were read.
        data: Their observations.
        surrogate: The model of the warped values.
        warped: Warped values of the observations, shape ``(n,)``.
        maximize: Whether larger values are better.
    """
    usable = np.array([is_candidate(trials[i]) for i in data.trial])
    mean, sd = surrogate.predict(data.x)
    best = int(np.argmax(np.where(usable, mean, -np.inf)))
    sign = 1.0 if maximize else -1.0
    ends = interval(float(mean[best]), float(sd[best]), data.y, warped, sign)
    trial = trials[data.trial[best]]
    return Recommendation(trial.number, dict(trial.params), *ends)


def is_candidate(trial: FrozenTrial) -> bool:
    """Whether a trial may be recommended: complete, finite and within its constraints."""
    if trial.state != TrialState.COMPLETE or not math.isfinite(trial.values[0]):
        return False
    return all(value <= 0 for value in trial.constraints.values())


def interval(mean: float, sd: float, y: Array, warped: Array, sign: float) -> tuple[float, ...]:
    """Median, lower and upper end in the objective's units; ``sign`` −1 where it is minimised."""
    ends = np.array([mean, mean - QUANTILE * sd, mean + QUANTILE * sd])
    middle, worse, better = (sign * unwarp(ends, y, warped)).tolist()
    return middle, min(worse, better), max(worse, better)
