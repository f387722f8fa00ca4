"""The record that every data set becomes: rows of numbers, with or without a target."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fisherbo.errors import InvalidInputError

MIN_ROWS = 10


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of features with, perhaps, a target.

    Attributes:
        name: name of the bundled data set, or the file's name without its suffix.
        features: (rows, columns); float64 of a file, whose columns may be large numbers that
            differ little, such as seconds since 1970, until they are scaled.
        feature_names: one name a column.
        target: (rows,), float64; the class number where `labels` is not empty. None without one.
        labels: names of the classes of a target that is text or is known to be classes.
    """

    name: str
    features: Tensor
    feature_names: tuple[str, ...]
    target: Tensor | None = None
    labels: tuple[str, ...] = ()


def require_rows(rows: int, source: str) -> None:
    """Pass if there are enough rows to train on.

    Raises:
        InvalidInputError: fewer than `MIN_ROWS`.
    """
    if rows < MIN_ROWS:
        raise InvalidInputError(
            f"{source}: at least {MIN_ROWS} rows are needed, got {rows}; add rows"
        )
