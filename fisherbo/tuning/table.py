"""The record that every data set becomes: columns as they are, with or without a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

MIN_ROWS = 10


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of a data set.

    Attributes:
        name: name of the bundled data set, or the file's name without its suffix.
        inputs: the columns besides the target, named by text.
        target: the target column, or None without one.
        source: what messages call it: the name, or the path of the file.
    """

    name: str
    inputs: pd.DataFrame
    target: pd.Series | None
    source: str


def require_rows(rows: int, source: str) -> None:
    """Pass if there are enough rows to train on.

    Raises:
        InvalidInputError: fewer than `MIN_ROWS`.
    """
    if rows < MIN_ROWS:
        raise InvalidInputError(
            f"{source}: at least {MIN_ROWS} rows are needed, got {rows}; add rows"
        )
