"""`FisherSearchCV`: cross-validated search by Bayesian optimization, for scikit-learn.

It is scikit-learn's own `BaseSearchCV` from splitting to refitting, with candidates from a study.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Mapping
from copy import deepcopy
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils.metaestimators import available_if

from fisherbo.estimators.configuration import configuration
from fisherbo.estimators.evaluation import Protocol, with_error_scores, without_missing
from fisherbo.estimators.journal import (
    MOST_OBJECTIVES,
    SearchJournal,
    as_pruner,
    open_journal,
)
from fisherbo.estimators.loop import Loop
from fisherbo.estimators.ready import DEFAULT, ready_space, ready_start
from fisherbo.estimators.sklearn_private import (
    CALLBACKS,
    BaseSearchCV,
    Interval,
    StrOptions,
    _fit_context,
    _warn_or_raise_about_fit_failures,
)
from fisherbo.estimators.spaces import SearchSpace, as_space
from fisherbo.sampler.pruner import FisherPruner
from fisherbo.sampler.sampler import FisherSampler

_FEWEST_FIRST, _MOST_FIRST = 5, 10  # trials before the model is used
_FIRST_SHARE = 5  # a fifth: few in a short search, which must gain soon
_LEARNED = frozenset(
    "best_estimator_ best_index_ best_params_ best_score_ cv_results_ feature_names_in_ "
    "multimetric_ refit_time_ scorer_ study_".split()
)
_NO_FITS = "No fits were performed. Was the CV iterator empty? Were there no candidates?"


class FisherSearchCV(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """Search over hyperparameters by cross-validation and Bayesian optimization.

    A drop-in for `sklearn.model_selection.RandomizedSearchCV`: it has the same methods and
    attributes, and ``study_``. Candidates come from a `fisherbo.FisherSampler`.

    Args:
        estimator: what is tuned.
        param_distributions: dict from parameter names to lists of values, distributions of
            ``scipy.stats`` or of Optuna; or a list of such dicts, of which each candidate takes
            one, so that steps of a pipeline can bring their own parameters:
            ``[{"clf": [SVC()], "clf__C": loguniform(1e-2, 1e2)}, {"clf": [GaussianNB()]}]``. Or
            "default": the ready space of a common model, by its class, as `fisherbo.suggest` has
            it; of a pipeline, that of the last step. The library's defaults are tried first.
        n_trials: number of candidates, including those that the storage holds already. A finite
            space of no more points is evaluated completely instead.
        scoring: as in scikit-learn. Of several metrics, the one that ``refit`` names is optimized;
            if it names none, all of them (up to 4) are, as several objectives.
        cv: as in scikit-learn. Splits are drawn once and are the same for all candidates.
        refit: as in scikit-learn.
        n_jobs: number of fits that run at the same time.
        batch_size: number of candidates chosen together; None chooses just enough for ``n_jobs``.
            Give a number if results must not depend on the number of processors.
        storage: Optuna storage, database URL or path of an SQLite file; None keeps nothing. A
            search continues an earlier one if nothing that decides a score has changed: data,
            splits, space, estimator and scoring, including the code of functions and classes and
            the values that they capture. Otherwise it begins a study of its own. If one of these
            cannot be compared, such as a lock, a warning says so, and no search can continue this
            one. With `verbose` the name of the study is printed.
        study_name: name in the storage; a study of another configuration is refused. None derives
            the name from the configuration, as nested cross-validation needs it.
        timeout: seconds after which no further candidate is started.
        pruning: True abandons a candidate once its folds so far show that it is worse than the best
            one (Wilcoxon signed-rank test, after three folds at the earliest); or an Optuna pruner,
            which is told the score of each fold. A `fisherbo.FisherPruner` is told the mean of the
            folds so far, and serves several metrics too. The mean score of an abandoned
            candidate is NaN, and its ``pruned`` is True. A fold is never trained in part, and
            neither is the refit.
        error_score: as in scikit-learn.
        return_train_score: as in scikit-learn.
        random_state: seed of the sampler.
        sampler: Optuna sampler in place of ours. It is copied, and sees the parameters by the names
            of ``study_``. Ours uses its model after a fifth of ``n_trials``, but after 5 trials at
            the earliest and 10 at the latest.
        verbose: as in scikit-learn.

    Attributes:
        study_: the Optuna study. A parameter that trials hold in another form is named
            ``"C[index]"`` or ``"C[quantile]"``. After Ctrl-C or an error the study is available
            too, with ``cv_results_``, ``best_params_`` and ``best_score_`` of the candidates until
            then.
        cv_results_: as in scikit-learn, in the order of trials; ``pruned`` with pruning.
        best_estimator_, best_score_, best_params_, best_index_, scorer_: as in scikit-learn; so are
            ``n_splits_``, ``refit_time_``, ``multimetric_``, ``classes_``, ``n_features_in_`` and
            ``feature_names_in_``.

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
        "param_distributions": [dict, list, StrOptions({DEFAULT})],
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
            ValueError: the space is empty, a parameter is misspelt, or every fit failed; or
                there is no ready space of the estimator.
            TypeError: a value of the space is neither a list nor a distribution.
            InvalidInputError: ``study_name`` is the study of another configuration.
        """
        begin = time.monotonic()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(params)
        weight = params.get("sample_weight")
        seen = {"X": X, "y": y, "metadata": None if weight is None else {"sample_weight": weight}}
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        root.call_on_fit_task_begin(estimator=self, **seen)

        space = self._space()
        protocol = self._protocol(X, y, scorers, routed)
        self.n_splits_ = len(protocol.splits)
        journal = self._journal(space, protocol)
        loop = self._loop(journal, protocol, begin)
        self._forget()
        try:
            loop.run(root)
        except BaseException:
            self._keep(journal, refit_metric)
            raise
        self._publish(journal, refit_metric)
        if self.refit:
            self._refit(protocol, root, seen)
        self.scorer_ = self._scorers(scorers)
        root.call_on_fit_task_end(estimator=self, **seen)
        return self

    @available_if(lambda search: hasattr(search.estimator, "set_output"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def set_output(self, *, transform: str | None = None) -> FisherSearchCV:
        """Have the estimator's transforms give "pandas", "polars" or "default" containers."""
        self.estimator.set_output(transform=transform)
        if hasattr(self, "best_estimator_"):
            self.best_estimator_.set_output(transform=transform)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_" if self.refit else "cv_results_")

    def _space(self) -> SearchSpace:
        """The space; each of its branches is tried on the estimator, whose error is the user's."""
        space = as_space(self._distributions())
        if not space.branches:
            raise ValueError(_NO_FITS)
        for branch in space.branches:
            clone(self.estimator).set_params(**clone(branch.first(), safe=False))
        return space

    def _distributions(self) -> Any:
        return ready_space(self.estimator) if self._is_ready() else self.param_distributions

    def _is_ready(self) -> bool:
        return isinstance(self.param_distributions, str)  # which can only be "default"

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
        caller = self if getattr(self, CALLBACKS, None) else None
        return Protocol(caller, clone(self.estimator), X, y, splits, options, self._check_scores)

    def _journal(self, space: SearchSpace, protocol: Protocol) -> SearchJournal:
        metrics = self._objectives()
        several = metrics is not None and len(metrics) > 1
        if several and self.pruning is not False and not isinstance(self.pruning, FisherPruner):
            raise ValueError(
                f"pruning needs one metric, got {len(metrics or ())}; name it by refit, give "
                "pruning=fisherbo.FisherPruner(), or set pruning=False"
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        first = min(max(self.n_trials // _FIRST_SHARE, _FEWEST_FIRST), _MOST_FIRST)
        own = FisherSampler(seed=seed, n_startup_trials=first)
        sampler = own if self.sampler is None else deepcopy(self.sampler)
        config = {}
        if self.storage is not None:
            config = configuration(protocol, space, self._distributions(), self.scoring, metrics)
        pruner = as_pruner(self.pruning)
        journal = open_journal(
            self.storage, self.study_name, space, metrics, sampler, pruner, config
        )
        if self._is_ready() and not journal.study.get_trials(deepcopy=False):
            journal.study.enqueue_trial(ready_start(self.estimator, space))
        if self.storage is not None and self.verbose > 0:
            print(journal.state())
        return journal

    def _objectives(self) -> tuple[str, ...] | None:
        """Metrics that the study improves; None where there is one score."""
        if isinstance(self.refit, str):
            return (self.refit,)
        if callable(self.scoring) or self.scoring is None or isinstance(self.scoring, str):
            return None
        return tuple(self.scoring)[:MOST_OBJECTIVES]

    def _loop(self, journal: SearchJournal, protocol: Protocol, begin: float) -> Loop:
        if journal.space.size < self.n_trials:
            _warn_small(int(journal.space.size), self.n_trials)
        return Loop(
            self,
            journal,
            protocol,
            n_trials=self.n_trials,
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            by_fold=self.pruning is not False,
            deadline=math.inf if self.timeout is None else begin + self.timeout,
            verbose=self.verbose > 0,
        )

    def _check_scores(self, found: Any) -> None:
        """Refuse a ``refit`` that is none of the scores of a callable."""
        if callable(self.scoring) and isinstance(found, Mapping):
            self._check_refit_for_multimetric(found)

    def _publish(self, journal: SearchJournal, refit_metric: str, *, whole: bool = True) -> None:
        """Set what the candidates so far tell.

        Raises:
            ValueError: there are none, or all their fits failed and the search is over.
        """
        self.study_ = journal.study
        candidates, out = journal.results(self.n_splits_)
        if not out:
            raise ValueError(_NO_FITS)
        if whole:
            _warn_or_raise_about_fit_failures(out, self.error_score)
        out = with_error_scores(out, self.error_score)
        pruned = journal.pruned()
        more = {"pruned": pruned} if self.pruning is not False or any(pruned) else {}
        results = self._format_results(candidates, self.n_splits_, out, more)
        results = without_missing(results, np.array(journal.folds_run()), self.n_splits_)
        self.multimetric_ = isinstance(out[0]["test_scores"], Mapping)
        if callable(self.scoring) and self.multimetric_:
            refit_metric = self.refit
        self.cv_results_ = results
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def _keep(self, journal: SearchJournal, refit_metric: str) -> None:
        """Set what an interrupted search has found; its own error is what the user shall see."""
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            self._publish(journal, refit_metric, whole=False)

    def _forget(self) -> None:
        """Remove the results of an earlier fit, lest they be taken for those of this one."""
        for name in _LEARNED & vars(self).keys():
            delattr(self, name)

    def _scorers(self, scorers: Any) -> Any:
        """The scorer, or those of a list or dict by name."""
        if self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring):
            return scorers
        named = self.scoring
        if not isinstance(named, Mapping):
            named = {name: name for name in named}
        return {k: check_scoring(self.estimator, scoring=v) for k, v in named.items()}

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
