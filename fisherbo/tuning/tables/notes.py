"""What a user should know of how a table is read and split, in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fisherbo.tuning.names import listed
from fisherbo.tuning.table import Table
from fisherbo.tuning.tables.columns import Column
from fisherbo.tuning.tables.splits import Split
from fisherbo.tuning.tables.values import Array, dates, numbers, words

if TYPE_CHECKING:
    import pandas as pd


def notes_of(
    table: Table,
    frame: pd.DataFrame,
    columns: tuple[Column, ...],
    coded: Array,
    classes: tuple[Any, ...],
    split: Split,
    balanced: bool,
) -> list[str]:
    """What a user should know of how the rows are read."""
    parts = [len(rows) for rows in (split.train, split.validation, split.test)]
    notes = [
        f"{len(frame)} rows: {parts[0]} to train, {parts[1]} to choose settings by, "
        f"{parts[2]} held out for the test ({split.how})"
    ]
    gone = len(table.inputs) - len(frame)
    if gone:
        notes.append(f"{gone} rows without a target are left out")
    notes.append(_target_note(table, coded, classes, split))
    used = Counter[str](column.kind for column in columns)
    plural = {"number": "numbers", "date": "dates", "category": "categories"}
    kinds = [f"{used[kind]} {plural[kind]}" for kind in plural if used[kind]]
    notes.append(f"columns used: {', '.join(kinds)}")
    left = [f"{c.name} ({c.note})" for c in columns if c.kind == "left out"]
    if left:
        notes.append(f"columns left out: {'; '.join(left)}; --keep NAME keeps one")
    notes += [f"{c.name}: {c.note}" for c in columns if c.kind != "left out" and c.note]
    holes = {c.name: _missing(frame, c) for c in columns if c.kind != "left out"}
    holed = [f"{name} {count}" for name, count in holes.items() if count]
    if holed:
        notes.append(
            f"missing values: {listed(holed)}; filled with the median of the training rows, "
            "categories with a level of their own"
        )
    if balanced:
        notes.append("classes weigh alike in the training")
    return notes


def _missing(frame: pd.DataFrame, column: Column) -> int:
    cells = frame[column.name]
    if column.kind == "number":
        return int(np.isnan(numbers(cells)).sum())
    if column.kind == "date":
        return int(dates(cells, column.format or "ISO8601").isna().sum())
    return int(words(cells).isna().sum())


def _target_note(table: Table, coded: Array, classes: tuple[Any, ...], split: Split) -> str:
    name = "" if table.target is None else str(table.target.name)
    if not classes:
        return f"target {name}: a number from {coded.min():.6g} to {coded.max():.6g}"
    counts = np.bincount(coded)
    shown = listed([f"{label} {count}" for label, count in zip(classes, counts, strict=True)])
    note = f"target {name}: {len(classes)} classes ({shown})"
    untested = sorted(set(range(len(classes))) - set(coded[split.test].tolist()))
    if untested:
        note += f"; too rare to be tested: {listed([str(classes[k]) for k in untested])}"
    return note
