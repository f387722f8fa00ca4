"""Freeze–thaw: pruned trials are resumed once they promise more than new ones.

A trial that continues a pruned one is a new trial of the same parameters, with a user attribute
that names the old one. Its curve is whole, since the old reports are copied into it; wherever
trials are read, the old one is then left out. When to do so is the pruner's question asked again,
with what the study has learned since (Swersky, Snoek & Adams 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.optuna_private import fail_waiting
from fisherbo.sampler.pruner import IMPROVEMENT_PROBABILITY, FisherPruner
from fisherbo.sampler.reports import metrics_of, report
from fisherbo.sampler.trials import RESUME

MOST_FROZEN = 8
"""Most pruned trials that are judged, those that were most likely to improve when they stopped."""


def frozen(trial: BaseTrial) -> FrozenTrial | None:
    """The pruned trial that this one continues, whose state it should load; None for a new one.

    The reports of that trial are copied into this one, so that its learning curve is whole: report
    further steps only. Trials that go on with others are enqueued by `thaw`.

    Args:
        trial: The objective's trial.

    Example:
        >>> import optuna
        >>> from fisherbo import frozen
        >>> def objective(trial):
        ...     rate = trial.suggest_float("rate", 0.01, 1, log=True)
        ...     old = frozen(trial)
        ...     loss, begin = (1.0, 0) if old is None else saved[old.number]
        ...     for step in range(begin, 20):
        ...         loss *= 1 - rate
        ...         saved[trial.number] = loss, step + 1
        ...         trial.report(loss, step)
        ...         if trial.should_prune():
        ...             raise optuna.TrialPruned
        ...     return loss
        >>> saved = {}
        >>> study = optuna.create_study()
        >>> study.optimize(objective, n_trials=2)
    """
    if not isinstance(trial, Trial) or RESUME not in trial.user_attrs:
        return None
    number = trial.user_attrs[RESUME]
    trials = trial.study.get_trials(deepcopy=False)
    if not isinstance(number, int) or not 0 <= number < trial.number:
        raise InvalidInputError(
            f"user attribute {RESUME!r} of trial {trial.number} must be the number of an earlier "
            f"trial, got {number!r}; leave it to fisherbo.thaw"
        )
    _copy_reports(trials[number], trial)
    return trials[number]


def thaw(study: Study, resumable: Callable[[FrozenTrial], bool]) -> int | None:
    """Enqueue the pruned trial that promises more than a new trial, if there is one.

    Call it between trials, for example as a callback of ``study.optimize``; the objective asks
    `frozen` which trial it continues. Several workers may do so: a trial is enqueued once. At
    most one such trial waits at a time. It has the values that the old one has.

    Args:
        study: A study whose pruner is a `FisherPruner`, which compares the trials.
        resumable: Whether a pruned trial can be resumed, for example whether its checkpoint is
            still there.

    Returns:
        The number of the pruned trial; None if a new trial promises more.

    Raises:
        InvalidInputError: If the study has another pruner.

    Example:
        >>> import optuna
        >>> from fisherbo import FisherPruner, thaw
        >>> study = optuna.create_study(pruner=FisherPruner())
        >>> study.optimize(
        ...     lambda trial: trial.suggest_float("x", 0, 1),
        ...     n_trials=3,
        ...     callbacks=[lambda study, trial: thaw(study, lambda trial: True)],
        ... )
    """
    pruner = study.pruner
    if not isinstance(pruner, FisherPruner):
        raise InvalidInputError(
            f"the study's pruner must be a FisherPruner, got {type(pruner).__name__}; create the "
            "study with pruner=fisherbo.FisherPruner()"
        )
    trials = study.get_trials(deepcopy=False)
    if any(t.state == TrialState.WAITING and RESUME in t.user_attrs for t in trials):
        return None
    found = [trial for trial in _candidates(trials) if resumable(trial)]
    gains = [pruner.gain_of_resuming(study, trial) for trial in found[:MOST_FROZEN]]
    if not gains or max(gains) <= 0:
        return None
    best = found[gains.index(max(gains))]
    study.enqueue_trial(best.params, user_attrs={RESUME: best.number})
    _withdraw_copies(study, best.number)
    return best.number


def _candidates(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Pruned trials that none goes on with, or failed to, the most likely to improve first."""
    taken = {t.user_attrs[RESUME] for t in trials if RESUME in t.user_attrs}
    pruned = (t for t in trials if t.state == TrialState.PRUNED and t.number not in taken)
    return sorted(pruned, key=lambda t: -t.user_attrs.get(IMPROVEMENT_PROBABILITY, 0.0))


def _withdraw_copies(study: Study, number: int) -> None:
    """Withdraw all but the first of the trials that go on with one, if several workers added one.

    Each adds its own before it looks, so that the last of them sees all.
    """
    trials = study.get_trials(deepcopy=False)
    for copy in [t for t in trials if t.user_attrs.get(RESUME) == number][1:]:
        if copy.state == TrialState.WAITING:
            fail_waiting(study, copy)


def _copy_reports(old: FrozenTrial, trial: Trial) -> None:
    """Report what an earlier trial reported."""
    metrics = metrics_of(old)
    steps = sorted(
        {step for told in metrics.values() for step in told} | {*old.intermediate_values}
    )
    for step in steps:
        told = {name: values[step] for name, values in metrics.items() if step in values}
        if told:
            report(trial, told, step)
        else:
            trial.report(old.intermediate_values[step], step)
