"""Tables of numbers: the bundled data sets and files, checked before anything is trained.

`load` is the one door. It returns a frozen `Table` or raises `InvalidInputError` with one line
that says what was wrong, what was found and what to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.tuning.files import read_frame, table_of_frame
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.table import Table

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


def _bundled(name: str) -> Table:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "sklearn") from error
    bunch: Any = getattr(datasets, f"load_{name}")()
    scale = 16.0 if name == "digits" else 1.0  # digits are grey levels 0 to 16
    labels = () if name == "diabetes" else tuple(str(label) for label in bunch.target_names)
    return Table(
        name=name,
        features=torch.tensor(bunch.data / scale, dtype=torch.float32),
        feature_names=tuple(str(column) for column in bunch.feature_names),
        target=torch.tensor(bunch.target, dtype=torch.float64),
        labels=labels,
    )
