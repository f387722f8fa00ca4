"""What the files of experiments/results say: their tables as cells, and their lines as text.

A place in a file is written as words between ``>``:

    latency > fisher; 5; 50 > median             row by cells that it has, then the column
    kfac > transformer: > SOAP > steps           a table of the file by the start of its title
    rotation > f010 > at 100 #2                  the second number of the cell
    kfac > CPU ms > * > K-FAC / Adam > max       min or max over all rows of the table
    botorch > "All problems:" #2                 the second number after words that are there once
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NUMBER = re.compile(r"(?<![\w.])[−+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[−+-]?\d+)?")
_OVER_ROWS: dict[str, Callable[[Sequence[str]], str]] = {
    "min": lambda cells: min(cells, key=number),
    "max": lambda cells: max(cells, key=number),
}


@dataclass(frozen=True)
class ResultTable:
    """A table as a result file prints it.

    Attributes:
        title: The line above it.
        columns: Names of the columns.
        rows: Cells, as texts.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def row(self, *having: str) -> tuple[str, ...]:
        """The one row that has all of these cells.

        Raises:
            LookupError: There is none, or there are several.
        """
        found = [row for row in self.rows if set(having) <= set(row)]
        if len(found) != 1:
            raise LookupError(f"table {self.title!r} has {len(found)} rows with {having}, not one")
        return found[0]

    def cell(self, having: str | Sequence[str], column: str) -> str:
        """A cell by cells of its row and by its column."""
        having = (having,) if isinstance(having, str) else having
        return self.row(*having)[self._index(column)]

    def column(self, column: str) -> list[str]:
        """All cells of a column."""
        return [row[self._index(column)] for row in self.rows]

    def _index(self, column: str) -> int:
        if column not in self.columns:
            raise LookupError(f"table {self.title!r} has no column {column!r}: {self.columns}")
        return self.columns.index(column)


@cache
def text(name: str) -> str:
    """What a file says."""
    return (RESULTS / f"{name}.md").read_text()


def stamp(name: str) -> str:
    """The line of a file that says when and with what it was made."""
    return next(line for line in text(name).splitlines() if line.startswith("Written on "))


@cache
def tables(name: str) -> tuple[ResultTable, ...]:
    """The tables of a file."""
    return parsed(text(name))


def parsed(printed: str) -> tuple[ResultTable, ...]:
    """The tables of a text as a console prints them."""
    found, title, header, rows = [], "", list[list[str]](), list[list[str]]()
    for line in printed.splitlines():
        if line.startswith("┏"):
            header, rows = [], []
        elif line.startswith("┃"):
            header.append(_cells(line, "┃"))
        elif line.startswith("│"):
            _add(rows, _cells(line, "│"))
        elif line.startswith("└"):
            columns = tuple(" ".join(filter(None, parts)) for parts in zip(*header, strict=True))
            found.append(ResultTable(title, columns, tuple(map(tuple, rows))))
        elif not line.startswith(("┡", "├")):
            title = line.strip()
    return tuple(found)


def _cells(line: str, bar: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip(bar).split(bar)]


def _add(rows: list[list[str]], cells: list[str]) -> None:
    """A new row, or further lines of the cells of the last one, whose first cell is empty."""
    if rows and not cells[0]:
        rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
    else:
        rows.append(cells)


def table(name: str, title: str = "") -> ResultTable:
    """The first table of a file whose title begins so.

    Raises:
        LookupError: There is none.
    """
    for found in tables(name):
        if found.title.startswith(title):
            return found
    raise LookupError(f"{name}.md has no table {title!r}")


def number(cell: str, which: int = 1) -> float:
    """The number of a cell; of "30 [25, 55]" the second is 25.

    Raises:
        LookupError: It has not so many.
    """
    found = NUMBER.findall(cell.replace("inf", "1e999"))
    if len(found) < which:
        raise LookupError(f"{cell!r} has no number {which}")
    return float(found[which - 1].replace(",", "").replace("−", "-"))


def looked_up(place: str) -> float:
    """The number at a place.

    Raises:
        LookupError: There is no such file, table, row, column or number.
    """
    name, *parts = [part.strip() for part in place.split(">")]
    if not (RESULTS / f"{name}.md").exists():
        raise LookupError(f"there is no file {name}.md")
    if parts[0].startswith('"'):
        words, _, which = parts[0].partition(" #")
        _, *after = text(name).split(words.strip('"'))
        if len(after) != 1:
            raise LookupError(f"{name}.md says {words} {len(after)} times, not once")
        return number(after[0], int(which or 1))
    if parts[-1] in _OVER_ROWS:
        title, _, column, over = parts
        return number(_OVER_ROWS[over](table(name, title).column(column)))
    *titles, row, column = parts
    column, _, which = column.partition(" #")
    having = [cell.strip() for cell in row.split(";")]
    cell = table(name, *titles).cell(having, column)
    return number(cell, int(which or 1))
