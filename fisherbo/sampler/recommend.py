"""The evaluated point to use in the end: that of the best posterior mean, not of the best value.

The model is of warped values. Since the warp is monotone, its inverse maps quantiles of the
noise-free warped value at a point to quantiles in the objective's units. The inverse is known at
the observed values, interpolated between them, linear above the best and constant below the worst.
The posterior mean of the warped value becomes the median in the objective's units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.gp.warp import unwarp
from fisherbo.sampler.categories import described, labels
from fisherbo.sampler.checks import NOTHING_VARIES
from fisherbo.sampler.curve_ends import EndReader
from fisherbo.sampler.fit_store import latest
from fisherbo.sampler.models import fit_objective
from fisherbo.sampler.observations import observe
from fisherbo.sampler.transfer import SourceStudies
from fisherbo.sampler.trials import StudyReader, not_resumed
from fisherbo.sampler.user_settings import UserSettings
from fisherbo.space import Array

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
LEVEL = 0.95
QUANTILE = 1.959963984540054  # of the standard normal at (1 + LEVEL)/2


@dataclass(frozen=True)
class Recommendation:
    """The evaluated point of the best posterior mean.

    Attributes:
        number: Number of the (first) trial there.
        params: Its parameters.
        value: Posterior median of its noise-free value, in units of the objective.
        low: Lower end of the central 95% credible interval of its noise-free value.
        high: Upper end. Neither end is worse than the worst value observed.
    """

    number: int
    params: Mapping[str, Any]
    value: float
    low: float
    high: float


def recommend(
    study: Study,
    reader: StudyReader,
    sources: SourceStudies,
    settings: UserSettings,
    curves: EndReader,
) -> Recommendation:
    """The complete, feasible trial of the best posterior mean.

    Args:
        study: A study with one objective.
        reader: Of its trials.
        sources: Earlier studies.
        settings: What the user tells beside the study.
        curves: Of the study's learning curves.

    Raises:
        InvalidInputError: If there is no such trial, or no parameter varies.
    """
    trials = not_resumed(study.get_trials(deepcopy=False, states=_FINISHED))
    require_candidate(trials)
    options = settings.options
    search_space = described(reader.parameters(trials).varying, settings.categories)
    if not search_space:
        raise InvalidInputError(NOTHING_VARIES)
    space, table = reader.table(search_space, trials)
    read = trials, table, space, labels(search_space), study.directions
    told = curves.ends(*read) if options.curve_ends else ()
    seen = observe(
        space, table, study.directions, separate_failures=False, options=options, ends=told
    )
    last = latest(trials, labels(search_space))
    transfer = sources.prior_mean(search_space, seen)
    model, _, _ = fit_objective(seen, space, last, transfer=transfer, options=options)
    mean, sd = model.surrogate.predict(seen.x)
    usable = np.array([is_candidate(trials[i]) for i in seen.row])
    best = int(np.argmax(np.where(usable, mean, -np.inf)))
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    ends = interval(float(mean[best]), float(sd[best]), seen.y[:, 0], seen.warped[0], sign)
    trial = trials[seen.row[best]]
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
