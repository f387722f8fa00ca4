"""`StopWhenConverged`: the end of a study whose remaining regret is small, as a callback."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Mapping, Sequence

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler import fit_store
from fisherbo.sampler.models import ModelFitter
from fisherbo.sampler.optuna_private import innermost, set_study_system_attr, study_system_attrs
from fisherbo.sampler.regret import OPTIONS, RemainingRegret, remaining_regret
from fisherbo.sampler.sampler import FisherSampler, usual_errors
from fisherbo.sampler.trials import ReadersByStudy, StudyReader
from fisherbo.sampler.user_settings import UserSettings

KEY = "fisherbo:regret_bound"
"""Beginning of the study attributes of the bounds; the probability and the trial's number follow.

Optuna allows no attribute of a finished trial to be set, so that they are kept with the study.
"""

_FIRST = 10  # complete trials before the first bound
_LEAST, _BY_PARAMETER = 20, 3  # trials before the end
_LOGGER = logging.getLogger("optuna.fisherbo")
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class StopWhenConverged:
    """Callback that stops a study once the remaining regret is small with a given probability.

    The remaining regret is the difference between the best value in the whole space and the value
    of the trial that :meth:`FisherSampler.recommend <fisherbo.FisherSampler.recommend>` would
    choose. After each trial, a Gaussian process fitted to all trials, whichever sampler chose them,
    gives a bound that the remaining regret does not exceed with the given probability (Wilson
    2024). The study stops when the bound has been at most the given regret after ``patience``
    trials in a row.

    The bounds are kept with the study, so that workers share them and a resumed study goes on where
    it ended. `fisherbo.visualization.plot_regret_bound` draws them. At 200 trials a bound takes
    some 20 ms, and more after about every tenth trial, when the model is fitted again.

    Args:
        regret: Regret that does not matter, in units of the objective. Either this or ``relative``.
        relative: The same as a share of the gain so far, which is the distance from the median of
            the first ten trials to the best one; a pruned trial counts with the value that it
            stands for in the search.
        probability: Probability that the remaining regret is at most that, 0.5 to 0.95.
        patience: Number of trials in a row after which the bound must hold.
        min_trials: Complete trials before the study may stop. If None: 20, or 3 for each parameter
            that varies if that is more. Pruned trials do not count: with them, 4 of the 10
            studies under the median pruner that stopped did so too early.
        seed: Seed of the draws from the posterior.

    Constraints are taken into account, and so are the input constraints and fixed values of the
    study's sampler. While no trial is feasible the study goes on. Under noise the regret is that of
    the noise-free value.

    Raises:
        InvalidInputError: If an argument is out of its range, or not one of ``regret`` and
            ``relative`` is given; in a study, if it has several objectives or no parameter varies.

    Example:
        >>> import fisherbo, optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
        >>> stop = fisherbo.StopWhenConverged(regret=0.01)
        >>> study.optimize(
        ...     lambda t: (t.suggest_float("x", -5, 5) - 2) ** 2, n_trials=100, callbacks=[stop]
        ... )
        >>> len(study.trials) < 40
        True
    """

    def __init__(
        self,
        *,
        regret: float | None = None,
        relative: float | None = None,
        probability: float = 0.9,
        patience: int = 3,
        min_trials: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_arguments(regret, relative, probability, patience, min_trials)
        self._regret = regret
        self._relative = relative
        self._probability = float(probability)
        self._patience = patience
        self._min_trials = min_trials
        self._seed = seed
        self._readers = ReadersByStudy(StudyReader)
        self._fitter = ModelFitter(options=OPTIONS)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Judge the study after a trial, and stop it if it has converged."""
        _require_single_objective(study)
        if trial.state in _FINISHED and self.converged(study, trial.number):
            study.stop()

    def converged(self, study: Study, number: int | None = None) -> bool:
        """Whether the study has converged, for loops of ask and tell; the bound is kept with it.

        Args:
            study: A study with one objective.
            number: Number of the trial that ended; the last finished one if None.
        """
        _require_single_objective(study)
        trials = study.get_trials(deepcopy=False, states=_FINISHED)
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        if len(complete) < min(_FIRST, self._least(study, trials)):
            return False
        found = self.remaining_regret(study)
        if found is not None:
            fit_store.write_for_regret(study, found.names, found.fits)
        bound = math.inf if found is None else found.bound(self._probability)
        number = trials[-1].number if number is None else number
        _write(study, self._probability, number, bound)
        target = self._target(found)
        bounds = list(regret_bounds(study, self._probability).values())
        enough = len(complete) >= self._least(study, trials)
        if not enough or not settled(bounds, target, self._patience):
            return False
        self._say(len(complete), bound, target)
        return True

    @usual_errors
    def remaining_regret(self, study: Study) -> RemainingRegret | None:
        """The distribution of the remaining regret now; None while no trial is feasible."""
        _require_single_objective(study)
        sampler = innermost(study.sampler)
        settings = sampler.settings if isinstance(sampler, FisherSampler) else UserSettings()
        reader = self._readers.of(study)
        return remaining_regret(study, reader, self._fitter, settings, self._seed)

    def _least(self, study: Study, trials: Sequence[FrozenTrial]) -> int:
        """Complete trials before the study may stop."""
        if self._min_trials is not None:
            return self._min_trials
        parameters = self._readers.of(study).parameters(trials)
        return least_trials(len(parameters.varying))

    def _target(self, found: RemainingRegret | None) -> float:
        """The regret that does not matter, in units of the objective."""
        if self._relative is None or found is None:
            return self._regret or 0.0
        return self._relative * max(found.gain, 0.0)

    def _say(self, count: int, bound: float, target: float) -> None:
        optuna.logging.get_verbosity()  # sets up Optuna's handler
        _LOGGER.info(
            f"Converged after {count} complete trials: with a probability of "
            f"{self._probability:g} the remaining regret is at most {bound:.3g}, of {target:.3g} "
            "that do not matter."
        )


def settled(bounds: Sequence[float], target: float, patience: int) -> bool:
    """Whether each of the latest bounds is at most the target."""
    latest = bounds[-patience:]
    return len(latest) == patience and max(latest) <= target


def least_trials(parameters: int) -> int:
    """Complete trials before a study may stop, by the number of its parameters that vary."""
    return max(_LEAST, _BY_PARAMETER * parameters)


def regret_bounds(study: Study, probability: float) -> dict[int, float]:
    """The bounds kept with a study, by trial number in ascending order."""
    start = f"{KEY}:{probability:g}:"
    found = {
        int(key.removeprefix(start)): math.inf if value is None else float(value)
        for key, value in study_system_attrs(study).items()
        if key.startswith(start)
    }
    return dict(sorted(found.items()))


def probabilities(study: Study) -> list[float]:
    """The probabilities of the bounds kept with a study, ascending."""
    attributes: Mapping[str, object] = study_system_attrs(study)
    return sorted({float(key.split(":")[2]) for key in attributes if key.startswith(f"{KEY}:")})


def _write(study: Study, probability: float, number: int, bound: float) -> None:
    """Keep a bound with the study; JSON knows no infinity."""
    value = bound if math.isfinite(bound) else None
    set_study_system_attr(study, f"{KEY}:{probability:g}:{number}", value)


def _require_single_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise InvalidInputError(
            "StopWhenConverged needs a study with one objective, got "
            f"{len(study.directions)}; a Pareto front has no single regret: limit n_trials"
        )


def _check_arguments(
    regret: float | None,
    relative: float | None,
    probability: float,
    patience: int,
    min_trials: int | None,
) -> None:
    if (regret is None) == (relative is None):
        raise InvalidInputError(
            "StopWhenConverged needs either regret or relative, got "
            f"regret={regret!r}, relative={relative!r}; relative=0.05 is typical"
        )
    for name, value, most in (("regret", regret, math.inf), ("relative", relative, 1.0)):
        if value is not None and not (_is_number(value) and 0 < value < most):
            limits = "> 0 and finite" if most == math.inf else "between 0 and 1"
            raise InvalidInputError(f"{name} must be {limits}, got {value!r}")
    if not (_is_number(probability) and 0.5 <= probability <= 0.95):
        raise InvalidInputError(
            f"probability must be between 0.5 and 0.95, got {probability!r}; 0.9 is typical"
        )
    for name, count in (("patience", patience), ("min_trials", min_trials)):
        if count is not None and not (_is_number(count) and count == int(count) >= 1):
            raise InvalidInputError(f"{name} must be an integer >= 1, got {count!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
