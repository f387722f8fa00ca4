"""A table with a target, ready to be learned: how columns are read, the target, the split.

The target is classes where it is text, truth values, or at most ten whole numbers; else it is a
number. Rows without a target are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import listed, suggestion
from fisherbo.tuning.table import Table, require_rows
from fisherbo.tuning.tables import encoder, scores, splits
from fisherbo.tuning.tables.columns import NUMBERS_SHARE, Column, examine
from fisherbo.tuning.tables.encoder import Encoder
from fisherbo.tuning.tables.features import NOTHING
from fisherbo.tuning.tables.notes import notes_of
from fisherbo.tuning.tables.splits import Split
from fisherbo.tuning.tables.values import Array, date_format, dates, is_text, numbers, words

if TYPE_CHECKING:
    import pandas as pd

CLASSIFICATION, REGRESSION = "classification", "regression"
FEW_NUMBERS = 10
MAX_CLASSES = 100
LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Choices:
    """What a user may say of a table.

    Attributes:
        drop: columns to leave out.
        keep: columns not to leave out.
        group: column whose values are each in one part of the split alone.
        time: column that orders the rows: trained on early ones, tested on late ones.
        balanced: whether classes weigh alike.
        metric: what settings are chosen by, one of `scores.OPTIONS`; None is log loss or RMSE.
    """

    drop: Collection[str] = ()
    keep: Collection[str] = ()
    group: str | None = None
    time: str | None = None
    balanced: bool = False
    metric: str | None = None


@dataclass(frozen=True, eq=False)
class Supervised:
    """A table with a target.

    Attributes:
        name: of the data.
        frame: the inputs (n rows).
        columns: how they are read.
        target_name: of the target column.
        target: class numbers, or values (n,).
        classes: the labels; empty in regression.
        split: row numbers.
        balanced: whether classes weigh alike.
        metric: what settings are chosen by, one of the scores' names.
        seed: of the split and the cross-fit.
        notes: what was done to the rows, in words.
    """

    name: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    target_name: str
    target: Array
    classes: tuple[Any, ...]
    split: Split
    balanced: bool
    metric: str
    seed: int
    notes: tuple[str, ...] = field(default=())

    @property
    def outputs(self) -> int:
        """Of a network: logits of the classes, or the scaled target."""
        return max(1, len(self.classes))


@dataclass(frozen=True, eq=False)
class Fitted:
    """The preprocessing of some rows, and these rows as tensors.

    Attributes:
        encoder: of the inputs.
        x: inputs of the rows.
        y: class numbers (n,), or the scaled target (n, 1).
        centre: of the target in regression.
        scale: of the target in regression.
        weight: of each class, with balanced classes.
    """

    encoder: Encoder
    x: Tensor
    y: Tensor
    centre: float
    scale: float
    weight: Tensor | None


def prepare(table: Table, task: str | None, choices: Choices, seed: int) -> Supervised:
    """The table's columns read, its target coded, its rows split.

    Raises:
        InvalidInputError: the target does not suit the task, a choice names no column, or no
            column is left to learn from.
    """
    if table.target is None:
        raise InvalidInputError(
            f"{table.source}: {task} needs a target column, got none; name it with --target, the "
            f"columns are {listed(list(map(str, table.inputs.columns)))}"
        )
    cells = _cells(table.target)
    known = cells.notna().to_numpy()
    frame, cells = table.inputs[known].reset_index(drop=True), cells[known]
    _require_exact(cells, table)
    require_rows(len(frame), f"{table.source}: rows with a target")
    kind = task or kind_of(table.target)
    coded, classes = (_classes if kind == CLASSIFICATION else _values)(cells, table)
    choices = _known(choices, table)
    split = _split(frame, coded if classes else None, choices, seed)
    grouped = (
        [] if choices.group is None else [choices.group]
    )  # its values are not in the test rows
    columns = tuple(
        replace(column, note="rows are split by it") if column.name in grouped else column
        for column in examine(frame, drop=[*choices.drop, *grouped], keep=choices.keep)
    )
    metric = "log loss" if classes else "RMSE"
    if choices.metric is not None:
        metric = scores.metric_named(choices.metric, kind)
    if choices.balanced and not classes:
        raise InvalidInputError("--class-weight is for classes, and the target is a number")
    _require_several(coded, classes, split, table)
    return Supervised(
        name=table.name,
        frame=frame,
        columns=columns,
        target_name=str(table.target.name),
        target=coded,
        classes=classes,
        split=split,
        balanced=choices.balanced,
        metric=metric,
        seed=seed,
        notes=tuple(notes_of(table, frame, columns, coded, classes, split, choices.balanced)),
    )


def kind_of(target: pd.Series) -> str:
    """Whether the target is classes or numbers."""
    import pandas as pd

    cells = _cells(target).dropna()
    if is_text(cells) or pd.api.types.is_bool_dtype(cells):
        return CLASSIFICATION
    values = np.unique(numbers(cells))
    few = len(values) <= FEW_NUMBERS and bool((values == np.round(values)).all())
    return CLASSIFICATION if few else REGRESSION


def fit(problem: Supervised, rows: Array) -> Fitted:
    """The preprocessing fitted on these rows."""
    target = problem.target[rows]
    is_class = bool(problem.classes)
    fitted, x = encoder.fit(
        problem.frame.iloc[rows], problem.columns, target, classes=is_class, seed=problem.seed
    )
    if is_class:
        counts = np.bincount(target, minlength=problem.outputs)
        weight = None
        if problem.balanced:
            weight = torch.tensor(len(target) / (problem.outputs * np.maximum(counts, 1))).float()
        return Fitted(fitted, torch.from_numpy(x), torch.from_numpy(target), 0.0, 1.0, weight)
    centre, scale = float(target.mean()), float(target.std()) or 1.0
    y = torch.from_numpy(((target - centre) / scale).astype(np.float32))[:, None]
    return Fitted(fitted, torch.from_numpy(x), y, centre, scale, None)


def measure(problem: Supervised, fitted: Fitted, rows: Array) -> Callable[[nn.Module], float]:
    """Function from a network to the metric on these rows, less is better."""
    x = torch.from_numpy(fitted.encoder.transform(problem.frame.iloc[rows]))
    target = problem.target[rows]

    def measured(network: nn.Module) -> float:
        was_training = network.training
        network.eval()
        with torch.no_grad():
            output = network(x)
        network.train(was_training)
        if not bool(torch.isfinite(output).all()):
            return float("nan")
        if problem.classes:
            found = output.double().softmax(1).numpy()
        else:
            found = output[:, 0].double().numpy() * fitted.scale + fitted.centre
        score = scores.one(problem.metric, target, found, classes=bool(problem.classes))
        return scores.as_loss(problem.metric, score)

    return measured


def metric_name(problem: Supervised) -> str:
    """What the metric is called in tables and figures."""
    if problem.metric in scores.GREATER_IS_BETTER:
        return f"validation 1 − {problem.metric}"
    return f"validation {problem.metric}"


def _cells(target: pd.Series) -> pd.Series:
    """The target with missing cells as such; text that is nearly all numbers as numbers."""
    import pandas as pd

    if not is_text(target):
        return target
    cells = words(target)
    values = numbers(target)
    read = int((~np.isnan(values)).sum())
    if read >= NUMBERS_SHARE * max(1, int(cells.notna().sum())) and len(set(values)) > FEW_NUMBERS:
        return pd.Series(values, index=target.index, name=target.name)
    return cells


def _classes(cells: pd.Series, table: Table) -> tuple[Array, tuple[Any, ...]]:
    """Class numbers and their labels, as they are in the file."""
    labels, coded = np.unique(cells.to_numpy(), return_inverse=True)
    counts = np.bincount(coded)
    if not 2 <= len(labels) <= MAX_CLASSES:
        raise InvalidInputError(
            f"{table.source}: classification needs a target of 2 to {MAX_CLASSES} classes, got "
            f"{len(labels)} distinct values in {len(cells)} rows; "
            "use --task regression or another --target"
        )
    if (counts >= 3).sum() < 2:
        raise InvalidInputError(
            f"{table.source}: at least 2 classes need 3 rows, one to train, to choose and to test "
            f"by, got {int((counts >= 3).sum())}; add rows or use another --target"
        )
    return coded.astype(np.int64), tuple(_plain(label) for label in labels)


def _plain(label: Any) -> Any:
    """A label as Python's own type; whole numbers as such."""
    value = label.item() if hasattr(label, "item") else label
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _values(cells: pd.Series, table: Table) -> tuple[Array, tuple[Any, ...]]:
    import pandas as pd

    if is_text(cells) or pd.api.types.is_bool_dtype(cells):
        labels = listed(sorted(set(map(str, cells))))
        raise InvalidInputError(
            f"{table.source}: the target of a regression must be numbers, got the classes "
            f"{labels}; use --task classification or another --target"
        )
    if pd.api.types.is_datetime64_any_dtype(cells):
        raise InvalidInputError(
            f"{table.source}: the target of a regression must be numbers, got dates; use another "
            "--target"
        )
    values = cells.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or values.min() == values.max():
        raise InvalidInputError(
            f"{table.source}: the target of a regression must be finite and vary, got values from "
            f"{values.min():g} to {values.max():g}; choose another --target"
        )
    return values, ()


def _require_exact(cells: pd.Series, table: Table) -> None:
    """Pass unless different whole numbers, such as ids of 19 digits, become the same."""
    import pandas as pd

    if not pd.api.types.is_integer_dtype(cells):
        return
    given, kept = int(cells.nunique()), len(np.unique(cells.to_numpy(dtype=np.float64)))
    if kept < given:
        raise InvalidInputError(
            f"{table.source}: {given} distinct whole numbers of column {str(cells.name)!r}, such "
            f"as {cells.iloc[0]}, are {kept} in float64, which is exact up to 2^53; subtract the "
            "least value, or use another --target"
        )


def _known(choices: Choices, table: Table) -> Choices:
    names = list(map(str, table.inputs.columns))
    for option, name in (("--group", choices.group), ("--time", choices.time)):
        if name is not None and name not in names:
            raise InvalidInputError(
                f"{option} {name!r} names no feature column{suggestion(name, names)}; "
                f"they are {listed(names)}"
            )
    if choices.group is not None and choices.time is not None:
        raise InvalidInputError("--group and --time split the rows in two ways; leave one out")
    return choices


def _split(frame: pd.DataFrame, classes: Array | None, choices: Choices, seed: int) -> Split:
    if choices.group is not None:
        cells = words(frame[choices.group]).fillna(NOTHING).to_numpy(dtype=object)
        return splits.by_group(cells.astype(str), choices.group, seed)
    if choices.time is not None:
        return splits.by_time(_times(frame[choices.time]), choices.time)
    return splits.at_random(classes, len(frame), seed)


def _times(column: pd.Series) -> Array:
    import pandas as pd

    values = numbers(column)
    if is_text(column) and np.isnan(values).mean() > 1 - NUMBERS_SHARE:
        code = date_format(words(column).dropna(), 1.0)
        if code is not None:
            column = dates(column, code)
    if pd.api.types.is_datetime64_any_dtype(column):
        return np.where(column.isna(), np.nan, column.astype("int64").to_numpy(dtype=np.float64))
    return values


def _require_several(coded: Array, classes: tuple[Any, ...], split: Split, table: Table) -> None:
    """Pass if the training rows have two classes, as whole groups or times may not."""
    if classes and len(np.unique(coded[split.train])) < 2:
        raise InvalidInputError(
            f"{table.source}: the training rows have one class only, split {split.how}; use "
            "another --group or --time"
        )
