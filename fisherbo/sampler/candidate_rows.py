"""Rows of a list of candidates that may be proposed for one trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.acquisition.feasibility import allowed, unrestricted
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.sampler.candidates import Candidates, comparable
from fisherbo.sampler.search_space import SearchSpace
from fisherbo.sampler.trials import Status, TrialTable, status_of
from fisherbo.space import Array, Integers, RowIndex, Space

_BATCH = 2048  # rows whose acquisition is computed at a time
_FEW = 16
_EXACT = 1e-9  # equal choices are no farther apart


@dataclass(frozen=True)
class CandidateRows:
    """Rows that may be proposed for a trial.

    Attributes:
        x: Their coordinates, shape ``(m, d)``, ``m`` at least 1.
        row: Their indices among the candidates, shape ``(m,)``.
        repeated: Whether they were all evaluated already, or are under evaluation.
    """

    x: Array
    row: Integers
    repeated: bool

    def best(self, acquisition: Acquisition) -> tuple[Array, float]:
        """The row of largest acquisition, ``(d,)``, and its value; in O(m n²), in batches.

        Restrictions are looked at only for the best rows, until one is allowed.
        """
        inner = unrestricted(acquisition)
        value = self._value(inner)
        best = int(np.argmax(value))
        if allowed(acquisition, self.x[best : best + 1]).all():
            return self.x[best], float(value[best])
        order = np.argsort(-value, kind="stable")
        found = _first_allowed(acquisition, self.x, order)
        return (self.x[best], -np.inf) if found is None else (self.x[found], float(value[found]))

    def leaders(self, acquisition: Acquisition, count: int) -> Array:
        """The rows of largest acquisition, the best first, shape ``(≤ count, d)``."""
        return self.x[np.argsort(-self._value(acquisition), kind="stable")[:count]]

    def _value(self, acquisition: Acquisition) -> Array:
        parts = (self.x[i : i + _BATCH] for i in range(0, len(self.x), _BATCH))
        return np.concatenate([acquisition.value(part) for part in parts])

    def nearest(self, point: Array, space: Space) -> Array:
        """The row nearest to a point ``(d,)`` of the unit cube; choices differ by 0 or 1."""
        apart = np.abs(self.x - point)
        apart[:, space.chosen] = apart[:, space.chosen] > _EXACT
        return self.x[int(np.argmin((apart**2).sum(1)))]

    def at(self, x: Array) -> int:
        """The index among the candidates of the first row at ``x`` ``(d,)``."""
        return int(self.row[int(np.argmax((self.x == x).all(1)))])

    def without(self, x: Array) -> CandidateRows:
        """The other rows than those at ``x`` ``(d,)``; all if there are none."""
        others = ~(self.x == x).all(1)
        return replace(self, x=self.x[others], row=self.row[others]) if others.any() else self


def _first_allowed(acquisition: Acquisition, x: Array, order: Integers) -> int | None:
    """The first of rows ``(m, d)`` in some order where an acquisition is not restricted."""
    i, count = 0, _FEW
    while i < len(order):
        some = order[i : i + count]
        holds = allowed(acquisition, x[some])
        if holds.any():
            return int(some[np.argmax(holds)])
        i, count = i + count, min(4 * count, _BATCH)
    return None


def rows_of(
    candidates: Candidates,
    target: Space,
    table: TrialTable,
    trials: Sequence[FrozenTrial],
    parameters: SearchSpace,
    given: Mapping[str, Any],
) -> CandidateRows:
    """The rows that may be proposed: those not evaluated yet, or all if every one was.

    A row counts as evaluated if a trial chose it, or has its values in all parameters that exist
    there. Rows of trials that failed by themselves are not proposed again, those of killed workers
    are.

    Args:
        candidates: The list.
        target: The space, with the coordinates held that are not to be chosen.
        table: The trials, with running ones at their rows.
        trials: The same.
        parameters: Of the space.
        given: Values that the trial has or will have, whatever is proposed.

    Raises:
        InvalidInputError: If no row agrees with the values given.
    """
    allowed = candidates.require_agreeing(given)
    located = candidates.points(parameters)
    x, index = located.x, located.index
    if not located.complete:
        x = np.where(np.isnan(x), target.centre, x)
    x = target.centred(x)
    if target.conditions:
        index = RowIndex(comparable(np.where(target.exists(x), located.x, np.nan)))
    fresh = allowed.copy()
    fresh[index.equal_to(comparable(table.x[~table.have(Status.KILLED)]))] = False
    fresh[_chosen(candidates, trials)] = False
    repeated = not fresh.any()
    row = (allowed if repeated else fresh).nonzero()[0]
    return CandidateRows(x[row], row, repeated)


def first_row(
    candidates: Candidates,
    trials: Iterable[FrozenTrial],
    given: Mapping[str, Any],
    wanted: Mapping[str, Any],
    rng: np.random.Generator,
) -> tuple[int, bool]:
    """A row drawn at random, where no parameter has a known range, and whether it is a repetition.

    Args:
        candidates: The list.
        trials: The other trials.
        given: Values that the trial has or will have, whatever is proposed.
        wanted: Values that are preferred.
        rng: Source of randomness.

    Raises:
        InvalidInputError: If no row agrees with the values given.
    """
    allowed = candidates.require_agreeing(given)
    fresh = allowed.copy()
    fresh[_chosen(candidates, trials)] = False
    repeated = not fresh.any()
    rows = allowed if repeated else fresh
    preferred = rows & candidates.agree(wanted) if wanted else rows
    rows = preferred if preferred.any() else rows
    return int(rng.choice(rows.nonzero()[0])), repeated


def _chosen(candidates: Candidates, trials: Iterable[FrozenTrial]) -> list[int]:
    """Rows that trials have chosen, but not those of killed workers."""
    found = (candidates.chosen(t) for t in trials if status_of(t) != Status.KILLED)
    return [row for row in found if row is not None]
