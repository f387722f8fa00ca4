"""Rows to train on, to choose by, and to test on: by class, by group or by time, from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.tables.values import Array

HELD_OUT = 0.2  # of all rows, for validation and again for the test
FOLDS = 4  # of the rows that are not tested; the validation rows are one
FOLD_ROWS = 3000  # a fifth of fewer rows is too few to choose settings by


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts.

    Attributes:
        train: to train on.
        validation: to choose settings by.
        test: for the test alone.
        how: how they were made, in words.
        parts: the training rows in three parts of the size of the validation rows, for
            cross-validation; empty where rows are many or ordered by time.
    """

    train: Array
    validation: Array
    test: Array
    how: str
    parts: tuple[Array, ...] = ()

    @property
    def fitted(self) -> Array:
        """Rows that the final model is trained on."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def folds(self) -> Iterator[tuple[Array, Array]]:
        """Training and validation rows of the further folds."""
        for part in self.parts:
            yield np.setdiff1d(self.fitted, part), part


def at_random(classes: Array | None, count: int, seed: int) -> Split:
    """A fifth of the rows for the test and a fifth for validation, of each class if there are any.

    Classes of one or two rows are in the training rows first.

    Args:
        classes: class numbers (n,), or None.
        count: n.
        seed: of the order of the rows.
    """
    rest, test = _held_out(np.arange(count), classes, HELD_OUT, seed)
    train, validation = _held_out(rest, classes, HELD_OUT / (1 - HELD_OUT), seed)
    kind = "at random" if classes is None else "at random, by class"
    parts = _parts(train, classes, None, seed) if count <= FOLD_ROWS else ()
    return Split(train, validation, test, f"{kind}, seed {seed}", parts)


def by_group(groups: Array, name: str, seed: int) -> Split:
    """A fifth of the groups for the test and a fifth for validation; none is in two parts.

    Args:
        groups: a word or number a row.
        name: of the column that they are from.
        seed: of the order of the groups.

    Raises:
        InvalidInputError: there are fewer than five groups.
    """
    from sklearn.model_selection import GroupShuffleSplit

    count = len(set(groups))
    if count < 5:
        raise InvalidInputError(
            f"--group {name} must have at least 5 groups, got {count}; name another column"
        )

    def held_out(rows: Array, fraction: float) -> tuple[Array, Array]:
        splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        kept, held = next(splitter.split(rows, groups=groups[rows]))
        return rows[kept], rows[held]

    rest, test = held_out(np.arange(len(groups)), HELD_OUT)
    train, validation = held_out(rest, HELD_OUT / (1 - HELD_OUT))
    parts = _parts(train, None, groups, seed) if len(groups) <= FOLD_ROWS else ()
    return Split(train, validation, test, f"by whole groups of {name}, seed {seed}", parts)


def by_time(times: Array, name: str) -> Split:
    """The last fifth of the rows for the test, and the fifth before it for validation.

    Args:
        times: numbers (n,) that order the rows.
        name: of the column that they are from.

    Raises:
        InvalidInputError: a time is missing.
    """
    missing = int(np.isnan(times).sum())
    if missing:
        raise InvalidInputError(
            f"--time {name} must be known in every row, got {missing} rows without; fill or drop "
            "them"
        )
    order = np.argsort(times, kind="stable")
    first, second = round((1 - 2 * HELD_OUT) * len(order)), round((1 - HELD_OUT) * len(order))
    train, validation, test = np.split(order, [first, second])
    return Split(train, validation, test, f"by {name}, the latest rows last")


def _parts(
    rows: Array, classes: Array | None, groups: Array | None, seed: int
) -> tuple[Array, ...]:
    """The rows in parts, of each class or in whole groups; classes of few rows are left out."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    count = FOLDS - 1
    if groups is not None:
        if len(set(groups[rows])) < count:
            return ()
        splitter: Any = GroupKFold(count, shuffle=True, random_state=seed)
        found = splitter.split(rows, groups=groups[rows])
    elif classes is None:
        found = KFold(count, shuffle=True, random_state=seed).split(rows)
    else:
        rows = rows[np.bincount(classes[rows])[classes[rows]] >= count]
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        found = splitter.split(rows, classes[rows])
    return tuple(rows[part] for _, part in found)


def _held_out(
    rows: Array, classes: Array | None, fraction: float, seed: int
) -> tuple[Array, Array]:
    """Kept and held-out rows; of each class where there are enough, and the only one is kept."""
    from sklearn.model_selection import train_test_split

    if classes is None:
        kept, held = train_test_split(rows, test_size=fraction, random_state=seed)
        return np.sort(kept), np.sort(held)
    of_row = classes[rows]
    only = np.bincount(of_row)[of_row] < 3
    if only.sum() > len(rows) / 2:
        only[:] = False
    rest = rows[~only]
    counts = np.bincount(classes[rest])
    several = counts[counts > 0].min() > 1
    enough = several and math.ceil(fraction * len(rest)) >= (counts > 0).sum()
    kept, held = train_test_split(
        rest,
        test_size=fraction,
        random_state=seed,
        stratify=classes[rest] if enough else None,
    )
    return np.sort(np.concatenate([kept, rows[only]])), np.sort(held)
