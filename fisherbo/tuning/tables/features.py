"""What a column becomes: numbers that are filled and scaled, or 0/1 columns and mean targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fisherbo.tuning.tables.values import Array, dates, numbers, words

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 4.0  # scaled values are cut there, so that a few far ones do not lead
YEAR, WEEK = 365.2425, 7.0
OTHER, NOTHING = "(other)", "(missing)"


def days_of(when: pd.Series) -> Array:
    """Days since 1970, with fractions; NaN where missing."""
    import pandas as pd

    return ((when - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


_PARTS: dict[str, Callable[[pd.Series], Array]] = {
    "days": lambda when: days_of(when),
    "year sin": lambda when: np.sin(2 * np.pi * days_of(when) / YEAR),
    "year cos": lambda when: np.cos(2 * np.pi * days_of(when) / YEAR),
    "week sin": lambda when: np.sin(2 * np.pi * np.floor(days_of(when)) / WEEK),
    "week cos": lambda when: np.cos(2 * np.pi * np.floor(days_of(when)) / WEEK),
    "day sin": lambda when: np.sin(2 * np.pi * days_of(when)),
    "day cos": lambda when: np.cos(2 * np.pi * days_of(when)),
}


@dataclass(frozen=True)
class Number:
    """One number a row.

    Attributes:
        column: where it is from.
        part: of a date, one of `_PARTS`; else empty.
        format: of a date.
        median: for missing values.
        holes: whether training rows had missing values, and a column says where.
        centre, scale: of the filled values.
    """

    column: str
    part: str = ""
    format: str = ""
    median: float = 0.0
    holes: bool = False
    centre: float = 0.0
    scale: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        name = f"{self.column} {self.part}".strip()
        return (name, f"{self.column} missing") if self.holes else (name,)

    def raw(self, frame: pd.DataFrame) -> Array:
        """Values (n,) in their own units, NaN where missing."""
        if self.part:
            return _PARTS[self.part](dates(frame[self.column], self.format))
        return numbers(frame[self.column])

    def filled(self, frame: pd.DataFrame) -> Array:
        """Values (n, 1) or, with those that say where there was none, (n, 2)."""
        values = self.raw(frame)
        holes = np.isnan(values)
        values = np.where(holes, self.median, values)
        return np.column_stack([values, holes] if self.holes else [values])

    def encoded(self, frame: pd.DataFrame) -> Array:
        """The same, scaled."""
        found = self.filled(frame)
        scaled = (found[:, 0] - self.centre) / self.scale
        found[:, 0] = np.clip(scaled, -LARGEST, LARGEST)
        return found


@dataclass(frozen=True)
class Category:
    """One of several words a row.

    Attributes:
        column: where it is from.
        levels: those with a 0/1 column of their own; `OTHER` stands for all others.
        means: the mean targets of more levels; empty where there are few.
        overall: those of all rows, for levels that training rows did not have.
    """

    column: str
    levels: tuple[str, ...]
    means: Mapping[str, tuple[float, ...]]
    overall: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        return (
            *(f"{self.column}={level}" for level in self._shown),
            *(f"{self.column} mean target {k}" for k in range(len(self.overall))),
        )

    @property
    def _shown(self) -> tuple[str, ...]:
        """Levels with a column; of two one says all."""
        return self.levels[:1] if len(self.levels) == 2 else self.levels

    def read(self, frame: pd.DataFrame) -> Array:
        """The words (n,), those that are missing by their name."""
        return words(frame[self.column]).fillna(NOTHING).to_numpy(dtype=object)

    def named(self, frame: pd.DataFrame) -> Array:
        """The words (n,), those that are no level as `OTHER`."""
        found = self.read(frame)
        return np.where(np.isin(found, self.levels), found, OTHER)

    def encoded(self, frame: pd.DataFrame) -> Array:
        """0/1 columns and mean targets."""
        read, named = self.read(frame), self.named(frame)
        columns = [named == level for level in self._shown]
        if self.overall:
            means = np.array([self.means.get(word, self.overall) for word in read])
            columns += list(means.reshape(len(read), -1).T)
        return np.column_stack(columns).astype(np.float64)


Feature = Number | Category
