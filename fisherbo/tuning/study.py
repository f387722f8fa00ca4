"""Tune an optimizer's hyperparameters on a training problem: the study and its loop.

The study's storage is all the coordination there is. `n_trials` is the total of the study: run
again, it goes on where it stopped; run by several processes on one database, they share it.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.sampler import optuna_private
from fisherbo.tuning.batches import as_source
from fisherbo.tuning.interrupt import check, deferred
from fisherbo.tuning.losses import Loss, LossFunction, as_loss
from fisherbo.tuning.objective import FAILURES, SCHEDULES, Budget, Fold, Objective, seeded
from fisherbo.tuning.progress import progress_bar
from fisherbo.tuning.pruners import as_pruner
from fisherbo.tuning.record import CONFIG
from fisherbo.tuning.result import TuningResult, count, result_of
from fisherbo.tuning.resume import Checkpoints
from fisherbo.tuning.samplers import TrialSampler, trial_sampler
from fisherbo.tuning.search_spaces import Setting, TunableOptimizer, as_optimizer
from fisherbo.tuning.storage import answering, open_storage, parse_url, shown

MAX_SECONDS = 60.0
WEIGHT_DECAY = 1e-5
POLL_SECONDS = 0.5


class _SurplusError(Exception):
    """Other workers took the last trials between this worker's count and its trial."""


def tune_training(
    build_model: Callable[[], nn.Module],
    data: Any,
    *,
    loss: str | LossFunction,
    likelihood: str | None = None,
    optimizer: str | TunableOptimizer = "kfac",
    n_trials: int = 30,
    target: float | None = None,
    validation: Any = None,
    offset: float = 0.0,
    batch_size: int | None = None,
    max_steps: int | None = None,
    max_seconds: float = MAX_SECONDS,
    weight_decay: float = WEIGHT_DECAY,
    storage: str | BaseStorage | None = None,
    study_name: str | None = None,
    sampler: str | BaseSampler = "fisher",
    pruner: str | BasePruner = "percentile",
    seed: int = 0,
    metric: str | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool = False,
    checkpoints: str | Path | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    schedule: str = "constant",
    timeout: float | None = None,
    folds: Sequence[Fold] = (),
) -> TuningResult:
    """Tune an optimizer for a model, a loss and data; returns the best run and its study.

    A trial is one training run. With a `target` its value is log10 of the steps to it (see
    `fisherbo.tuning.objective`), without one the loss at the end of the run. A run whose loss is
    not finite or explodes is a FAILED trial and the study goes on.

    Example:
        ```python
        result = tune_training(build_model, (x, y), loss="cross_entropy", validation=(x2, y2))
        result.best_params  # keyword arguments of fisherbo.KFAC
        result.best_model()  # the best trial's model, trained again
        result.make_optimizer(model)  # the best trial's optimizer for another model
        ```

    Args:
        build_model: returns a new model; called with torch's generator at `seed`.
        data: training data: tensors (x, y), a Dataset, a DataLoader or a list of batches (x, y).
        loss: "bernoulli", "cross_entropy", "squared_error", or a function (output, y) -> scalar,
            mean over rows.
        likelihood: "categorical", "bernoulli" or "normal": whose negative logarithm the loss is.
            K-FAC needs it with a loss of your own.
        optimizer: "kfac" (learning rate, damping, momentum), "kfac_full" and "ekfac" (factor decay
            and KL clip too), "natural", "adam", "sgd", or a `TunableOptimizer`.
        n_trials: total number of trials, including those that the study holds already.
        target: value of the metric at which a run ends.
        validation: data like `data`; its loss is the metric. Without it the training loss is.
        offset: subtracted from the loss to give the metric, for instance the entropy of the data.
        batch_size: rows a batch of tensors and Datasets; None is all rows up to 4096, else 512.
        max_steps: steps of a trial; None is the optimizer's own (300 for kfac, 6000 for others).
        max_seconds: CPU seconds of a trial.
        weight_decay: L2 penalty, the same for every trial.
        storage: Optuna storage, database URL or path of an SQLite file; None keeps it in memory.
        study_name: name in the storage; None is "tune-{optimizer}".
        sampler: "fisher", "gp", "tpe", "random" or an Optuna sampler.
        pruner: what ends runs early: "percentile", the worst quarter at their step (see
            `fisherbo.tuning.pruners`), "fisher", a `fisherbo.FisherPruner`, "none", or an Optuna
            pruner.
        seed: seed of weights, batches, optimizer and sampler.
        metric: what the metric is called; None names it by its kind.
        config: further values, of JSON's types, that must be the same for a study to be continued.
        progress: whether to draw a progress bar on standard error.
        checkpoints: folder for checkpoints of the running trials, shared by the workers. A trial
            that was interrupted or whose worker was killed then goes on in a new trial of the same
            parameters; without it such a trial is run again from the beginning. With a
            `fisherbo.FisherPruner`, trials that it stopped are resumed once they promise more
            than new ones; their files, 8 at most, are removed when the study has its trials.
        measure: function from the model to the metric, lower is better; None is the mean loss of
            the validation rows, or of the training rows without them.
        schedule: "constant" learning rate, or "linear": down to zero at the last step.
        timeout: seconds after which no trial is started; None is no limit.
        folds: further training and validation rows: a trial's value, without a `target`, is the
            mean over all folds. A trial is pruned by its run on `data` alone.

    Raises:
        InvalidInputError: an argument breaks its rule, or the study in the storage was made with
            other data, another optimizer or another budget.
        StorageError: the storage does not answer.
        KeyboardInterrupt: by Ctrl-C; what was done is kept, the running trial is given up.
    """
    tunable = as_optimizer(optimizer)
    name = study_name or f"tune-{tunable.name}"
    chosen = as_loss(loss, likelihood)
    _require(n_trials >= 1, f"n_trials must be at least 1, got {n_trials}")
    _require(seed >= 0, f"seed must be at least 0, got {seed}")
    _require_target(target)
    _require_likelihood(tunable, chosen)
    _require(
        schedule in SCHEDULES, f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}"
    )
    _require(
        timeout is None or timeout > 0, f"timeout must be > 0 seconds, got {timeout}; leave it out"
    )
    sampler_of_trials = trial_sampler(sampler, seed)
    budget = Budget(max_steps or tunable.max_steps, max_seconds)
    trial_pruner = as_pruner(pruner, budget.max_steps)
    held = None if validation is None else as_source(validation, batch_size=None, seed=seed)
    objective = Objective(
        build_model=build_model,
        optimizer=tunable,
        setting=Setting(chosen.likelihood, weight_decay, seed),
        loss=chosen,
        training=as_source(data, batch_size=batch_size, seed=seed),
        validation=held,
        budget=budget,
        offset=offset,
        target=target,
        checkpoints=None if checkpoints is None else Checkpoints.of(checkpoints, name),
        measured=measure,
        schedule=schedule,
        folds=() if target is not None else folds,
    )
    described = {
        **describe(objective),
        "metric": metric or default_metric(objective),
        "batch_size": batch_size,
        **(config or {}),
    }
    study = open_study(
        storage,
        name,
        described,
        trial_pruner,
        tunable.start,
    )
    result = run_study(
        study,
        objective,
        sampler_of_trials,
        n_trials,
        progress=progress,
        checkpoints=objective.checkpoints,
        timeout=timeout,
    )
    return replace(result, objective=objective)


def default_metric(objective: Objective) -> str:
    """Name of the number that trials report."""
    if objective.measured is not None:
        return "measure"
    if objective.validation is not None:
        return "validation loss"
    return "excess" if objective.offset else "training loss"


def describe(objective: Objective) -> dict[str, Any]:
    """What makes two studies of training runs the same study, in JSON's types.

    Builds the model and the optimizer once, so that what they refuse is refused before there is a
    study.
    """
    with seeded(objective.setting.seed):
        model = objective.build_model()
        objective.optimizer.make(model, objective.optimizer.middle(), objective.setting)
    budget = objective.budget
    optional = {
        "value": "loss at the end" if objective.target is None else None,
        "schedule": objective.schedule if objective.schedule != "constant" else None,
        "fixed": dict(objective.optimizer.fixed) or None,
        "folds": [fold.training.fingerprint for fold in objective.folds] or None,
    }
    return {
        **{name: value for name, value in optional.items() if value is not None},
        "optimizer": objective.optimizer.name,
        "space": objective.optimizer.describe(),
        "loss": objective.loss.name,
        "likelihood": objective.loss.likelihood,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "rows": objective.training.fingerprint,
        "validation_rows": objective.validation.fingerprint if objective.validation else None,
        "target": objective.target,
        "offset": round(objective.offset, 6),
        "max_steps": budget.max_steps,
        "max_seconds": budget.max_seconds,
        "weight_decay": objective.setting.weight_decay,
        "seed": objective.setting.seed,
    }


def open_study(
    where: str | BaseStorage | None,
    name: str,
    config: dict[str, Any],
    pruner: BasePruner,
    start: Mapping[str, Any] | None = None,
) -> optuna.Study:
    """The study of that name, new or as it was left, if it was made with the same config.

    A new study tries the point `start` first, if there is one.

    Raises:
        InvalidInputError: the study in the storage was made with another config.
        StorageError: the storage does not answer.
    """
    opened = open_storage(where)
    with answering(_name(opened)):
        study = optuna.create_study(
            storage=opened, study_name=name, load_if_exists=True, pruner=pruner
        )
        if _claim(study, config) and start is not None:
            study.enqueue_trial(dict(start))
    return study


def run_study(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    sampler: TrialSampler,
    n_trials: int,
    *,
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
    timeout: float | None = None,
) -> TuningResult:
    """Run trials until the study holds `n_trials`, together with other workers on the storage.

    No trial is begun after `timeout` seconds.

    Raises:
        StorageError: the storage stopped answering.
    """
    study.sampler = sampler
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    try:
        with (
            deferred(),
            answering(_name(optuna_private.storage_of(study))),
            progress_bar(study.study_name, n_trials, shown=progress) as update,
        ):
            claiming = _claiming(study, objective, n_trials)
            _loop(study, claiming, n_trials, update, checkpoints, deadline)
            result = result_of(study)
            if checkpoints is not None and result.counts.done >= n_trials:
                checkpoints.clear(study)
            return result
    except BaseException:
        sampler.give_up(study)
        raise


def _loop(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    n_trials: int,
    update: Callable[[TuningResult], None],
    checkpoints: Checkpoints | None,
    deadline: float,
) -> None:
    has_heartbeat = optuna_private.has_heartbeat(optuna_private.storage_of(study))
    while True:
        check()
        if has_heartbeat:
            _age_out(study)
        if checkpoints is not None:
            checkpoints.requeue(study)
        result = result_of(study)
        update(result)
        if time.monotonic() >= deadline:
            return
        if result.counts.done + result.counts.running < n_trials:
            if checkpoints is not None:
                checkpoints.thaw(study)
            study.optimize(objective, n_trials=1, catch=(*FAILURES, _SurplusError))
        elif result.counts.done < n_trials and has_heartbeat:
            time.sleep(POLL_SECONDS)  # others run the last trials; if they die, these age out
        else:
            return


def _claiming(
    study: optuna.Study, objective: Callable[[optuna.Trial], float], n_trials: int
) -> Callable[[optuna.Trial], float]:
    """The objective, given up at once if trials of lower numbers fill the total already."""

    def run(trial: optuna.Trial) -> float:
        trials = study.get_trials(deepcopy=False)
        counts = count([other for other in trials if other.number < trial.number])
        if counts.done + counts.running >= n_trials:
            raise _SurplusError(f"the study has its {n_trials} trials")
        return objective(trial)

    return run


def _age_out(study: optuna.Study) -> None:
    """Fail the trials of workers whose heartbeat stopped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _claim(study: optuna.Study, config: dict[str, Any]) -> bool:
    """Write the config into a new study, or pass if an old one was made with the same.

    Returns:
        Whether it is new.

    Raises:
        InvalidInputError: it was made with another, or by something else.
    """
    stored = study.user_attrs.get(CONFIG)
    if stored is None:
        _require(
            not study.get_trials(deepcopy=False),
            f"study {study.study_name!r} in this storage was not made by fisherbo tune; "
            "choose another study name",
        )
        study.set_user_attr(CONFIG, config)
        return True
    other = [key for key in {**stored, **config} if stored.get(key) != config.get(key)]
    if other:
        changes = "; ".join(
            f"{key} was {_brief(stored.get(key))}, is {_brief(config.get(key))}" for key in other
        )
        raise InvalidInputError(
            f"study {study.study_name!r} was made with another configuration: {changes}; "
            "run it as before or choose another study name"
        )
    return False


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _name(opened: BaseStorage) -> str:
    """Name of a storage for messages, without a password."""
    backend = getattr(opened, "_backend", opened)
    if isinstance(backend, RDBStorage):
        return shown(parse_url(backend.url))
    return type(opened).__name__


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvalidInputError(message)


def _require_target(target: float | None) -> None:
    _require(
        target is None or target > 0,
        f"target must be > 0, got {target}; shift the loss with offset so that it is",
    )


def _require_likelihood(tunable: TunableOptimizer, loss: Loss) -> None:
    _require(
        not tunable.needs_likelihood or loss.likelihood is not None,
        f"optimizer {tunable.name!r} needs the likelihood of the loss {loss.name!r}, got none; "
        'give likelihood="categorical", "bernoulli" or "normal"',
    )
