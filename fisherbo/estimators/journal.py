"""The Optuna study of a search: opened or gone on with, asked in batches, told, and read back.

Everything that `cv_results_` needs lies in the trials, so that the results of a search that was
interrupted are read as those of one that was not.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.estimators.digest import digest
from fisherbo.estimators.evaluation import Fold, completed, means, plain
from fisherbo.estimators.spaces import Params, SearchSpace
from fisherbo.sampler import optuna_private
from fisherbo.tuning.result import CONFIG
from fisherbo.tuning.storage import open_storage

FOLDS = "folds"
MOST_OBJECTIVES = 4
THREE_OF_THREE = 0.13  # p-value of three folds that are all worse is 1/8
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, eq=False)
class SearchJournal:
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

    def state(self) -> str:
        """Which study this is: how far it is, or in what it is another than those there are."""
        name, done = self.study.study_name, len(self.finished())
        if done:
            return f"Going on with study {name!r}, which has {done} candidates"
        differing = _nearest(self.study)
        new = f", the first with this {' and '.join(differing)}" if differing else ""
        return f"Beginning study {name!r}{new}"

    def missing(self) -> list[Params]:
        """Points of a finite space, as trials hold them, that no finished trial is."""
        done = {self.space.key(trial.params) for trial in self.finished()}
        return [point for point in self.space.grid() if self.space.key(point) not in done]

    def enqueue_missing(self) -> None:
        """Have the points of a finite space that are missing be the next ones.

        A trial that is running counts as missing: the process that ran it may be dead.
        """
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        fixed = [optuna_private.enqueued_values(trial) for trial in waiting]
        for point in self.missing():
            if point not in fixed:
                self.study.enqueue_trial(point)

    def ask(self, count: int) -> list[tuple[Trial, Params]]:
        """New trials with the estimator's parameters; each sees the others as running."""
        trials: list[Trial] = []
        try:
            for _ in range(count):
                trials.append(_ask(self.study))
                self.space.suggest(trials[-1])
        except BaseException:
            self.give_up(trials)
            raise
        return [(trial, self.space.decode(trial.params)) for trial in trials]

    @contextmanager
    def alive(self, trials: Sequence[Trial]) -> Iterator[None]:
        """Keep the trials' heartbeats, by which others know that this process is not dead."""
        with ExitStack() as beating:
            for trial in trials:
                beating.enter_context(optuna_private.heartbeat(self.study, trial))
            yield

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
        storage = optuna_private.storage_of(self.study)
        for trial in trials:
            identity = optuna_private.trial_id(trial)
            if not storage.get_trial(identity).state.is_finished():
                storage.set_trial_state_values(identity, TrialState.FAIL)

    @contextmanager
    def stoppable(self) -> Iterator[threading.Event]:
        """Have `Study.stop` set an event; samplers of finite spaces call it after the last point.

        Optuna allows it within `Study.optimize` alone.
        """
        stopped = threading.Event()
        vars(self.study)["stop"] = stopped.set
        try:
            yield stopped
        finally:
            del vars(self.study)["stop"]

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
    config: dict[str, str],
) -> SearchJournal:
    """The study of this configuration, new or as it was left.

    Without a name it is called after the configuration, so that searches on other data, those of
    nested cross-validation among them, have studies of their own.

    Args:
        storage: what to open; None for memory.
        name: of the study.
        space: what is searched.
        metrics: names of the objectives.
        sampler: of the study.
        pruner: of the study.
        config: digests of all that decides a score.

    Raises:
        InvalidInputError: the study of that name was made with another configuration.
        StorageError: the storage does not answer.
    """
    if name is None and storage is not None:
        name = f"search-{digest(config)[0][:12]}"
    with quiet():
        study = optuna.create_study(
            storage=open_storage(storage),
            study_name=name,
            directions=["maximize"] * len(metrics or ("score",)),
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        _claim(study, config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)  # of processes that were killed
    return SearchJournal(study, space, metrics)


def as_pruner(pruning: bool | BasePruner) -> BasePruner:
    """The pruner that `pruning` stands for."""
    if isinstance(pruning, BasePruner):
        return pruning
    if not pruning:
        return NopPruner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return WilcoxonPruner(p_threshold=THREE_OF_THREE)


@contextmanager
def quiet() -> Iterator[None]:
    """Run a block without Optuna's notes on studies and trials; warnings stay."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _ask(study: optuna.Study) -> Trial:
    with warnings.catch_warnings():  # `SearchJournal.alive` is what keeps the heartbeat
        warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)
        return study.ask()


def _claim(study: optuna.Study, config: dict[str, str]) -> None:
    stored = study.user_attrs.get(CONFIG)
    if stored is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(CONFIG, config)
    elif stored != config:
        raise InvalidInputError(
            f"study {study.study_name!r} in this storage was made with other "
            f"{', '.join(_differing(stored or {}, config))}; "
            "choose another study_name, or leave it out: then every configuration has its own"
        )


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [part for part in {**one, **other} if one.get(part) != other.get(part)]


def _nearest(study: optuna.Study) -> list[str]:
    """Parts of the configuration that differ from those of the study that differs in the fewest."""
    config = study.user_attrs.get(CONFIG, {})
    summaries = optuna.get_all_study_summaries(
        optuna_private.storage_of(study), include_best_trial=False
    )
    others = [other.user_attrs.get(CONFIG) for other in summaries]
    found = [_differing(other, config) for other in others if isinstance(other, dict)]
    return min(filter(None, found), key=len, default=[])
