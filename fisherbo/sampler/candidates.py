"""A list of candidates: the only points that may be evaluated, each of them once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.input_constraints import Rule, may_have
from fisherbo.sampler.optuna_private import contains
from fisherbo.sampler.search_space import ABSENT, SearchSpace, from_columns, to_space
from fisherbo.sampler.trials import CANDIDATE, Status, TrialTable
from fisherbo.space import Array, Integers, Mask, RowIndex

if TYPE_CHECKING:
    import pandas

CandidateList: TypeAlias = "pandas.DataFrame | Sequence[Mapping[str, Any]]"
"""Rows with a value of each parameter, or without it where the objective does not ask for it."""

_NOWHERE = -99.5  # trials so far outside do not count
_EXACT = 1e-9  # a value on the grid is no farther from it, in widths of the range


@dataclass(frozen=True)
class Located:
    """Rows in the coordinates of some parameters.

    Attributes:
        x: Coordinates, NaN where a row lacks a parameter, shape ``(n, d)``.
        outside: Which rows have a value outside the range, by name, for those that have any.
        index: Finds rows of ``comparable(x)``.
        complete: Whether no row lacks any.
    """

    x: Array
    outside: Mapping[str, Mask]
    index: RowIndex
    complete: bool


def comparable(x: Array) -> Array:
    """Coordinates with a number that none has in place of NaN."""
    return np.where(np.isnan(x), _NOWHERE, x)


class Candidates:
    """Rows of a list of candidates; equal ones count once.

    Args:
        columns: Values of each parameter, :data:`ABSENT` where a row lacks it, by name.
        number: Positions of the rows in the user's list, shape ``(n,)``.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], number: Integers) -> None:
        self._columns = columns
        self._number = number
        self._kept: tuple[Any, Located | None] = ((), None)
        self._texts: dict[int, str] = {}  # both save time only

    def __reduce__(self) -> tuple[type[Candidates], tuple[Mapping[str, Sequence[Any]], Integers]]:
        return Candidates, (self._columns, self._number)

    def __len__(self) -> int:
        return len(self._number)

    def params(self, row: int) -> dict[str, Any]:
        """The parameters of a row."""
        values = {name: column[row] for name, column in self._columns.items()}
        return {name: value for name, value in values.items() if value is not ABSENT}

    def agree(self, values: Mapping[str, Any]) -> Mask:
        """Which rows contradict none of some values, shape ``(n,)``."""
        agree = np.ones(len(self), dtype=bool)
        for name in values.keys() & self._columns.keys():
            value = values[name]
            agree &= [v is ABSENT or bool(v == value) for v in self._columns[name]]
        return agree

    def require_agreeing(self, values: Mapping[str, Any]) -> Mask:
        """The same.

        Raises:
            InvalidInputError: If there are none.
        """
        agree = self.agree(values)
        if not agree.any():
            raise InvalidInputError(
                f"some candidate must agree with the values that are enqueued or fixed, {values}, "
                f"got none among {len(self)}; add one, or leave these values out"
            )
        return agree

    def text(self, row: int) -> str:
        """What a trial keeps of its row: the position, and a digest that tells other lists."""
        if row not in self._texts:
            values = sorted((name, _plain(value)) for name, value in self.params(row).items())
            digest = hashlib.sha256(repr(values).encode()).hexdigest()
            self._texts[row] = f"{self._number[row]}:{digest[:16]}"
        return self._texts[row]

    def chosen(self, trial: FrozenTrial) -> int | None:
        """The row that a trial has chosen; None if none, or if it is not of this list."""
        text = trial.system_attrs.get(CANDIDATE)
        if not isinstance(text, str) or not text:
            return None
        position = int(text.partition(":")[0])
        row = int(np.searchsorted(self._number, position))
        known = row < len(self) and self._number[row] == position
        return row if known and self.text(row) == text else None

    def value(self, row: int, name: str, distribution: BaseDistribution) -> Any:
        """A row's value of a parameter, as the distribution has it.

        Raises:
            InvalidInputError: If the row lacks the parameter, or the distribution the value.
        """
        value = self._columns.get(name, [ABSENT] * len(self))[row]
        if value is ABSENT:
            raise InvalidInputError(
                f"candidates must have all parameters that the objective asks for, got row "
                f"{self._number[row]} without {name!r}: {self.params(row)}; add it to the row"
            )
        if not _has(distribution, value):
            raise self._unfit(row, name, distribution)
        return distribution.to_external_repr(distribution.to_internal_repr(value))

    def values(self, row: int, search_space: SearchSpace) -> dict[str, Any]:
        """A row's values of those parameters that it has and whose range contains them."""
        params = self.params(row)
        return {
            name: self.value(row, name, d)
            for name, d in search_space.items()
            if name in params and _has(d, params[name])
        }

    def located(
        self,
        table: TrialTable,
        trials: Sequence[FrozenTrial],
        parameters: SearchSpace,
        constant: SearchSpace,
    ) -> TrialTable:
        """The table, with running trials at the rows that they have chosen.

        Args:
            table: The trials.
            trials: The same.
            parameters: Of the columns.
            constant: Parameters that have one value only.

        Raises:
            InvalidInputError: If a row has a value that no trial's range of that parameter has.
        """
        x = self.points(parameters).x
        self._require_fits(parameters, constant, trials)
        at = table.x.copy()
        for i in table.have(Status.RUNNING).nonzero()[0].tolist():
            if (row := self.chosen(trials[i])) is not None:
                at[i] = x[row]
        return replace(table, x=at)

    def points(self, parameters: SearchSpace) -> Located:
        """The rows in the coordinates of some parameters."""
        key = tuple(parameters.items())
        known, located = self._kept
        if located is None or known != key:
            space = to_space(parameters)
            x = from_columns(space, parameters, self._columns, len(self))
            off = ~(np.abs(x - space.snap(np.where(np.isnan(x), 0.0, x))) <= _EXACT)
            for j, name in enumerate(parameters):
                off[:, j] &= [v is not ABSENT for v in self._columns.get(name, ())] or False
            outside = {name: off[:, j] for j, name in enumerate(parameters) if off[:, j].any()}
            located = Located(x, outside, RowIndex(comparable(x)), not np.isnan(x).any())
            self._kept = key, located
        return located

    def _require_fits(
        self, parameters: SearchSpace, constant: SearchSpace, trials: Sequence[FrozenTrial]
    ) -> None:
        """Pass if the ranges contain the rows' values, except those that vary between trials."""
        for name, rows in self.points(parameters).outside.items():
            self._refuse(rows, name, parameters[name], trials)
        for name, distribution in constant.items():
            column = self._columns.get(name, ())
            unfit = [v is not ABSENT and not _has(distribution, v) for v in column]
            self._refuse(np.array(unfit, dtype=bool), name, distribution, trials)

    def _refuse(
        self,
        unfit: Mask,
        name: str,
        distribution: BaseDistribution,
        trials: Sequence[FrozenTrial],
    ) -> None:
        told = (t.distributions[name] for t in trials if name in t.distributions)
        if unfit.any() and all(d == distribution for d in told):
            raise self._unfit(int(np.argmax(unfit)), name, distribution)

    def _unfit(self, row: int, name: str, distribution: BaseDistribution) -> InvalidInputError:
        value = self._columns[name][row]
        return InvalidInputError(
            f"candidates must lie in the objective's ranges, got {name!r} = {value!r} in row "
            f"{self._number[row]}, which is not in {_range(distribution)}; leave the row out, or "
            "widen the range"
        )


def read_candidates(given: Any, rule: Rule | None) -> Candidates | None:
    """The rows of a DataFrame or a sequence of mappings that a rule allows; None without any list.

    In a DataFrame, a missing value is a parameter that the row lacks.

    Raises:
        InvalidInputError: If the rule allows none of them.
    """
    if given is None:
        return None
    columns = _columns(given)
    rows = list(zip(*columns.values(), strict=True))
    number = list({_identity(row): i for i, row in reversed(list(enumerate(rows)))}.values())
    kept = sorted(number)
    if rule is not None:
        kept = [i for i in kept if may_have(rule, _there(columns, rows[i]))]
    if not kept:
        raise InvalidInputError(
            f"input_constraints must allow some of the {len(rows)} candidates, got none; check the "
            "rule"
        )
    columns = {name: [column[i] for i in kept] for name, column in columns.items()}
    return Candidates(columns, np.array(kept, dtype=np.int64))


def is_frame(given: Any) -> bool:
    """Whether something is a pandas DataFrame, without an import of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def _columns(given: Any) -> dict[str, list[Any]]:
    """Values by name, in the order of the names."""
    if is_frame(given):
        return {name: _without_missing(given[name]) for name in sorted(given.columns)}
    names = sorted({name for row in given for name in row})
    return {name: [_python(row.get(name, ABSENT)) for row in given] for name in names}


def _without_missing(series: Any) -> list[Any]:
    missing = series.isna().tolist()
    values = zip(series.tolist(), missing, strict=True)
    return [ABSENT if lacks else _python(value) for value, lacks in values]


def _there(columns: Mapping[str, Any], row: Sequence[Any]) -> dict[str, Any]:
    return {n: v for n, v in zip(columns, row, strict=True) if v is not ABSENT}


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _plain(value: Any) -> Any:
    """The same text for 1 and 1.0, since a DataFrame turns one into the other."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _identity(row: tuple[Any, ...]) -> Any:
    """What equal rows have in common."""
    try:
        hash(row)
    except TypeError:
        return repr(row)
    return row


def _has(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution contains a value."""
    try:
        return contains(distribution, value)
    except (ValueError, TypeError):
        return False


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"the choices {list(distribution.choices)}"
    low, high, step = (getattr(distribution, name) for name in ("low", "high", "step"))
    within = f"[{low}, {high}]"
    return within if step is None or step == 1 else f"{within} in steps of {step}"
