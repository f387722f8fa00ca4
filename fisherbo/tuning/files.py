"""CSV, Parquet and NPZ files as tables: one data frame, one list of checks for all three."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.tuning.csv_files import is_number, read_csv
from fisherbo.tuning.names import listed, suggestion
from fisherbo.tuning.table import Table, require_rows

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 20
LARGEST_EXACT = 2**53


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
    """Numbers of the frame: text columns of few levels one-hot, the target set apart.

    Raises:
        InvalidInputError: too few rows, a missing target, missing values, a column that is
            neither numbers nor text of few levels, or numbers out of float32's range.
    """
    require_rows(len(frame), str(path))
    if target is not None:
        _require_column(frame, target, path)
    _require_complete(frame, path)
    inputs = frame.drop(columns=[target]) if target is not None else frame
    if inputs.shape[1] == 0:
        raise InvalidInputError(f"{path}: no feature column besides the target {target!r}; add one")
    names, columns = _encode(inputs, path)
    features = torch.tensor(np.column_stack(columns))
    _require_finite(features, names, path)
    values, labels = (None, ()) if target is None else _target(frame[target], path)
    return Table(path.stem, features, names, values, labels)


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


def _require_complete(frame: pd.DataFrame, path: Path) -> None:
    missing = frame.isna().sum()
    holed = {str(name): int(count) for name, count in missing.items() if count}
    if holed:
        columns = [f"{name} ({count})" for name, count in holed.items()]
        raise InvalidInputError(
            f"{path}: {sum(holed.values())} values are missing, in {listed(columns)}; "
            "fill them or drop those rows"
        )


def _encode(frame: pd.DataFrame, path: Path) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Names and float64 columns: numbers as they are, text as one 0/1 column a level."""
    import pandas as pd

    names: list[str] = []
    columns: list[np.ndarray] = []
    for name in map(str, frame.columns):
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
            names.append(name)
            columns.append(_float64(column, path))
            continue
        levels = _levels(column, path)
        text = column.astype(str).to_numpy()
        names += [f"{name}={level}" for level in levels]
        columns += [(text == level).astype(np.float64) for level in levels]
    return tuple(names), columns


def _levels(column: pd.Series, path: Path) -> list[str]:
    import pandas as pd

    words = sorted(set(column.astype(str)))
    is_text = pd.api.types.is_string_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype)
    if not is_text or len(words) > MAX_LEVELS or len(words) == len(column):
        example = next((word for word in words if not is_number(word)), words[0])
        raise InvalidInputError(
            f"{path}: column {str(column.name)!r} is not numeric (for instance {example!r}, "
            f"{len(words)} distinct values in {len(column)} rows); text of at most {MAX_LEVELS} "
            "levels, some of them repeated, is made one-hot; convert or drop this column"
        )
    return words


def _require_finite(features: torch.Tensor, names: tuple[str, ...], path: Path) -> None:
    bad = (~torch.isfinite(features.float())).sum(0)
    columns = [f"{names[i]} ({int(bad[i])})" for i in range(len(names)) if bad[i]]
    if columns:
        raise InvalidInputError(
            f"{path}: {int(bad.sum())} values are infinite or beyond float32, in "
            f"{listed(columns)}; drop those rows or rescale"
        )


def _float64(column: pd.Series, path: Path) -> np.ndarray:
    """The numbers in float64.

    Raises:
        InvalidInputError: Different whole numbers, such as ids of 19 digits, become the same.
    """
    values = column.to_numpy(dtype=np.float64)
    whole = column.to_numpy()
    if whole.dtype.kind in "iu" and np.abs(values).max(initial=0) > LARGEST_EXACT:
        kept, given = len(np.unique(values)), len(np.unique(whole))
        if kept < given:
            raise InvalidInputError(
                f"{path}: {given} distinct whole numbers of column {str(column.name)!r}, such as "
                f"{whole[0]}, are {kept} in float64, which is exact up to 2^53; drop the column "
                "if it is an id, or subtract its least value"
            )
    return values


def _target(column: pd.Series, path: Path) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Values in float64; text and truth values as the number of their label."""
    import pandas as pd

    is_bool = pd.api.types.is_bool_dtype(column)
    if pd.api.types.is_numeric_dtype(column) and not is_bool:
        return torch.tensor(_float64(column, path)), ()
    labels, numbers = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    return torch.tensor(numbers, dtype=torch.float64), tuple(str(label) for label in labels)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
