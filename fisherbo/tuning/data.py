"""Tables: the bundled data sets and files, checked before anything is trained.

`load` is the one door. It returns a frozen `Table` or raises `InvalidInputError` with one line
that says what was wrong, what was found and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.tuning.files import read_frame, table_of_frame
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.table import Table

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = ("digits", "breast_cancer", "diabetes", "wine", "iris")


def load(source: str, target: str | None = None) -> Table:
    """Table of a bundled data set, or of a CSV, Parquet or NPZ file with a target column.

    Args:
        source: one of `BUNDLED`, or the path of a file that ends in .csv, .parquet or .npz.
        target: the file's target column; for NPZ the name of an array ("y" if there is one).

    Raises:
        InvalidInputError: the data cannot be used; the message holds the remedy.
        MissingExtraError: scikit-learn, pandas or pyarrow is not installed.
    """
    if source in BUNDLED:
        if target is not None:
            raise InvalidInputError(
                f"{source} brings its own target, got --target {target!r}; "
                "--target is for CSV, Parquet and NPZ files, leave it out here"
            )
        return _bundled(source)
    path = Path(source)
    if not path.suffix and not path.exists():
        raise InvalidInputError(
            f"unknown data {source!r}{suggestion(source, BUNDLED)}; "
            f"known are {', '.join(BUNDLED)}, or give a .csv, .parquet or .npz file"
        )
    frame, target = read_frame(path, target)
    return table_of_frame(frame, target, path)


def read_rows(path: Path) -> pd.DataFrame:
    """Columns of a CSV, Parquet or NPZ file, whatever they are.

    Raises:
        InvalidInputError: no such file, another kind of file, or one that cannot be read.
        MissingExtraError: pandas or pyarrow is not installed.
    """
    return read_frame(path, None)[0]


def _bundled(name: str) -> Table:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "sklearn") from error
    try:
        bunch: Any = getattr(datasets, f"load_{name}")(as_frame=True)
    except ImportError as error:
        raise MissingExtraError("pandas", "sklearn") from error
    inputs, target = bunch.data.rename(columns=str), bunch.target
    if name == "digits":
        inputs = inputs / 16.0  # grey levels 0 to 16
    elif name != "diabetes":
        target = target.map(dict(enumerate(map(str, bunch.target_names))))
    return Table(name, inputs, target.rename("target"), name)
