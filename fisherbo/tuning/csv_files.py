"""CSV files as people have them: separators, decimal commas, thousands, comment lines.

Three ways to write a number are known:

    point     1234.5             what pandas reads
    comma     1.234,5  1234,5    as in much of Europe, mostly in columns between semicolons
    thousands 1,234.5            between quotes, or in columns that commas do not separate

One column of decimal commas makes points in the others separate thousands; a file that has both
decimal commas and decimal points is refused.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import listed

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",;\t|"
_EXPONENT = r"(?:[eE][+-]?\d+)?"
_POINT = rf"[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}"
_COMMA = rf"[+-]?(?:(?:\d{{1,3}}(?:\.\d{{3}})+|\d+)(?:,\d*)?|,\d+){_EXPONENT}"
_THOUSANDS = rf"[+-]?\d{{1,3}}(?:,\d{{3}})+(?:\.\d*)?|{_POINT}"


def read_csv(path: Path) -> pd.DataFrame:
    """Columns of a CSV file with a line of names; lines that begin with # are comments.

    Raises:
        InvalidInputError: It cannot be read, has no line of names, is ragged, or has both decimal
            commas and decimal points.
    """
    lines = _lines(path)
    separator = _separator(lines)
    frame = _parsed(lines, separator, path)
    _require_header(frame, path)
    styles = {name: _style(frame[name], separator) for name in frame}
    if "comma" in styles.values():
        return _with_commas(frame, _parsed(lines, separator, path, dtype=str), path)
    for name, style in styles.items():
        if style == "thousands":
            frame[name] = _number(frame[name].str.replace(",", ""))
    return frame


def _lines(path: Path) -> list[str]:
    """Lines of the file without comments."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{path} is not text in UTF-8 (byte {error.start}); save it as UTF-8 CSV"
        ) from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {_one_line(error)}") from error
    lines = io.StringIO(text, newline=None).readlines()
    return [line for line in lines if not line.lstrip().startswith("#")]


def _separator(lines: list[str]) -> str:
    """What separates the columns; Excel's line "sep=;" is obeyed and removed."""
    hint = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None
    if hint is not None:
        del lines[0]
        return hint[1]
    head = [line for line in lines if line.strip()][:50]
    try:
        return csv.Sniffer().sniff("".join(head), SEPARATORS).delimiter
    except csv.Error:  # one column, or a ragged file
        return max(SEPARATORS, key=lambda one: min((line.count(one) for line in head), default=0))


def _parsed(
    lines: list[str], separator: str, path: Path, dtype: type[str] | None = None
) -> pd.DataFrame:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.StringIO("".join(lines)),
                sep=separator,
                index_col=False,
                skipinitialspace=True,
                dtype=dtype,
                low_memory=False,
            )
    except pd.errors.EmptyDataError as error:
        raise InvalidInputError(
            f"{path} is empty; it needs a line of column names and one line a row"
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise InvalidInputError(
            f"{path} is ragged, its lines differ in their number of fields"
            f"{_longest(lines, separator)}; give every line as many fields as the first"
        ) from error
    unnamed = [name for name in frame if name.startswith("Unnamed: ") and frame[name].isna().all()]
    frame = frame.drop(columns=unnamed)  # lines that end with the separator
    frame.columns = [str(name).strip() for name in frame.columns]
    for name in frame:
        if pd.api.types.is_string_dtype(frame[name]):
            frame[name] = frame[name].str.strip()
    return frame


def _longest(lines: list[str], separator: str) -> str:
    """The first row with more fields than the names, in words."""
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    for number, row in enumerate(rows):
        if len(row) > len(rows[0]):
            name = {"\t": "tab"}.get(separator, repr(separator))
            return (
                f": columns are separated by {name}, the names are {len(rows[0])} fields, "
                f"row {number} has {len(row)}"
            )
    return ""


def _require_header(frame: pd.DataFrame, path: Path) -> None:
    names = list(map(str, frame.columns))
    if all(is_number(part) for name in names for part in re.split(f"[{SEPARATORS}]", name)):
        raise InvalidInputError(
            f"{path}: the first line must name the columns, got {listed(names)}; add that line "
            "(lines that begin with # are comments)"
        )


def is_number(word: str) -> bool:
    """Whether Python reads the word as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _style(column: pd.Series, separator: str) -> str | None:
    """How a column of text writes numbers; None if it is no text, or no numbers."""
    import pandas as pd

    if not pd.api.types.is_string_dtype(column):
        return None
    styles = {"comma": _COMMA, "thousands": _THOUSANDS}
    order = ("thousands", "comma") if separator == "," else ("comma", "thousands")
    return next((style for style in order if _all(column, styles[style])), None)


def _all(column: pd.Series, pattern: str) -> bool:
    words = column.dropna().astype(str)
    return len(words) > 0 and bool(words.str.fullmatch(pattern).all())


def _with_commas(frame: pd.DataFrame, text: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The frame with all its numbers read as with decimal commas.

    Raises:
        InvalidInputError: A column has decimal points.
    """
    for name in frame:
        if _all(text[name], _COMMA):
            frame[name] = _number(text[name].str.replace(".", "").str.replace(",", "."))
        elif _all(text[name], _POINT):
            words = text[name].dropna()
            point = words[~words.str.fullmatch(_COMMA)].iloc[0]
            raise InvalidInputError(
                f"{path}: numbers must all have decimal commas or all decimal points, got "
                f"{point!r} in column {name!r} beside commas in others; write them alike"
            )
    return frame


def _number(words: pd.Series) -> pd.Series:
    import pandas as pd

    return pd.to_numeric(words)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
