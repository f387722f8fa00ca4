"""What the cells of a column say: numbers, words or dates; what is missing is NaN, None or NaT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[Any]
MISSING = ("", "?", "-", "--", ".")  # besides what pandas reads as missing
TRUTH = {"true": 1, "false": 0}
SAMPLE = 200  # cells that a date's format is first tried on

_TIMES = ("", " %H:%M", " %H:%M:%S")
_DAYS = (
    "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y",
    "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y",
)  # fmt: skip
FORMATS = ("ISO8601", *(day + time for day in _DAYS for time in _TIMES))
"""How dates are written, in pandas' codes; of several that read all cells the first is taken."""

_DATE_LIKE = re.compile(r"\s*\w{1,9}[-/. ,]+\w{1,9}[-/. ,]+\d{2,4}|\s*\d{4}[-/]\d{1,2}")


def is_text(column: pd.Series) -> bool:
    """Whether the cells are words: text, categories, or a mixture of types."""
    import pandas as pd

    return not (
        pd.api.types.is_numeric_dtype(column)
        or pd.api.types.is_datetime64_any_dtype(column)
        or pd.api.types.is_timedelta64_dtype(column)
    )


def words(column: pd.Series) -> pd.Series:
    """Cells as text (object), None where missing; whole numbers are written without a point."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column):
        texts = [str(int(x)) if x == np.floor(x) and abs(x) < 2**53 else str(x)
                 for x in column.fillna(0.5)]  # fmt: skip
    else:
        texts = [text.strip() for text in column.astype(object).map(str)]
    missing = column.isna().to_numpy() | np.isin(np.array(texts, dtype=object), MISSING)
    cells = [None if gone else text for text, gone in zip(texts, missing, strict=True)]
    return pd.Series(cells, index=column.index, dtype=object, name=column.name)


def numbers(column: pd.Series) -> Array:
    """Cells in float64; NaN where they are missing, infinite or no numbers."""
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(column):
        values = column.dt.total_seconds().to_numpy(dtype=np.float64)
    elif is_text(column):
        texts = words(column).map(lambda text: TRUTH.get(text.lower(), text), na_action="ignore")
        values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    elif pd.api.types.is_datetime64_any_dtype(column):
        values = np.full(len(column), np.nan)
    else:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def date_format(texts: pd.Series, share: float) -> str | None:
    """The first known format that reads at least this share of the texts, or None."""
    sample = texts.iloc[:: max(1, len(texts) // SAMPLE)]
    if len(texts) == 0 or sum(bool(_DATE_LIKE.match(text)) for text in sample) < share * len(
        sample
    ):
        return None
    for code in FORMATS:
        if (
            _read(sample, code).notna().mean() >= share
            and _read(texts, code).notna().mean() >= share
        ):
            return code
    return None


def dates(column: pd.Series, code: str) -> pd.Series:
    """Cells as times without a zone; NaT where they are missing or written otherwise."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.to_datetime(column, utc=True).dt.tz_localize(None)
    return _read(words(column), code).dt.tz_localize(None)


def _read(texts: pd.Series, code: str) -> pd.Series:
    import pandas as pd

    return pd.to_datetime(texts, format=code, errors="coerce", utc=True)
