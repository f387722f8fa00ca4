"""Candidates by folds: which fits are run, together or one fold after the other.

A candidate's record is a list of what scikit-learn's `_fit_and_score` returns, one a fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from fisherbo.estimators.sklearn_private import _fit_and_score

Fold = dict[str, Any]
Ended = Callable[[int, list[Fold]], bool]
"""Index of a candidate and its folds so far to whether it shall have no more of them."""


@dataclass(frozen=True, eq=False)
class Protocol:
    """What every candidate is put through.

    Attributes:
        caller: the search, for its callbacks; None if it has none, since it travels to the workers
            with each fit, and they would import all of fisherbo.
        estimator: cloned for each fit.
        splits: (training rows, test rows) of each fold, the same for every candidate.
        options: further arguments of `_fit_and_score`.
        check: called with the test scores of each fold; raises where they do not fit the search.
    """

    caller: Any
    estimator: Any
    X: Any
    y: Any
    splits: Sequence[tuple[Any, Any]]
    options: Mapping[str, Any]
    check: Callable[[Any], None]

    def evaluate(
        self, parallel: Parallel, candidates: Sequence[dict[str, Any]], context: Any, ended: Ended
    ) -> list[list[Fold]]:
        """Records of the candidates, all fits at once."""
        folds = range(len(self.splits))
        fits = [(i, fold) for i in range(len(candidates)) for fold in folds]
        out = iter(self._run(parallel, candidates, fits, context))
        return [[next(out) for _ in folds] for _ in candidates]

    def evaluate_by_fold(
        self, parallel: Parallel, candidates: Sequence[dict[str, Any]], context: Any, ended: Ended
    ) -> list[list[Fold]]:
        """Records of the candidates, a fold at a time; those that `ended` names get no more."""
        records: list[list[Fold]] = [[] for _ in candidates]
        alive = list(range(len(candidates)))
        for fold in range(len(self.splits)):
            out = self._run(parallel, candidates, [(i, fold) for i in alive], context)
            for i, result in zip(alive, out, strict=True):
                records[i].append(result)
            alive = [i for i in alive if not ended(i, records[i])]
        return records

    def _run(
        self,
        parallel: Parallel,
        candidates: Sequence[dict[str, Any]],
        fits: Sequence[tuple[int, int]],
        context: Any,
    ) -> list[Fold]:
        count = len(self.splits)
        contexts = [
            context.subcontext(task_name="candidate-split-evaluation", task_id=i * count + fold)
            for i, fold in fits
        ]
        with _light_filters(parallel):
            out = parallel(
                delayed(_fit_and_score)(
                    clone(self.estimator),
                    self.X,
                    self.y,
                    train=self.splits[fold][0],
                    test=self.splits[fold][1],
                    parameters=candidates[i],
                    split_progress=(fold, count),
                    candidate_progress=(i, len(candidates)),
                    caller=self.caller,
                    callback_ctx=own,
                    **self.options,
                )
                for (i, fold), own in zip(fits, contexts, strict=True)
            )
        for fold in out:
            self.check(fold["test_scores"])
        return out


@contextmanager
def _light_filters(parallel: Parallel) -> Iterator[None]:
    """Run a block without torch's filters of warnings if its fits run in other processes.

    scikit-learn sends the filters along with each fit, and to read one of a category of torch a
    process imports torch, which takes seconds.
    """
    if effective_n_jobs(parallel.n_jobs) == 1:
        yield
        return
    with warnings.catch_warnings():
        warnings.filters[:] = [  # type: ignore[index]  # a list
            entry for entry in warnings.filters if not entry[2].__module__.startswith("torch.")
        ]
        yield


def plain(record: Sequence[Fold]) -> list[Fold]:
    """The record in JSON's types."""
    return [{name: _plain(value) for name, value in fold.items()} for fold in record]


def scores(record: Sequence[Fold], metrics: Sequence[str] | None) -> list[list[float]]:
    """Test scores, metric by fold; of the first metric or the only score if none is named."""
    rows = [_row(fold["test_scores"], metrics) for fold in record]
    width = max(len(row) for row in rows)
    return [[row[min(m, len(row) - 1)] for row in rows] for m in range(width)]


def means(record: Sequence[Fold], metrics: Sequence[str] | None) -> list[float]:
    """Mean test score of each metric; NaN if a fold has none."""
    return [float(np.mean(row)) for row in scores(record, metrics)]


def with_error_scores(folds: list[Fold], error_score: Any) -> list[Fold]:
    """Folds in which failed fits have the metrics of the others, where a callable names them."""
    named = next((f["test_scores"] for f in folds if isinstance(f["test_scores"], Mapping)), None)
    if named is None:
        return folds
    failed = dict.fromkeys(named, error_score)
    return [
        fold
        if isinstance(fold["test_scores"], Mapping)
        else {
            k: dict(failed) if k in ("test_scores", "train_scores") else v for k, v in fold.items()
        }
        for fold in folds
    ]


def completed(record: list[Fold], n_splits: int) -> list[Fold]:
    """The record with its last fold in the place of those that were not run."""
    return record + [record[-1]] * (n_splits - len(record))


def _row(found: Any, metrics: Sequence[str] | None) -> list[float]:
    if not isinstance(found, Mapping):
        return [float(found)]
    names = metrics if metrics is not None else list(found)[:1]
    return [float(found[name]) for name in names]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): float(number) for name, number in value.items()}
    return value if value is None or isinstance(value, str) else float(value)


def without_missing(
    results: dict[str, Any], ran: NDArray[np.int_], n_splits: int
) -> dict[str, Any]:
    """Results in which folds that were not run, and the means over them, are NaN.

    Such candidates rank behind all others.
    """
    cut = ran < n_splits
    if not cut.any():
        return results
    changed = dict(results)
    for key, column in results.items():
        fold = key.split("_")[0].removeprefix("split")
        if key.startswith("split") and fold.isdigit():
            changed[key] = np.where(ran <= int(fold), np.nan, column)
        elif key.startswith(("mean_test", "std_test", "mean_train", "std_train")):
            changed[key] = np.where(cut, np.nan, column)
    for key in [k for k in results if k.startswith("rank_test_")]:
        mean = changed[f"mean_test_{key.removeprefix('rank_test_')}"]
        known = np.where(np.isnan(mean), -np.inf, mean)
        changed[key] = rankdata(-known, method="min").astype(np.int32)
    return changed
