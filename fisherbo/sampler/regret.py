"""The remaining regret of a study: how much better than the recommended trial others may be.

The model is that of the sampler but for its prior mean, which is always the mean of the values. A
lower one makes a search more local, but presumes that nothing much is left. Its hyperparameters are
kept with the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState, create_trial

from fisherbo.acquisition.feasibility import Feasibility, Restricted, product
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.acquisition.regret import CALIBRATED, Scale, challengers, draws, largest
from fisherbo.errors import InvalidInputError
from fisherbo.gp.model import Fit
from fisherbo.gp.posterior import Posterior
from fisherbo.gp.warp import unwarp
from fisherbo.sampler import fit_store
from fisherbo.sampler.categories import labels
from fisherbo.sampler.checks import NOTHING_VARIES
from fisherbo.sampler.models import FittedModel, ModelFitter, Models
from fisherbo.sampler.observations import Observations
from fisherbo.sampler.options import DEFAULTS
from fisherbo.sampler.request import Request, read_request
from fisherbo.sampler.running import without_abandoned
from fisherbo.sampler.trials import StudyReader, other_trials
from fisherbo.sampler.user_settings import UserSettings
from fisherbo.space import Array

OPTIONS = replace(DEFAULTS, prior_mean=0.0)
"""Of the algorithm."""

_DRAWS = 512
_ROWS = 256  # of a list of candidates
_BEST = 4  # observations around which better points are sought
_FIRST = 10  # trials that the gain refers to


@dataclass(frozen=True)
class RemainingRegret:
    """What the posterior says of the regret of stopping now.

    Attributes:
        number: The recommended trial.
        draws: Of the remaining regret, in units of the objective, ascending, shape ``(k,)``.
        gain: What the best trial gained over the median of the first ten, in the same units. A
            pruned one counts with the value that it stands for in the search.
        fits: New fits, which the study does not keep yet, by the models' labels.
        names: Of the parameters, in the order of the lengthscales.
    """

    number: int
    draws: Array
    gain: float
    fits: Mapping[str, Fit]
    names: tuple[str, ...]

    def bound(self, probability: float) -> float:
        """The regret that is not exceeded with this probability."""
        return float(np.quantile(self.draws, probability, method="higher"))

    def probability(self, regret: float) -> float:
        """The probability that the remaining regret is at most so large."""
        return float(np.mean(self.draws <= regret))


def remaining_regret(
    study: Study,
    reader: StudyReader,
    fitter: ModelFitter,
    settings: UserSettings,
    seed: int,
    scale: Scale = CALIBRATED,
) -> RemainingRegret | None:
    """The remaining regret of a study with one objective; None while no trial is feasible.

    Args:
        study: The study.
        reader: Of its trials.
        fitter: Of its models.
        settings: What the user tells the sampler; its options do not count.
        seed: Of the draws.
        scale: Factor of the posterior's standard deviations.

    Raises:
        InvalidInputError: If no parameter varies.
    """
    request = _request(study, reader, replace(settings, options=OPTIONS))
    rng = np.random.default_rng(seed)  # the same draws in every trial: bounds are smoother
    names = labels(request.search_space)
    last = fit_store.latest_for_regret(study, names)
    models = fitter.fit(request.observations, request.space, last.get)
    incumbent = _incumbent(request, models)
    if incumbent is None:
        return None
    points = _points(request, models, incumbent, rng)
    fitted = (*models.objectives, *models.constraints)
    f, *constraints = (draws(_posterior(m), points, _DRAWS, rng, scale) for m in fitted)
    best = np.maximum(largest(f[:, 1:], [c[:, 1:] for c in constraints]), f[:, 0])
    observations = request.observations
    y, warped = observations.y[:, 0], observations.warped[0]
    regret = unwarp(best, y, warped) - unwarp(f[:, 0], y, warped)
    number = int(request.table.number[observations.row[incumbent]])
    return RemainingRegret(number, np.sort(regret), _gain(observations), models.fits, names)


def _posterior(model: FittedModel) -> Posterior:
    """The posterior of a model, which no factory and no earlier study changes here."""
    assert isinstance(model.surrogate, Posterior)
    return model.surrogate


def _request(study: Study, reader: StudyReader, settings: UserSettings) -> Request:
    """What the trials say."""
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = len(study.get_trials(deepcopy=False))
    trials = without_abandoned(study, other_trials(study, trial, use_cache=False))
    search_space = reader.parameters(trials).varying
    found = None
    if search_space:
        found = read_request(study, trial, trials, search_space, reader, settings)
    if found is None:
        raise InvalidInputError(NOTHING_VARIES)
    return found


def _incumbent(request: Request, models: Models) -> int | None:
    """The complete, feasible observation of the best posterior mean."""
    observations = request.observations
    candidates = observations.own & observations.usable
    if not candidates.any():
        return None
    mean = models.objectives[0].surrogate.mean(observations.x)
    return int(np.argmax(np.where(candidates, mean, -np.inf)))


def _gain(observations: Observations) -> float:
    """What the best complete trial gained over the median of the first ten."""
    usable, y = observations.usable, observations.y[:, 0]
    return float(y[usable & observations.own].max() - np.median(y[usable][:_FIRST]))


def _points(request: Request, models: Models, incumbent: int, rng: np.random.Generator) -> Array:
    """The incumbent, and the points that may be better, shape ``(m, d)``."""
    x, objective = request.observations.x, models.objectives[0].surrogate
    mean = objective.mean(x)
    factors: list[Acquisition] = [ExpectedImprovement(objective, float(mean[incumbent]))]
    factors += [Feasibility(c.surrogate) for c in models.constraints]
    improvement = product(tuple(factors))
    if request.candidates is not None:
        return np.concatenate([x[[incumbent]], request.candidates.leaders(improvement, _ROWS)])
    if request.rule is not None:
        improvement = Restricted(improvement, request.rule)
    centres = request.target.snap(x[np.argsort(-mean, kind="stable")[:_BEST]])
    return np.concatenate([x[[incumbent]], challengers(improvement, request.target, centres, rng)])
