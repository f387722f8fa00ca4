"""What simple and strong peers score on the same test rows, with scikit-learn's default settings.

They are trained on the rows that the final model is trained on (training and validation), once:

    majority class, mean    knows the target alone
    logistic, ridge         on the same encoded inputs
    gradient boosting       histogram gradient boosting, with missing values and categories as such
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fisherbo.tuning.tables.values import Array

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Inputs:
    """The same rows as arrays for linear models, and as a frame for trees."""

    encoded: Array
    frame: pd.DataFrame


def predictions(
    training: Inputs,
    target: Array,
    test: Inputs,
    *,
    width: int,
    balanced: bool,
    seed: int,
) -> Iterator[tuple[str, Array]]:
    """Name and predictions of each peer: probabilities (n, width), or numbers (n,) for width 0.

    Args:
        training: rows to fit.
        target: their class numbers or values.
        test: rows to predict.
        width: classes; 0 in regression.
        balanced: whether classes weigh alike.
        seed: of the trees.
    """
    for name, model, on_frame in _peers(width, balanced, seed):
        rows = (training.frame, test.frame) if on_frame else (training.encoded, test.encoded)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model.fit(rows[0], target)
            found = _predicted(model, rows[1], width)
        stopped = any("converge" in str(warning.message) for warning in said)
        yield name + " (stopped at 100 iterations)" * stopped, found


def _predicted(model: Any, rows: Any, width: int) -> Array:
    if not width:
        return np.asarray(model.predict(rows))
    found = np.zeros((len(rows), width))
    found[:, model.classes_.astype(int)] = model.predict_proba(rows)
    return found


def _peers(width: int, balanced: bool, seed: int) -> list[tuple[str, Any, bool]]:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    if not width:
        return [
            ("mean", DummyRegressor(), False),
            ("ridge", Ridge(), False),
            ("gradient boosting", HistGradientBoostingRegressor(random_state=seed), True),
        ]
    weight = "balanced" if balanced else None
    boosting = HistGradientBoostingClassifier(random_state=seed, class_weight=weight)
    return [
        ("majority class", DummyClassifier(), False),
        ("logistic", LogisticRegression(class_weight=weight), False),
        ("gradient boosting", boosting, True),
    ]
