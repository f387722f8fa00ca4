"""`FisherSearchCV`: cross-validated search by Bayesian optimization, for scikit-learn.

It is scikit-learn's own `BaseSearchCV` from splitting to refitting, with candidates from a study.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from joblib import effective_n_jobs
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import Trial
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV, _search_estimator_has
from sklearn.model_selection._validation import (
    _insert_error_scores,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import Interval
from sklearn.utils._set_output import _safe_set_output
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel
from sklearn.utils.validation import _check_method_params

from fisherbo.estimators.evaluation import Fold, Protocol, means, scores, without_missing
from fisherbo.estimators.journal import (
    MOST_OBJECTIVES,
    Journal,
    as_pruner,
    described,
    fingerprint,
    open_journal,
)
from fisherbo.estimators.spaces import SearchSpace, as_space
from fisherbo.sampler.sampler import FisherSampler

_FEWEST_FIRST, _MOST_FIRST = 5, 10  # trials before the model is used
_FIRST_SHARE = 5  # a fifth: few in a short search, which must gain soon
_NO_FITS = "No fits were performed. Was the CV iterator empty? Were there no candidates?"


class FisherSearchCV(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """Search over hyperparameters by cross-validation and Bayesian optimization.

    A drop-in for `sklearn.model_selection.RandomizedSearchCV`: the same methods and attributes,
    ``study_`` besides. Candidates come from a `fisherbo.FisherSampler`.

    Args:
        estimator: what is tuned.
        param_distributions: dict from parameter names to lists of values, distributions of
            ``scipy.stats`` or of Optuna; or a list of such dicts, of which each candidate takes
            one, so that steps of a pipeline can bring their own parameters:
            ``[{"clf": [SVC()], "clf__C": loguniform(1e-2, 1e2)}, {"clf": [GaussianNB()]}]``.
        n_trials: candidates, with those that the storage holds already. A finite space that has no
            more points is gone through instead.
        scoring: as in scikit-learn. With several metrics that named by ``refit`` is improved; if it
            names none, all of them (up to 4) are, as several objectives.
        cv: as in scikit-learn. Splits are drawn once, the same for all candidates.
        refit: as in scikit-learn.
        n_jobs: fits run at the same time.
        batch_size: candidates chosen together; None: just enough for ``n_jobs``. Give a number for
            results that do not depend on the number of processors.
        storage: Optuna storage, database URL or path of an SQLite file. A search with the same
            data, space and estimator goes on where an earlier one stopped; None keeps nothing.
        study_name: name in the storage; None names it after the configuration, which nested
            cross-validation needs.
        timeout: seconds after which no further candidate is begun.
        pruning: True: after each fold a candidate that the folds so far show to be worse than the
            best one is given up (Wilcoxon signed-rank test; at the earliest after three folds); or
            a pruner of Optuna. Its mean score is NaN, its ``pruned`` True. A fold is trained in
            full or not at all, as the refit is.
        error_score: as in scikit-learn.
        return_train_score: as in scikit-learn.
        random_state: seed of the sampler.
        sampler: sampler of Optuna in place of ours, which uses its model after a fifth of
            ``n_trials``, at least 5 and at most 10; it is copied.
        verbose: as in scikit-learn.

    Attributes:
        study_: the Optuna study; parameters that trials hold in another form are named
            ``"C[index]"`` or ``"C[quantile]"``.
        cv_results_: as in scikit-learn, in the order of trials; ``pruned`` with pruning.
        best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_,
            multimetric_, classes_, n_features_in_, feature_names_in_: as in scikit-learn.

    Example:
        >>> from scipy.stats import loguniform
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.svm import SVC
        >>> X, y = load_iris(return_X_y=True)
        >>> search = FisherSearchCV(SVC(), {"C": loguniform(1e-3, 1e3)}, n_trials=12)
        >>> bool(search.fit(X, y).best_score_ > 0.95)
        True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "param_distributions": [dict, list],
        "n_trials": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "storage": [str, BaseStorage, None],
        "study_name": [str, None],
        "timeout": [Interval(Real, 0, None, closed="neither"), None],
        "pruning": ["boolean", BasePruner],
        "random_state": ["random_state"],
        "sampler": [BaseSampler, None],
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_trials: int = 50,
        scoring: Any = None,
        cv: Any = None,
        refit: Any = True,
        n_jobs: int | None = None,
        batch_size: int | None = None,
        storage: str | BaseStorage | None = None,
        study_name: str | None = None,
        timeout: float | None = None,
        pruning: bool | BasePruner = False,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        random_state: Any = None,
        sampler: BaseSampler | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.n_trials = n_trials
        self.scoring = scoring
        self.cv = cv
        self.refit = refit
        self.n_jobs = n_jobs
        self.batch_size = batch_size
        self.storage = storage
        self.study_name = study_name
        self.timeout = timeout
        self.pruning = pruning
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.random_state = random_state
        self.sampler = sampler
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def fit(self, X: Any, y: Any = None, **params: Any) -> FisherSearchCV:
        """Search, then refit the best candidate on all data.

        Args:
            X: rows; anything that the estimator takes.
            y: targets.
            **params: passed to the estimator's ``fit``, the scorer and the splitter, as
                scikit-learn's searches do.

        Raises:
            ValueError: the space is empty, a parameter is misspelt, or every fit failed.
            TypeError: a value of the space is neither a list nor a distribution.
            InvalidInputError: ``study_name`` is the study of another configuration.
        """
        begin = time.monotonic()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weight = params.get("sample_weight")
        seen = {"X": X, "y": y, "metadata": None if weight is None else {"sample_weight": weight}}
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        root.call_on_fit_task_begin(estimator=self, **seen)

        space = self._space()
        protocol = self._protocol(X, y, scorers, routed)
        self.n_splits_ = len(protocol.splits)
        journal = self._journal(space, protocol, routed)
        self._search(journal, protocol, root, begin)
        results, first = self._results(journal)
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            refit_metric = self.refit
        self._choose(results, refit_metric)
        if self.refit:
            self._refit(protocol, root, seen)
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        self.cv_results_ = results
        self.study_ = journal.study
        root.call_on_fit_task_end(estimator=self, **seen)
        return self

    @available_if(_search_estimator_has("set_output"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def set_output(self, *, transform: str | None = None) -> FisherSearchCV:
        """Have the estimator's transforms give "pandas", "polars" or "default" containers."""
        _safe_set_output(self.estimator, transform=transform)
        if hasattr(self, "best_estimator_"):
            _safe_set_output(self.best_estimator_, transform=transform)
        return self

    def _space(self) -> SearchSpace:
        """The space; each of its branches is tried on the estimator, whose error is the user's."""
        space = as_space(self.param_distributions)
        if not space.branches:
            raise ValueError(_NO_FITS)
        for branch in space.branches:
            clone(self.estimator).set_params(**clone(branch.first(), safe=False))
        return space

    def _protocol(self, X: Any, y: Any, scorers: Any, routed: Any) -> Protocol:
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        told = cv.get_n_splits(X, y, **routed.splitter.split)
        splits = list(cv.split(X, y, **routed.splitter.split))
        if len(splits) != told:
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. "
                f"Expected {told} splits, got {len(splits)}"
            )
        if not splits:
            raise ValueError(_NO_FITS)
        options = {
            "scorer": scorers,
            "fit_params": routed.estimator.fit,
            "score_params": routed.scorer.score,
            "return_train_score": self.return_train_score,
            "return_times": True,
            "error_score": self.error_score,
            "verbose": self.verbose,
        }
        return Protocol(self, clone(self.estimator), X, y, splits, options)

    def _journal(self, space: SearchSpace, protocol: Protocol, routed: Any) -> Journal:
        metrics = self._objectives()
        if self.pruning is not False and metrics is not None and len(metrics) > 1:
            raise ValueError(
                f"pruning needs one metric, got {len(metrics)}; name it by refit, or set "
                "pruning=False"
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        first = min(max(self.n_trials // _FIRST_SHARE, _FEWEST_FIRST), _MOST_FIRST)
        own = FisherSampler(seed=seed, n_startup_trials=first)
        sampler = own if self.sampler is None else deepcopy(self.sampler)
        config = {} if self.storage is None else self._config(space, protocol, routed)
        pruner = as_pruner(self.pruning)
        return open_journal(self.storage, self.study_name, space, metrics, sampler, pruner, config)

    def _objectives(self) -> tuple[str, ...] | None:
        """Metrics that the study improves; None where there is one score."""
        if isinstance(self.refit, str):
            return (self.refit,)
        if callable(self.scoring) or self.scoring is None or isinstance(self.scoring, str):
            return None
        return tuple(self.scoring)[:MOST_OBJECTIVES]

    def _config(self, space: SearchSpace, protocol: Protocol, routed: Any) -> dict[str, Any]:
        """What makes two searches the same search."""
        given = {
            k: dict(v.items())
            for k, v in (("fit", routed.estimator.fit), ("score", routed.scorer.score))
        }
        return {
            "data": fingerprint((protocol.X, protocol.y, protocol.splits, given)),
            "estimator": described({"": self.estimator, **self.estimator.get_params()}),
            "space": space.describe(),
            "scoring": described({"scoring": self.scoring}),
            "objectives": list(self._objectives() or ()),
            "error_score": str(self.error_score),
            "train_score": self.return_train_score,
        }

    def _search(self, journal: Journal, protocol: Protocol, root: Any, begin: float) -> None:
        """Run trials until there are enough of them, time is up or a callback says so."""
        total = self._total(journal)
        size = self._batch_size()
        left = total - len(journal.finished())
        context = root.subcontext(task_name="search", max_subtasks=max(1, -(-left // size)))
        context.call_on_fit_task_begin(estimator=self)
        deadline = math.inf if self.timeout is None else begin + self.timeout
        stop = False
        with Parallel(n_jobs=self.n_jobs) as parallel:
            while left > 0 and not stop:
                stop = self._batch(journal, protocol, parallel, context, min(size, left))
                left = total - len(journal.finished())
                stop = stop or time.monotonic() >= deadline
        context.call_on_fit_task_end(estimator=self)

    def _total(self, journal: Journal) -> int:
        """Trials to come to; all points of a finite space are enqueued if there are no more."""
        size = journal.space.size
        if size > self.n_trials:
            return self.n_trials
        if size < self.n_trials:
            _warn_small(int(size), self.n_trials)
        if not journal.study.get_trials(deepcopy=False):
            for point in journal.space.grid():
                journal.study.enqueue_trial(point)
        return int(size)

    def _batch_size(self) -> int:
        if self.batch_size is not None:
            return self.batch_size
        jobs = effective_n_jobs(self.n_jobs)
        return jobs if self.pruning is not False else max(1, -(-jobs // self.n_splits_))

    def _batch(
        self, journal: Journal, protocol: Protocol, parallel: Parallel, parent: Any, count: int
    ) -> bool:
        """Ask for candidates, evaluate and tell them; whether a callback wants to stop."""
        context = parent.subcontext(
            task_name="batch", max_subtasks=count * self.n_splits_, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self)
        asked = journal.ask(count)
        trials = [trial for trial, _ in asked]
        candidates = [params for _, params in asked]
        by_fold = self.pruning is not False
        evaluate = protocol.evaluate_by_fold if by_fold else protocol.evaluate
        if self.verbose > 0:
            print(
                f"Fitting {self.n_splits_} folds for each of {count} candidates, "
                f"totalling {count * self.n_splits_} fits"
            )
        try:
            records = evaluate(parallel, candidates, context, self._ended(trials))
        except BaseException:
            journal.give_up(trials)
            raise
        for trial, record in zip(trials, records, strict=True):
            journal.tell(trial, record, whole=len(record) == self.n_splits_)
        return bool(context.call_on_fit_task_end(estimator=self))

    def _ended(self, trials: Sequence[Trial]) -> Callable[[int, list[Fold]], bool]:
        """Whether a candidate is given up after its folds so far: pruned, or without a score."""
        metrics = self._objectives()

        def ended(index: int, record: list[Fold]) -> bool:
            if not math.isfinite(means(record, metrics)[0]):
                return True
            trials[index].report(scores(record, metrics)[0][-1], step=len(record) - 1)
            return len(record) < self.n_splits_ and trials[index].should_prune()

        return ended

    def _results(self, journal: Journal) -> tuple[dict[str, Any], Any]:
        """``cv_results_`` and the first test score, which tells whether there are several."""
        candidates, out = journal.results(self.n_splits_)
        if not out:
            raise ValueError(_NO_FITS)
        _warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(out, self.error_score)
        more = {"pruned": journal.pruned()} if self.pruning is not False else {}
        results = self._format_results(candidates, self.n_splits_, out, more)
        results = without_missing(results, np.array(journal.folds_run()), self.n_splits_)
        return results, out[0]["test_scores"]

    def _choose(self, results: dict[str, Any], refit_metric: Any) -> None:
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def _refit(self, protocol: Protocol, root: Any, seen: dict[str, Any]) -> None:
        best = clone(protocol.estimator).set_params(**clone(self.best_params_, safe=False))
        self.best_estimator_ = best
        context = root.subcontext(task_name="refit-with-best-params")
        targets = () if protocol.y is None else (protocol.y,)
        with context.propagate_callback_context(best):
            context.call_on_fit_task_begin(estimator=self, **seen)
            begin = time.time()
            best.fit(protocol.X, *targets, **protocol.options["fit_params"])
            self.refit_time_ = time.time() - begin
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        context.call_on_fit_task_end(estimator=self, **seen)


def _warn_small(size: int, n_trials: int) -> None:
    warnings.warn(
        f"The total space of parameters {size} is smaller than n_trials={n_trials}. Running "
        f"{size} iterations. For exhaustive searches, use GridSearchCV.",
        UserWarning,
        stacklevel=4,
    )
