"""CSV, Parquet and NPZ files as tables: one data frame, one list of checks for all three."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.tuning.csv_files import read_csv
from fisherbo.tuning.names import listed, suggestion
from fisherbo.tuning.table import Table, require_rows

if TYPE_CHECKING:
    import pandas as pd


def read_frame(path: Path, target: str | None) -> tuple[pd.DataFrame, str | None]:
    """Columns of the file, and the name of its target column (None without one).

    Raises:
        InvalidInputError: no such file, another kind of file, or one that cannot be read.
        MissingExtraError: pandas or pyarrow is not installed.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise InvalidInputError(f"cannot read {path}: {found}; check the path given to --data")
    try:
        import pandas  # noqa: F401  # asks whether it is there
    except ImportError as error:
        raise MissingExtraError("pandas", "sklearn") from error
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path), target
    if suffix in (".parquet", ".pq"):
        return _read_parquet(path), target
    if suffix == ".npz":
        return _read_npz(path, target)
    raise InvalidInputError(
        f"cannot read {path}: files of kind {suffix or 'without a suffix'!r} are not known; "
        "give a .csv, .parquet or .npz file"
    )


def table_of_frame(frame: pd.DataFrame, target: str | None, path: Path) -> Table:
    """The columns of a frame, the target set apart.

    Raises:
        InvalidInputError: too few rows, a missing target column, or no other column.
    """
    require_rows(len(frame), str(path))
    if target is None:
        return Table(path.stem, frame, None, str(path))
    _require_column(frame, target, path)
    inputs = frame.drop(columns=[target])
    if inputs.shape[1] == 0:
        raise InvalidInputError(f"{path}: no feature column besides the target {target!r}; add one")
    return Table(path.stem, inputs, frame[target], str(path))


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("pyarrow", "sklearn") from error
    try:
        frame = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidInputError(f"{path} is not a Parquet file: {_one_line(error)}") from error
    return frame.rename(columns=str)


def _read_npz(path: Path, target: str | None) -> tuple[pd.DataFrame, str | None]:
    import pandas as pd

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise InvalidInputError(
            f"{path} is not an NPZ file of plain arrays: {_one_line(error)}; "
            "write it with numpy.savez(path, X=..., y=...)"
        ) from error
    if target is None and "y" in arrays:
        target = "y"
    columns = {
        name: column for key, array in arrays.items() for name, column in _columns(key, array, path)
    }
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(
            f"{path}: arrays must have as many rows as each other, got "
            f"{', '.join(f'{key}: {rows}' for key, rows in lengths.items())}; make them equal"
        )
    return pd.DataFrame(columns), target


def _columns(key: str, array: np.ndarray, path: Path) -> list[tuple[str, np.ndarray]]:
    """An array as columns: `y` for (rows,) and (rows, 1), else `X[0]`, `X[1]`, ..."""
    if array.ndim == 0:
        raise InvalidInputError(f"{path}: array {key!r} is a single number; every array needs rows")
    require_rows(len(array), f"{path}: array {key!r}")
    flat = array.reshape(len(array), -1)
    if flat.shape[1] == 1:
        return [(key, flat[:, 0])]
    return [(f"{key}[{index}]", flat[:, index]) for index in range(flat.shape[1])]


def _require_column(frame: pd.DataFrame, target: str, path: Path) -> None:
    names = [str(name) for name in frame.columns]
    if target not in names:
        raise InvalidInputError(
            f"{path} has no column {target!r}{suggestion(target, names)}; "
            f"its columns are {listed(names)}"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
