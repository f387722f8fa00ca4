"""What each column of a table is: numbers, dates or categories; ids, text and constants go.

The rules, first match first; a column that the user keeps is never left out:

    empty, constant       nothing, or one value in every row
    row number, id        whole numbers that all differ, and either follow each other, or have a
                          name such as "customer_id", or do not fit in float64; text that hardly
                          repeats
    text                  sentences: four words a cell or more, hardly repeated
    number                nine cells of ten read as numbers; the others count as missing
    date                  nineteen cells of twenty read as dates of one format
    category              all else
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import listed, suggestion
from fisherbo.tuning.tables.values import Array, date_format, is_text, numbers, words

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "date", "category", "left out"]
NUMBERS_SHARE = 0.9
DATES_SHARE = 0.95
CONSECUTIVE_SHARE = 0.9  # of the numbers from the least to the greatest: rows may be left out
DISTINCT_SHARE = 0.9  # of the cells: what differs as often is a name of its row
TEXT_WORDS = 4.0
LARGEST_EXACT = 2**53
_ID_NAME = re.compile(
    r"(?:^|[_\W])(?:id|ids|uuid|guid|key|index|idx|row|rownum|no|nr|number)$", re.IGNORECASE
)
_ID_CAMEL = re.compile(r"[a-z](?:Id|ID|Uuid|UUID)$")


@dataclass(frozen=True)
class Column:
    """A column and how it is read.

    Attributes:
        name: its name.
        kind: what it is.
        note: why it is left out, or what is worth telling of it.
        format: of a date that is written as text.
    """

    name: str
    kind: Kind
    note: str = ""
    format: str | None = None


def examine(
    frame: pd.DataFrame, *, drop: Collection[str] = (), keep: Collection[str] = ()
) -> tuple[Column, ...]:
    """How each column of the inputs is read.

    Args:
        frame: the inputs, without the target.
        drop: columns to leave out.
        keep: columns not to leave out, whatever they look like.

    Raises:
        InvalidInputError: `drop` or `keep` names a column that is not there, or no column is left.
    """
    names = [str(name) for name in frame.columns]
    for option, given in (("--drop", drop), ("--keep", keep)):
        for name in given:
            if name not in names:
                raise InvalidInputError(
                    f"{option} {name!r} names no feature column{suggestion(name, names)}; "
                    f"they are {listed(names)}"
                )
    found = tuple(
        Column(name, "left out", "dropped")
        if name in drop
        else _column(frame[name], name, kept=name in keep)
        for name in names
    )
    if all(column.kind == "left out" for column in found):
        reasons = listed([f"{column.name} ({column.note})" for column in found])
        raise InvalidInputError(
            f"no feature column is left to learn from: {reasons or 'there is none'}; "
            "--keep NAME keeps one"
        )
    return found


def _column(column: pd.Series, name: str, *, kept: bool) -> Column:
    import pandas as pd

    if pd.api.types.is_complex_dtype(column):
        return Column(name, "left out", "complex numbers")
    cells = words(column) if is_text(column) else column
    filled = cells.dropna()
    if len(filled) == 0:
        return Column(name, "left out", "empty")
    if not kept and len(filled) == len(column) and filled.nunique() == 1:
        return Column(name, "left out", "constant")
    return _text(cells, name, kept) if is_text(column) else _typed(column, name, kept)


def _typed(column: pd.Series, name: str, kept: bool) -> Column:
    """Of a column of numbers, truth values or times."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        return Column(name, "date", format="ISO8601")
    values = numbers(column)
    known = values[~np.isnan(values)]
    reason = None if kept else _id(column, name, known)
    if reason is not None:
        return Column(name, "left out", reason)
    if _inexact(column):
        return Column(name, "category", "whole numbers beyond 2^53, read as words")
    infinite = int(column.notna().sum()) - len(known)
    return Column(name, "number", f"{infinite} infinite values count as missing" * bool(infinite))


def _inexact(column: pd.Series) -> bool:
    """Whether different whole numbers, such as ids of 19 digits, become the same in float64."""
    import pandas as pd

    if not pd.api.types.is_integer_dtype(column):
        return False
    return int(column.nunique()) > len(np.unique(numbers(column)[column.notna().to_numpy()]))


def _id(column: pd.Series, name: str, known: Array) -> str | None:
    """Why a column of numbers is an id, or None."""
    if len(known) < 3 or not (known == np.round(known)).all() or known.min() < 0:
        return None
    distinct, named = int(column.nunique()), bool(_ID_NAME.search(name) or _ID_CAMEL.search(name))
    span = known.max() - known.min() + 1
    if distinct == len(column) and span <= len(column) / CONSECUTIVE_SHARE:
        return "row number"
    if distinct == len(known) and (named or np.abs(known).max() > LARGEST_EXACT):
        return "id, all values differ"
    if named and distinct > 20:
        return f"id, {distinct} values; --group {name} keeps the rows of each in one part"
    return None


def _text(cells: pd.Series, name: str, kept: bool) -> Column:
    texts = cells.dropna()
    values = numbers(texts)
    other = len(texts) - int((~np.isnan(values)).sum())
    if other <= (1 - NUMBERS_SHARE) * len(texts):
        note = f"{other} cells are no numbers and count as missing" if other else ""
        return Column(name, "number", note)
    code = date_format(texts, DATES_SHARE)
    if code is not None:
        return Column(name, "date", "" if code == "ISO8601" else f"read as {code}", code)
    distinct = int(texts.nunique())
    many = distinct > DISTINCT_SHARE * len(texts)
    if not kept and distinct > 0.5 * len(texts) and _mean_words(texts) >= TEXT_WORDS:
        return Column(name, "left out", "text, which is not understood")
    if not kept and many:
        return Column(name, "left out", f"id or name, {distinct} values in {len(texts)} rows")
    return Column(name, "category")


def _mean_words(texts: pd.Series) -> float:
    return float(np.mean([text.count(" ") + 1 for text in texts]))
