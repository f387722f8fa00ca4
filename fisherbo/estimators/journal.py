"""The Optuna study of a search: opened or gone on with, asked in batches, told, and read back.

Everything that `cv_results_` needs lies in the trials, so that the results of a search that was
interrupted are read as those of one that was not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.estimators.evaluation import Fold, completed, means, plain
from fisherbo.estimators.spaces import Params, SearchSpace
from fisherbo.tuning.result import CONFIG
from fisherbo.tuning.storage import open_storage

FOLDS = "folds"
MOST_OBJECTIVES = 4
THREE_OF_THREE = 0.13  # p-value of three folds that are all worse is 1/8
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, eq=False)
class Journal:
    """A study with the space that its trials are points of.

    Attributes:
        metrics: names of the scores that are the study's objectives; None where there is one score.
    """

    study: optuna.Study
    space: SearchSpace
    metrics: tuple[str, ...] | None

    def finished(self) -> list[FrozenTrial]:
        """Trials whose candidates were evaluated, in the order of their numbers."""
        trials = self.study.get_trials(deepcopy=False, states=_FINISHED)
        return [trial for trial in trials if FOLDS in trial.user_attrs]

    def ask(self, count: int) -> list[tuple[Trial, Params]]:
        """New trials with the estimator's parameters; each sees the others as running."""
        trials: list[Trial] = []
        try:
            for _ in range(count):
                trials.append(self.study.ask())
                self.space.suggest(trials[-1])
        except BaseException:
            self.give_up(trials)
            raise
        return [(trial, self.space.decode(trial.params)) for trial in trials]

    def tell(self, trial: Trial, record: Sequence[Fold], *, whole: bool) -> None:
        """End a trial: complete, pruned where a fold was not run, failed where one has no score."""
        trial.set_user_attr(FOLDS, plain(record))
        values = means(record, self.metrics)
        if not np.isfinite(values).all():
            self.study.tell(trial, state=TrialState.FAIL)
        elif whole:
            self.study.tell(trial, values)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def give_up(self, trials: Sequence[Trial]) -> None:
        """End trials that an error or Ctrl-C cut short, from which nothing is learned."""
        for trial in trials:
            if FOLDS not in trial.user_attrs:
                self.study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def results(self, n_splits: int) -> tuple[list[Params], list[Fold]]:
        """Candidates, and their folds one after the other; `completed` where some were not run."""
        trials = self.finished()
        records = [completed(trial.user_attrs[FOLDS], n_splits) for trial in trials]
        folds = [dict(fold) for record in records for fold in record]
        return [self.space.decode(trial.params) for trial in trials], folds

    def folds_run(self) -> list[int]:
        """Number of folds of each candidate."""
        return [len(trial.user_attrs[FOLDS]) for trial in self.finished()]

    def pruned(self) -> list[bool]:
        """Whether each candidate was pruned."""
        return [trial.state == TrialState.PRUNED for trial in self.finished()]


def open_journal(
    storage: str | BaseStorage | None,
    name: str | None,
    space: SearchSpace,
    metrics: tuple[str, ...] | None,
    sampler: BaseSampler,
    pruner: BasePruner,
    config: dict[str, Any],
) -> Journal:
    """The study of this configuration, new or as it was left.

    Without a name it is called after the configuration, so that searches on other data, those of
    nested cross-validation among them, have studies of their own.

    Raises:
        InvalidInputError: the study of that name was made with another configuration.
        StorageError: the storage does not answer.
    """
    if name is None and storage is not None:
        name = f"search-{joblib.hash(sorted(config.items()))[:12]}"
    with quiet():
        study = optuna.create_study(
            storage=open_storage(storage, heartbeat=False),
            study_name=name,
            directions=["maximize"] * len(metrics or ("score",)),
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
    _claim(study, config)
    return Journal(study, space, metrics)


def as_pruner(pruning: bool | BasePruner) -> BasePruner:
    """The pruner that `pruning` stands for."""
    if isinstance(pruning, BasePruner):
        return pruning
    if not pruning:
        return NopPruner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return WilcoxonPruner(p_threshold=THREE_OF_THREE)


def fingerprint(data: Any) -> str:
    """Digest of arrays, frames and the like."""
    return str(joblib.hash(data))


def described(parameters: Mapping[str, Any]) -> str:
    """Parameters of an estimator as text that is the same in every process."""
    words = [f"{name}={value!r}" for name, value in sorted(parameters.items())]
    return re.sub(r" at 0x[0-9a-f]+", "", "; ".join(words))


@contextmanager
def quiet() -> Iterator[None]:
    """Run a block without Optuna's notes on studies and trials; warnings stay."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _claim(study: optuna.Study, config: dict[str, Any]) -> None:
    stored = study.user_attrs.get(CONFIG)
    if stored is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(CONFIG, config)
    elif stored != config:
        known = stored or {}
        other = [k for k in {**known, **config} if known.get(k) != config.get(k)]
        raise InvalidInputError(
            f"study {study.study_name!r} in this storage was made with other {', '.join(other)}; "
            "choose another study_name, or leave it out: then every configuration has its own"
        )
