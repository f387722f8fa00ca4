"""The evaluated point to use in the end: the best posterior mean, not the luckiest value.

The model is one of warped values. The warp is monotone, so that a quantile of the noise-free value
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

from fisherbo.errors import InvalidInputError
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.warp import unwarp
from fisherbo.sampler.observations import Observations
from fisherbo.space import Array

LEVEL = 0.95
QUANTILE = 1.959963984540054  # of the standard normal at (1 + LEVEL)/2


@dataclass(frozen=True)
class Recommendation:
    """The evaluated point of the best posterior mean.

    Attributes:
        number: Number of the (first) trial there.
        params: Its parameters.
        value: What is expected of its noise-free value: the posterior median, which is the mean
            before the inverse warp; in units of the objective.
        low: Lower end of the central 95% credible interval of its noise-free value.
        high: Upper end. Neither end is worse than the worst value observed.
    """

    number: int
    params: Mapping[str, Any]
    value: float
    low: float
    high: float


def recommended(
    trials: Sequence[FrozenTrial],
    observations: Observations,
    surrogate: Surrogate,
    *,
    maximize: bool,
) -> Recommendation:
    """The complete, feasible trial of the best posterior mean.

    Args:
        trials: Trials that were read.
        observations: Of their one objective.
        surrogate: The model of the warped values.
        maximize: Whether larger values are better.
    """
    usable = np.array([is_candidate(trials[i]) for i in observations.row])
    mean, sd = surrogate.predict(observations.x)
    best = int(np.argmax(np.where(usable, mean, -np.inf)))
    sign = 1.0 if maximize else -1.0
    y, warped = observations.y[:, 0], observations.warped[0]
    ends = interval(float(mean[best]), float(sd[best]), y, warped, sign)
    trial = trials[observations.row[best]]
    return Recommendation(trial.number, dict(trial.params), *ends)


def is_candidate(trial: FrozenTrial) -> bool:
    """Whether a trial may be recommended: complete, finite and within its constraints."""
    if trial.state != TrialState.COMPLETE or not math.isfinite(trial.values[0]):
        return False
    return all(value <= 0 for value in trial.constraints.values())


def require_candidate(trials: Sequence[FrozenTrial]) -> None:
    """Pass if there is a trial to recommend.

    Raises:
        InvalidInputError: If there is none.
    """
    if not any(is_candidate(t) for t in trials):
        raise InvalidInputError(
            "study has no complete and feasible trial to recommend, got "
            f"{len(trials)} finished; run some more trials first"
        )


def interval(mean: float, sd: float, y: Array, warped: Array, sign: float) -> tuple[float, ...]:
    """Median, lower and upper end in the objective's units; ``sign`` −1 where it is minimised."""
    ends = np.array([mean, mean - QUANTILE * sd, mean + QUANTILE * sd])
    middle, worse, better = (sign * unwarp(ends, y, warped)).tolist()
    return middle, min(worse, better), max(worse, better)
