"""`FisherPruner`, the Optuna pruner: trials are stopped by where they are believed to end."""

from __future__ import annotations

import logging
import math
from functools import partial

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError, NumericalError
from fisherbo.sampler.curve_beliefs import CurveBeliefs, CurveReader, EndPrediction
from fisherbo.sampler.optuna_private import get_trials, innermost, set_user_attr
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.step_costs import STEPS, relative_cost
from fisherbo.sampler.trials import ReadersByStudy

PREDICTED_END = "fisherbo:predicted_end"
"""User attribute of a trial: the median of the last report that was predicted for it."""

PREDICTED_INTERVAL = "fisherbo:predicted_interval"
"""User attribute of a trial: ends of the central 95 % interval of its last report, low and high."""

IMPROVEMENT_PROBABILITY = "fisherbo:improvement_probability"
"""User attribute of a trial: the probability that it ends better than the best complete trial."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_UNLIKELY, _LIKELY = 0.05, 0.5
"""Chances of an improvement below which a trial may be stopped whatever its reports say, and from
which on it goes on."""

_LOGGER = logging.getLogger("optuna.fisherbo")


class FisherPruner(BasePruner):
    """Stops a trial once its remaining steps promise less than those of another trial would.

    Optuna's pruners compare a report with those of other trials at the same step. This one predicts
    where the trial ends, from its own reports and from the parameters and curves of all other
    trials, by one Gaussian process of curves and ends (:mod:`fisherbo.gp.curves`, after freeze–thaw
    Bayesian optimization: Swersky et al. 2014). A trial is stopped once its expected improvement on
    the best complete trial is worth less than its remaining steps would be if spent on other
    trials, which may be stopped early themselves (optimal stopping:
    :mod:`fisherbo.acquisition.stopping`). Two things are asked beside that, for a model can err:

    - A trial that more likely than not ends better than the best complete one goes on, so that a
      study ends with a complete trial of the best that it found.
    - Its reports must have lowered its expected improvement, by the factor ``patience``, unless the
      chance of an improvement is below 5 %. What was believed before it began does not stop it: the
      sampler chose it in spite of that.

    It works with any sampler, storage and number of workers: a decision depends only on the study's
    finished trials and on the trial's own reports. Fitted hyperparameters are kept in the study. At
    200 trials of 100 steps a decision takes some milliseconds, and a fit, which is repeated after
    every 15 % more trials, some tens of milliseconds.

    What was predicted is kept with the trial, in the units of its reports, after 1, 2, 4, 8 …
    reports and when it is pruned: :data:`PREDICTED_END`, :data:`PREDICTED_INTERVAL`,
    :data:`IMPROVEMENT_PROBABILITY`.

    Only reports are compared with each other, so the value that a trial returns may be something
    else. If complete trials returned their best report, the best report of a trial counts,
    otherwise the last one. A trial whose last report is NaN or infinite is pruned. Curves need be
    neither monotone nor of one length.

    Example:
        >>> import optuna
        >>> from fisherbo import FisherPruner, FisherSampler
        >>> study = optuna.create_study(sampler=FisherSampler(), pruner=FisherPruner())

    Args:
        n_startup_trials: Complete trials, with reports, before any trial is pruned.
        n_warmup_steps: Reports of a trial before it may be pruned. The first report of a training
            is often the loss of the initial weights, which says nothing.
        max_step: The last step of a trial that is not stopped; if None, the largest step that a
            complete trial reported. Give it if trials may end early by themselves, for example on
            convergence.
        patience: Number by which the worth of other trials' steps is divided, and by which reports
            must have lowered a trial's expected improvement, so that larger ones stop a trial
            later. 1 is optimal if the model is right; the default is 2 because a model of few
            curves is too sure of itself.
        cost: What is to be saved: ``"steps"``; ``"seconds"``, where steps of some trials take
            longer than those of others; or the name of a user attribute in which the objective
            keeps what a trial cost so far, set before it reports, as with ``cost`` of
            :class:`~fisherbo.FisherSampler`. Where costs are not known, steps count.

    Raises:
        InvalidInputError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 1,
        n_warmup_steps: int = 2,
        max_step: int | None = None,
        patience: float = 2.0,
        cost: str = STEPS,
    ) -> None:
        _require_at_least("n_startup_trials", n_startup_trials, 1)
        _require_at_least("n_warmup_steps", n_warmup_steps, 0)
        if max_step is not None:
            _require_at_least("max_step", max_step, 1)
        if not 0 < patience < math.inf:
            raise InvalidInputError(
                f"patience must be a finite number > 0, got {patience!r}; 1 to 5 are typical"
            )
        if not isinstance(cost, str) or not cost:
            raise InvalidInputError(
                f'cost must be "steps", "seconds" or the name of a user attribute, got {cost!r}'
            )
        self._n_startup_trials = n_startup_trials
        self._n_warmup_steps = n_warmup_steps
        self._max_step = max_step
        self._patience = patience
        self._cost = cost
        self._readers = ReadersByStudy(CurveReader)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial should stop after its last report."""
        reports = trial.intermediate_values
        if len(reports) < max(self._n_warmup_steps, 1):
            return False
        trials = [t for t in get_trials(study, _FINISHED, use_cache=False) if t.intermediate_values]
        if sum(t.state == TrialState.COMPLETE for t in trials) < self._n_startup_trials:
            return False
        try:
            with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
                return self._decide(study, trial, trials)
        except NumericalError as error:
            optuna.logging.get_verbosity()  # sets up Optuna's handler
            _LOGGER.warning("trial %d goes on: %s", trial.number, error)
            return False

    def _decide(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial]) -> bool:
        sampler = innermost(study.sampler)
        known = sampler.settings.categories if isinstance(sampler, FisherSampler) else {}
        beliefs = self._readers.of(study).beliefs(study, trial, trials, self._max_step, known)
        if beliefs is None:
            return False
        reports = trial.intermediate_values
        step = max(reports)
        if not math.isfinite(reports[step]):
            return True
        if step >= beliefs.curves.axis.last:
            return False
        found = beliefs.predict(trial)
        probability = beliefs.improvement_probability(found)
        patience = self._patience / relative_cost(trial, trials, beliefs.curves.axis, self._cost)
        told = probability < _UNLIKELY or beliefs.lowered(found) < 1 / self._patience
        stops = told and probability < _LIKELY and beliefs.gain(found, step, patience) < 0
        if stops or len(reports) & (len(reports) - 1) == 0:
            _tell(study, trial, beliefs, found)
        return stops


def _tell(study: Study, trial: FrozenTrial, beliefs: CurveBeliefs, found: EndPrediction) -> None:
    """Keep what was predicted with the trial."""
    tell = partial(set_user_attr, study, trial)
    low, median, high = beliefs.quantiles(found)
    tell(PREDICTED_END, median)
    tell(PREDICTED_INTERVAL, [low, high])
    tell(IMPROVEMENT_PROBABILITY, beliefs.improvement_probability(found))


def _require_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(
            f"{name} must be a whole number of at least {least}, got {value!r}; leave it out for "
            "the default"
        )
