"""Scores on test rows with intervals: 95% of the values that resampled test rows would give.

Each score is a function of means over rows, so that a resample is a weighted mean:

    accuracy            mean of hits
    balanced accuracy   mean over classes of hits among the rows of the class
    log loss            mean of −log p(class), in nats
    RMSE, MAE           root of the mean square, mean absolute value of the error
    R²                  1 − mean square of the error / variance of the target
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.tables.values import Array

DRAWS = 500
CHUNK = 50  # draws at a time: their counts are (draws, rows)
LEAST_P = 1e-15
BALANCED, LOG_LOSS = "balanced accuracy", "log loss"
CLASSIFICATION = ("accuracy", BALANCED, LOG_LOSS)
REGRESSION = ("RMSE", "MAE", "R²")
OPTIONS = {
    "accuracy": "accuracy", "balanced_accuracy": BALANCED, "log_loss": LOG_LOSS,
    "rmse": "RMSE", "mae": "MAE", "r2": "R²",
}  # fmt: skip
"""How users type a metric."""
GREATER_IS_BETTER = ("accuracy", BALANCED, "R²")


@dataclass(frozen=True)
class Score:
    """A value on test rows and the 2.5 % and 97.5 % quantiles of resampled rows."""

    value: float
    low: float
    high: float


def metric_named(name: str, task: str) -> str:
    """The metric that the user typed, if it is one of the task.

    Raises:
        InvalidInputError: it is not.
    """
    known = [
        option
        for option, metric in OPTIONS.items()
        if metric in (CLASSIFICATION if task == "classification" else REGRESSION)
    ]
    if name not in known:
        raise InvalidInputError(
            f"--metric of a {task} is one of {', '.join(known)}, got {name!r}"
            f"{suggestion(name, known)}"
        )
    return OPTIONS[name]


def of_classes(classes: Array, probabilities: Array) -> dict[str, float]:
    """Scores of probabilities (n, classes) by name.

    Args:
        classes: class numbers (n,).
        probabilities: of the classes 0, 1, ... in order.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

    found = probabilities.argmax(1)
    labels = np.arange(probabilities.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may be predicted but not present
        balanced = balanced_accuracy_score(classes, found)
        p = np.clip(probabilities.astype(np.float64), LEAST_P, 1)
        loss = log_loss(classes, p / p.sum(1, keepdims=True), labels=labels)
    return {
        "accuracy": float(accuracy_score(classes, found)),
        BALANCED: float(balanced),
        LOG_LOSS: float(loss),
    }


def of_numbers(values: Array, predicted: Array) -> dict[str, float]:
    """Scores of predictions (n,) by name, in the values' own units."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "RMSE": float(root_mean_squared_error(values, predicted)),
        "MAE": float(mean_absolute_error(values, predicted)),
        "R²": float(r2_score(values, predicted)),
    }


def with_intervals(
    values: Array, predicted: Array, *, classes: bool, seed: int = 0
) -> dict[str, Score]:
    """The scores of `of_classes` or `of_numbers`, each with its interval."""
    points = of_classes(values, predicted) if classes else of_numbers(values, predicted)
    terms = (_class_terms if classes else _number_terms)(values, predicted)
    draws: dict[str, list[Array]] = {name: [] for name in points}
    rng, count = np.random.default_rng(seed), len(values)
    for _ in range(DRAWS // CHUNK):
        times = rng.multinomial(count, np.full(count, 1 / count), CHUNK)
        for name, (columns, function) in terms.items():
            draws[name].append(function(times @ columns / count))
    return {name: _score(value, np.concatenate(draws[name])) for name, value in points.items()}


def _score(value: float, drawn: Array) -> Score:
    """The score with its interval; draws that have none, as R² of equal rows, are left out."""
    finite = drawn[np.isfinite(drawn)]
    if len(finite) == 0:
        return Score(value, float("nan"), float("nan"))
    low, high = np.quantile(finite, (0.025, 0.975))
    return Score(value, float(low), float(high))


def one(metric: str, values: Array, predicted: Array, *, classes: bool) -> float:
    """One score alone, as in `with_intervals`."""
    columns, function = (_class_terms if classes else _number_terms)(values, predicted)[metric]
    return float(function(columns.mean(0)[None])[0])


def as_loss(metric: str, value: float) -> float:
    """A score as something to minimise: itself, or 1 less it where greater is better."""
    return 1 - value if metric in GREATER_IS_BETTER else value


Terms = dict[str, tuple[Array, Callable[[Array], Array]]]


def _class_terms(classes: Array, probabilities: Array) -> Terms:
    hits = (probabilities.argmax(1) == classes).astype(np.float64)
    p = np.clip(probabilities.astype(np.float64), LEAST_P, 1)
    losses = np.log(p.sum(1)) - np.log(p[np.arange(len(classes)), classes])
    present = (classes[:, None] == np.unique(classes)).astype(np.float64)
    width = present.shape[1]

    def balanced(means: Array) -> Array:
        with np.errstate(invalid="ignore"):  # a class that a draw has not is left out of its mean
            return np.nanmean(means[:, :width] / means[:, width:], axis=1)

    return {
        "accuracy": (hits[:, None], lambda means: means[:, 0]),
        BALANCED: (np.hstack([present * hits[:, None], present]), balanced),
        LOG_LOSS: (losses[:, None], lambda means: means[:, 0]),
    }


def _number_terms(values: Array, predicted: Array) -> Terms:
    error = values - predicted
    centred = values - values.mean()

    def r2(means: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - means[:, 0] / (means[:, 1] - means[:, 2] ** 2)

    return {
        "RMSE": (error[:, None] ** 2, lambda means: np.sqrt(means[:, 0])),
        "MAE": (np.abs(error)[:, None], lambda means: means[:, 0]),
        "R²": (np.column_stack([error**2, centred**2, centred]), r2),
    }
