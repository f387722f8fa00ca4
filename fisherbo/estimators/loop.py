"""The loop of a search: ask for candidates, evaluate them, tell their scores, until it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from optuna.trial import Trial
from sklearn.utils.parallel import Parallel

from fisherbo.estimators.evaluation import Fold, Protocol, means, scores
from fisherbo.estimators.journal import SearchJournal
from fisherbo.estimators.spaces import Params
from fisherbo.sampler.pruner import FisherPruner, should_prune
from fisherbo.sampler.reports import report
from fisherbo.tuning.interrupt import deferred


@dataclass(frozen=True, eq=False)
class Loop:
    """A search that is ready to run.

    Attributes:
        caller: the search, as callbacks want it.
        journal: the study.
        protocol: what every candidate is put through.
        n_trials: candidates to come to.
        batch_size: candidates chosen together; None: just enough for `n_jobs`.
        n_jobs: fits run at the same time.
        by_fold: whether candidates may be pruned after each fold.
        deadline: time of `time.monotonic` after which no candidate is begun.
        verbose: whether to print each batch.
    """

    caller: Any
    journal: SearchJournal
    protocol: Protocol
    n_trials: int
    batch_size: int | None
    n_jobs: int | None
    by_fold: bool
    deadline: float
    verbose: bool

    def run(self, root: Any) -> None:
        """Run trials until there are enough, time is up, or a callback or the sampler says so."""
        if self._is_finite():
            self.journal.enqueue_missing()
        size = self._size()
        left = self._left()
        context = root.subcontext(task_name="search", max_subtasks=max(1, -(-left // size)))
        context.call_on_fit_task_begin(estimator=self.caller)
        stop = False
        with Parallel(n_jobs=self.n_jobs) as parallel, self.journal.stoppable() as stopped:
            while left > 0 and not stop:
                stop = self._batch(parallel, context, min(size, left))
                left = self._left()
                stop = stop or stopped.is_set() or time.monotonic() >= self.deadline
        context.call_on_fit_task_end(estimator=self.caller)

    def _is_finite(self) -> bool:
        """Whether all points of the space are to be candidates."""
        return self.journal.space.size <= self.n_trials

    def _left(self) -> int:
        """Candidates still to be evaluated."""
        if self._is_finite():
            return len(self.journal.missing())
        return self.n_trials - len(self.journal.finished())

    def _size(self) -> int:
        if self.batch_size is not None:
            return self.batch_size
        jobs = effective_n_jobs(self.n_jobs)
        return jobs if self.by_fold else max(1, -(-jobs // len(self.protocol.splits)))

    def _batch(self, parallel: Parallel, parent: Any, count: int) -> bool:
        """Ask for candidates, evaluate and tell them; whether a callback wants to stop."""
        n_splits = len(self.protocol.splits)
        context = parent.subcontext(
            task_name="batch", max_subtasks=count * n_splits, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self.caller)
        if self.verbose:
            print(
                f"Fitting {n_splits} folds for each of {count} candidates, "
                f"totalling {count * n_splits} fits"
            )
        asked: list[tuple[Trial, Params]] = []
        try:
            with deferred():
                asked = self.journal.ask(count)
            records = self._evaluated(parallel, context, asked)
            with deferred():
                for (trial, _), record in zip(asked, records, strict=True):
                    self.journal.tell(trial, record, whole=len(record) == n_splits)
        except BaseException:
            self.journal.give_up([trial for trial, _ in asked])
            raise
        return bool(context.call_on_fit_task_end(estimator=self.caller))

    def _evaluated(
        self, parallel: Parallel, context: Any, asked: Sequence[tuple[Trial, Params]]
    ) -> list[list[Fold]]:
        trials = [trial for trial, _ in asked]
        candidates = [params for _, params in asked]
        evaluate = self.protocol.evaluate_by_fold if self.by_fold else self.protocol.evaluate
        with self.journal.alive(trials):
            return evaluate(parallel, candidates, context, self._ended(trials))

    def _ended(self, trials: Sequence[Trial]) -> Callable[[int, list[Fold]], bool]:
        """Whether a candidate is given up after its folds so far: pruned, or without a score."""
        metrics, pruner = self.journal.metrics, self.journal.study.pruner

        def ended(index: int, record: list[Fold]) -> bool:
            trial, step = trials[index], len(record) - 1
            found = means(record, metrics)
            if not np.isfinite(found).all():
                return True
            if isinstance(pruner, FisherPruner):  # predicts the mean of all folds
                report(trial, dict(zip(metrics or ("score",), found, strict=True)), step)
            else:
                trial.report(scores(record, metrics)[0][-1], step)
            return len(record) < len(self.protocol.splits) and should_prune(trial)

        return ended
