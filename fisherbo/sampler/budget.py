"""`StopWhenSpent`: the end of a study whose budget is spent, as a callback."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.checks import cost_settings
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.costs import EVALUATED, SECONDS, costs_of, spent
from fisherbo.sampler.optuna_private import innermost
from fisherbo.sampler.sampler import FisherSampler

_LOGGER = logging.getLogger("optuna.fisherbo")


@dataclass(frozen=True)
class _Account:
    """What a study has spent.

    Attributes:
        count: Finished trials.
        spent: What they cost together.
        median: Of their costs; 0 if none is known.
        largest: Of their costs.
        left: Of the budget, less a median cost for every running trial.
    """

    count: int
    spent: float
    median: float
    largest: float
    left: float


class StopWhenSpent:
    """Callback that stops a study once its budget is spent.

    It also stops a study if the next trial would probably cost more than is left. If the study's
    sampler is a :class:`fisherbo.FisherSampler` with a ``cost``, its model predicts what that trial
    will cost; with any other sampler, and for enqueued trials, the median cost so far is used.
    Trials that are running when the study stops are finished. Each running trial counts with the
    median cost.

    Args:
        budget: What all trials may cost together; that of the study's sampler if None.
        cost: "seconds" for the durations of trials, or the name of a user attribute of theirs; that
            of the study's sampler if None, or else "seconds". The costs of all workers are added
            up. A trial without a cost, such as one that was added as finished, costs nothing.

    Raises:
        InvalidInputError: If an argument is out of its range; in a study, if the budget is None and
            its sampler has none.

    Example:
        >>> import fisherbo, optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> def objective(trial):
        ...     n = trial.suggest_int("n", 1, 100)
        ...     trial.set_user_attr("dollars", 0.01 * n)
        ...     return 1 / n
        >>> sampler = fisherbo.FisherSampler(seed=0, cost="dollars", budget=10)
        >>> study = optuna.create_study(sampler=sampler)
        >>> study.optimize(objective, n_trials=100, callbacks=[fisherbo.StopWhenSpent()])
        >>> sum(t.user_attrs["dollars"] for t in study.trials) < 11
        True
    """

    def __init__(self, budget: float | None = None, *, cost: str | None = None) -> None:
        cost_settings(cost if budget is None else cost or SECONDS, budget)
        self._budget = budget
        self._cost = cost

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Judge the study after a trial, and stop it if nothing more can be paid for."""
        if self.exhausted(study):
            study.stop()

    def exhausted(self, study: Study) -> bool:
        """Whether the budget is spent or too small for another trial, for loops of ask and tell."""
        settings = self._settings(study)
        trials = study.get_trials(deepcopy=False)
        account = _account(trials, settings)
        waiting = any(t.state == TrialState.WAITING for t in trials)
        following = account.median
        if 0 < account.left < account.largest and not waiting:
            following = _predicted(study, settings) or account.median
        if 0 < account.left >= following:
            return False
        optuna.logging.get_verbosity()  # sets up Optuna's handler
        _LOGGER.info(
            f"Stopped after {account.count} trials: {account.spent:.6g} of {settings.budget:.6g} "
            f"({settings.name}) are spent, and another trial would cost about {following:.3g}."
        )
        return True

    def left(self, study: Study) -> float:
        """What is left of the budget, less the median cost of every running trial."""
        settings = self._settings(study)
        return _account(study.get_trials(deepcopy=False), settings).left

    def _settings(self, study: Study) -> CostSettings:
        """What counts, of the callback's own or the sampler's."""
        own = _told(study)
        budget = own.budget if self._budget is None and own is not None else self._budget
        if budget is None:
            raise InvalidInputError(
                "StopWhenSpent needs a budget, got None and no FisherSampler with a budget; pass "
                "StopWhenSpent(3600) for an hour of all trials together"
            )
        return CostSettings(self._cost or (SECONDS if own is None else own.name), budget)


def _told(study: Study) -> CostSettings | None:
    """The cost that the study's sampler was told."""
    sampler = innermost(study.sampler)
    return sampler.settings.cost if isinstance(sampler, FisherSampler) else None


def _account(trials: Sequence[FrozenTrial], settings: CostSettings) -> _Account:
    costs = costs_of(trials, settings.name)
    done = np.array([t.state in EVALUATED for t in trials], dtype=bool)
    known = costs[done & (costs > 0)]
    median = float(np.median(known)) if len(known) else 0.0
    total = spent(trials, costs)
    running = sum(t.state == TrialState.RUNNING for t in trials)
    budget = math.inf if settings.budget is None else settings.budget
    return _Account(
        count=sum(t.state.is_finished() for t in trials),
        spent=total,
        median=median,
        largest=float(known.max()) if len(known) else 0.0,
        left=budget - total - running * median,
    )


def _predicted(study: Study, settings: CostSettings) -> float | None:
    """Median cost of the trial that the study's sampler would begin now, if it has a model."""
    sampler, own = innermost(study.sampler), _told(study)
    if own is None or own.name != settings.name or not isinstance(sampler, FisherSampler):
        return None
    try:
        return sampler.inspect(study).median_cost
    except InvalidInputError:  # no value yet, or no parameter that varies
        return None
