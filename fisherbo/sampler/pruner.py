"""`FisherPruner`, the Optuna pruner: trials are stopped by where they are believed to end."""

from __future__ import annotations

import logging
import math
from functools import partial

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from fisherbo.errors import InvalidInputError, NumericalError
from fisherbo.sampler.curve_beliefs import CurveBeliefs, CurveReader
from fisherbo.sampler.front_beliefs import FrontBeliefs, FrontReader
from fisherbo.sampler.notices import Notices
from fisherbo.sampler.optuna_private import (
    get_trial,
    get_trials,
    innermost,
    set_user_attr,
    trial_id,
)
from fisherbo.sampler.reports import Reports, has_reports, last_step, reports_of
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.step_costs import STEPS, relative_cost
from fisherbo.sampler.trials import ReadersByStudy, not_resumed

PREDICTED_END = "fisherbo:predicted_end"
"""User attribute of a trial: the median of the last report that was predicted for it.

Of several objectives, a list of them."""

PREDICTED_INTERVAL = "fisherbo:predicted_interval"
"""User attribute of a trial: ends of the central 95 % interval of its last report, low and high.

Of several objectives, a list of low ends and one of high ends."""

IMPROVEMENT_PROBABILITY = "fisherbo:improvement_probability"
"""User attribute of a trial: the probability that it ends better than the best complete trial.

Of several objectives, that no complete trial dominates it."""

EXPLORED = "fisherbo:explored"
"""User attribute of a trial that came to its end by ``exploration``: the step at which it would
have been stopped."""

_CONTRADICTED = (
    "complete trials with better reports returned worse values more often than not, and no trial "
    "is pruned while that is so; report what the objective returns, or a quantity that goes with "
    "it, in the direction of the study"
)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_LOGGER = logging.getLogger("optuna.fisherbo")


class FisherPruner(BasePruner):
    """Stops a trial once its remaining steps promise less than those of another trial would.

    Optuna's pruners compare a report with those of other trials at the same step. This one predicts
    where the trial ends, from its own reports and from the parameters and curves of all other
    trials, by one Gaussian process of curves and ends (:mod:`fisherbo.gp.curves`, after freeze–thaw
    Bayesian optimization: Swersky et al. 2014). A trial is stopped once its expected improvement on
    the best complete trial is worth less than its remaining steps would be if spent on other
    trials, which may be stopped early themselves (optimal stopping:
    :mod:`fisherbo.acquisition.stopping`). Four things are asked beside that, for a model can err:

    - A trial that more likely than not ends better than the best complete one goes on, so that a
      study ends with a complete trial of the best that it found.
    - Its reports must have lowered its expected improvement, by the factor ``patience``, unless the
      chance of an improvement is below 5 %. What was believed before it began does not stop it: the
      sampler chose it in spite of that.
    - Reports up to that step must not contradict the ends of the complete trials, four at least: no
      more pairs of these may be in the opposite order at the step than in the same one.
    - Up to a tenth of all steps goes to trials that come to their end although they should stop
      (``exploration``). Only such trials can tell the model that some settings look bad early and
      end best, as small learning rates and schedules that decay late do.

    It works with any sampler, storage and number of workers: a decision depends only on the study's
    finished trials, on the trial's own reports, and on which trials are explored. Fitted
    hyperparameters are kept in the study. At 200 trials of 100 steps a decision takes some
    milliseconds, and a fit, which is repeated after every 15 % more trials, some tens of
    milliseconds.

    What was predicted is kept with the trial, in the units of its reports, after 1, 2, 4, 8 …
    reports and when it is pruned: :data:`PREDICTED_END`, :data:`PREDICTED_INTERVAL`,
    :data:`IMPROVEMENT_PROBABILITY`.

    Studies of several objectives, which Optuna's pruners do not serve, report by `fisherbo.report`
    and ask `fisherbo.should_prune`. A trial's worth is then its expected hypervolume improvement on
    the ends of the complete trials, and predictions are kept as lists, one entry an objective.

    Only reports are compared with each other, so the value that a trial returns may be something
    else. Then three complete trials must show that it goes with them, and nothing is pruned, as a
    warning tells, while those that ended with better reports returned worse values more often than
    not (`fisherbo.sampler.agreement`). If complete trials returned their best report, the best
    report of a trial counts, otherwise the last one. A trial whose last report is NaN or infinite
    is pruned. Curves need be neither monotone nor of one length.

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
        exploration: Largest share of all steps, at least 0 and less than 1, for trials that come to
            their end although they should stop; they are marked by :data:`EXPLORED`. 0 stops all
            that should. With the default the first one comes after the steps of ten whole trials.
            A trial that got worse than at its start is not explored.
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
        exploration: float = 0.1,
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
        if not 0 <= exploration < 1:
            raise InvalidInputError(
                f"exploration must be a share of the steps, at least 0 and less than 1, got "
                f"{exploration!r}; 0.1 is the default"
            )
        if not isinstance(cost, str) or not cost:
            raise InvalidInputError(
                f'cost must be "steps", "seconds" or the name of a user attribute, got {cost!r}'
            )
        self._n_startup_trials = n_startup_trials
        self._n_warmup_steps = n_warmup_steps
        self._max_step = max_step
        self._patience = patience
        self._exploration = exploration
        self._cost = cost
        self._notices = Notices()
        self._readers = _Readers()
        self._readers_without = _Readers()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial should stop after its last report."""
        reports = reports_of(trial, len(study.directions))
        if len(reports[0]) < max(self._n_warmup_steps, 1):
            return False
        trials = self._finished(study, trial)
        if sum(t.state == TrialState.COMPLETE for t in trials) < self._n_startup_trials:
            return False
        try:
            with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
                return self._decide(study, trial, trials, reports)
        except NumericalError as error:
            optuna.logging.get_verbosity()  # sets up Optuna's handler
            _LOGGER.warning("trial %d goes on: %s", trial.number, error)
            return False

    def _decide(
        self,
        study: Study,
        trial: FrozenTrial,
        trials: list[FrozenTrial],
        reports: tuple[Reports, ...],
    ) -> bool:
        beliefs = self._beliefs(self._readers, study, trial, trials)
        if beliefs is None:
            return False
        step = max(reports[0])
        if not all(math.isfinite(told[step]) for told in reports):
            return True
        if step >= beliefs.axis.last:
            return False
        if not beliefs.tell_values(trials):
            if beliefs.contradicted_by(trials):
                message = f"trial {trial.number} goes on: {_CONTRADICTED}"
                self._notices.give(study, message, "reports")
            return False
        cost = relative_cost(trial, trials, beliefs.axis, self._cost)
        found = beliefs.judge(trial, step, self._patience, cost)
        stops = found.stops and not beliefs.misled_at(step, trials)
        stops = stops and not self._explores(study, trial, trials, reports, beliefs)
        count = len(reports[0])
        if stops or count & (count - 1) == 0:
            tell = partial(set_user_attr, study, trial)
            tell(PREDICTED_END, found.median)
            tell(PREDICTED_INTERVAL, [found.low, found.high])
            tell(IMPROVEMENT_PROBABILITY, found.improvement)
        return stops

    def _explores(
        self,
        study: Study,
        trial: FrozenTrial,
        trials: list[FrozenTrial],
        reports: tuple[Reports, ...],
        beliefs: CurveBeliefs | FrontBeliefs,
    ) -> bool:
        """Whether a trial that should stop comes to its end all the same; if so, it is marked.

        None does that got worse in every objective than at its start.
        """
        running = get_trials(study, (TrialState.RUNNING,), use_cache=False)
        explored = {t.number for t in (*trials, *running) if EXPLORED in t.user_attrs}
        if trial.number in explored:
            return True
        told = zip(beliefs.signs, reports, strict=True)
        if not any(sign * (r[max(r)] - r[min(r)]) >= 0 for sign, r in told):
            return False
        axis = beliefs.axis
        steps = sum(axis.place(last_step(t)) for t in trials)
        if (len(explored) + 1) * axis.count > self._exploration * steps:
            return False
        set_user_attr(study, trial, EXPLORED, last_step(trial))
        return True

    def gain_of_resuming(self, study: Study, trial: FrozenTrial) -> float:
        """What going on with a pruned trial gains over new trials of as many steps; negative: none.

        In units of the curve model's standardised ends; −inf where its curve says nothing. Nothing
        is written. The model is trusted fully here, as by a `patience` of 1.

        Args:
            study: The study.
            trial: One of its pruned trials.
        """
        reports = reports_of(trial, len(study.directions))
        if not reports[0] or not all(math.isfinite(told[max(told)]) for told in reports):
            return -math.inf
        others = [t for t in self._finished(study, None) if t.number != trial.number]
        try:
            with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
                beliefs = self._beliefs(self._readers_without, study, None, others)
                if beliefs is None or not beliefs.tell_values(others):
                    return -math.inf
                if max(reports[0]) >= beliefs.axis.last:
                    return -math.inf
                return beliefs.judge(trial, max(reports[0]), patience=1.0).gain
        except NumericalError:
            return -math.inf

    def _finished(self, study: Study, trial: FrozenTrial | None) -> list[FrozenTrial]:
        """Finished trials with reports, less those that others, or this one, go on with."""
        trials = get_trials(study, _FINISHED, use_cache=False)
        known = not_resumed(trials if trial is None else [*trials, trial])
        finished = (t for t in known if t.state in _FINISHED)
        return [t for t in finished if has_reports(t, len(study.directions))]

    def _beliefs(
        self,
        readers: _Readers,
        study: Study,
        trial: FrozenTrial | None,
        trials: list[FrozenTrial],
    ) -> CurveBeliefs | FrontBeliefs | None:
        sampler = innermost(study.sampler)
        known = sampler.settings.categories if isinstance(sampler, FisherSampler) else {}
        reader = readers.of(study)
        return reader.beliefs(study, trial, trials, self._max_step, known)


class _Readers:
    """Readers of curves by study, for one objective or several."""

    def __init__(self) -> None:
        self._single = ReadersByStudy(CurveReader)
        self._several = ReadersByStudy(FrontReader)

    def of(self, study: Study) -> CurveReader | FrontReader:
        """The reader of a study's curves."""
        return (self._single if len(study.directions) == 1 else self._several).of(study)


def should_prune(trial: BaseTrial) -> bool:
    """Whether a trial should stop, in studies of one or several objectives.

    With one objective it is ``trial.should_prune()``. Optuna does not offer that with several:
    there the study's `FisherPruner` decides by what `fisherbo.report` told of the objectives. If it
    is True, raise `optuna.TrialPruned`. Optuna leaves such trials out of the Pareto front; samplers
    that know nothing of `fisherbo.report` ignore them or count them as bad, and
    `fisherbo.FisherSampler` learns from their predicted ends.

    Args:
        trial: The objective's trial.

    Raises:
        InvalidInputError: If there are several objectives, and the study's pruner is neither a
            `FisherPruner` nor `optuna.pruners.NopPruner`: others know one value a step.

    Example:
        >>> import optuna
        >>> from fisherbo import FisherPruner, report, should_prune
        >>> def objective(trial):
        ...     width = trial.suggest_int("width", 1, 64)
        ...     for epoch in range(5):
        ...         error = 1 / (width * (epoch + 1))
        ...         report(trial, {"error": error, "size": width}, epoch)
        ...         if should_prune(trial):
        ...             raise optuna.TrialPruned
        ...     return error, width
        >>> study = optuna.create_study(directions=["minimize"] * 2, pruner=FisherPruner())
        >>> study.optimize(objective, n_trials=2)
    """
    if not isinstance(trial, Trial) or len(trial.study.directions) == 1:
        return trial.should_prune()
    study, pruner = trial.study, trial.study.pruner
    if isinstance(pruner, NopPruner):
        return False
    if not isinstance(pruner, FisherPruner):
        raise InvalidInputError(
            f"the pruner of a study of several objectives must be a FisherPruner, got "
            f"{type(pruner).__name__}, which knows one value a step; create the study with "
            "pruner=fisherbo.FisherPruner(), or with optuna.pruners.NopPruner() for none"
        )
    return pruner.prune(study, get_trial(study, trial_id(trial)))


def _require_at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInputError(
            f"{name} must be a whole number of at least {least}, got {value!r}; leave it out for "
            "the default"
        )
