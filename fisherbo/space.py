"""Frozen records that flow through the sampler: the search space and a proposal.

Every parameter is one coordinate of the unit cube. A discrete parameter (integer, stepped or
categorical) lives on grid points of its coordinate; a category's grid position is only its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from fisherbo.kinds import Array as Array
from fisherbo.kinds import Integers as Integers
from fisherbo.kinds import Kinds

Mask = NDArray[np.bool_]

_MOST_MOVES = 32  # ordered choices that may be far from each other in one move


@dataclass(frozen=True)
class Condition:
    """A coordinate that exists only where a discrete one, its parent, has certain values.

    Attributes:
        child: Index of the coordinate.
        parent: Index of its parent; where that does not exist, neither does the child.
        known: Coordinates of the parent, shape ``(k,)``; others count as the nearest of them.
        present: Where the child exists, shape ``(k,)``.
    """

    child: int
    parent: int
    known: Array
    present: Mask

    def holds(self, x: Array) -> Mask:
        """Whether the parent's value lets the child exist, shape ``(*b,)`` for ``(*b, d)``."""
        nearest = np.abs(x[..., self.parent, None] - self.known).argmin(-1)
        return self.present[nearest]


@dataclass(frozen=True)
class Space:
    """A box of ``d`` parameters, each mapped to [0, 1].

    A coordinate that does not exist at a point is at the centre, where all such points agree.

    Attributes:
        low: Smallest values, float64, shape ``(d,)``; 0 for a categorical.
        high: Largest values, shape ``(d,)``; number of choices − 1 for a categorical.
        step: Distance of neighbouring values, 0 where continuous, shape ``(d,)``.
        log: Where the coordinate is the logarithm of the value, shape ``(d,)``.
        categorical: Where the values are indices of unordered choices, shape ``(d,)``.
        conditions: Which coordinates exist where, parents before their children.
        held: Coordinates that points are moved to, NaN where they are free, shape ``(d,)``.
        ordinal: Where the values are indices of ordered choices, shape ``(d,)``; None: nowhere.
        vectors: Of the choices of some categorical coordinates (`Kinds`).
        simplices: Groups of continuous coordinates that are weights of a mixture (`Kinds`).
    """

    low: Array
    high: Array
    step: Array
    log: Mask
    categorical: Mask
    conditions: tuple[Condition, ...] = ()
    held: Array | None = None
    ordinal: Mask | None = None
    vectors: Mapping[int, Array] = field(default_factory=dict)
    simplices: tuple[Integers, ...] = ()

    @property
    def dimension(self) -> int:
        """Number of parameters ``d``."""
        return len(self.low)

    @cached_property
    def discrete(self) -> Mask:
        """Where a coordinate takes grid values only, shape ``(d,)``."""
        return self.step > 0

    @cached_property
    def free(self) -> Mask:
        """Where a coordinate is not held, shape ``(d,)``."""
        return np.ones(self.dimension, dtype=bool) if self.held is None else np.isnan(self.held)

    @cached_property
    def continuous(self) -> Mask:
        """Where a coordinate is free and takes any value, shape ``(d,)``."""
        return self.free & ~self.discrete

    @cached_property
    def levels(self) -> Array:
        """Number of values of each coordinate, ``inf`` where continuous, shape ``(d,)``."""
        step = np.where(self.discrete, self.step, 1.0)
        return np.where(self.discrete, np.floor((self.high - self.low) / step + 1e-9) + 1, np.inf)

    @cached_property
    def choices(self) -> Integers:
        """Number of choices of each categorical coordinate, 0 of any other, shape ``(d,)``."""
        return np.where(self.categorical, self.levels, 0.0).astype(np.int64)

    @cached_property
    def kinds(self) -> Kinds:
        """What the coordinates are to a kernel."""
        return Kinds(self.choices, self.vectors, self.simplices)

    @cached_property
    def listed(self) -> Mask:
        """Where the values are indices of choices, ordered or not, shape ``(d,)``."""
        return self.categorical if self.ordinal is None else self.categorical | self.ordinal

    @cached_property
    def chosen(self) -> Integers:
        """Indices of the categorical coordinates."""
        return self.categorical.nonzero()[0]

    @cached_property
    def uniform(self) -> Array:
        """Equal probabilities of the choices of each categorical one, ``(categorical, most)``."""
        count = self.choices[self.chosen][:, None]
        return (np.arange(max(self.choices.max(), 1)) < count) / np.maximum(count, 1)

    @cached_property
    def moves(self) -> tuple[Integers, Array]:
        """Moves by one discrete coordinate: which, and by how many levels, shapes ``(k,)``.

        Choices go in a circle: a category has all its others. An ordered coordinate has two
        neighbours, ordered choices all others, since users tell few.
        """
        moves = [(np.empty(0, dtype=np.int64), np.empty(0))]
        for j in self.discrete.nonzero()[0].tolist():
            shift = np.arange(1.0, self.choices[j]) if self.categorical[j] else np.array([-1.0, 1])
            if self.ordinal is not None and self.ordinal[j] and self.levels[j] <= _MOST_MOVES:
                far = np.arange(1.0, self.levels[j])
                shift = np.concatenate([-far, far])
            moves.append((np.full(len(shift), j), shift))
        column, shift = (np.concatenate(part) for part in zip(*moves, strict=True))
        return column, shift

    def to_unit(self, values: Array) -> Array:
        """Coordinates of parameter values, shape ``(*b, d)``; outside [0, 1] if outside the box."""
        return (self._transform(values) - self._start) / self._width

    def from_unit(self, x: Array) -> Array:
        """Parameter values nearest to ``x``, in the box and on its grid, shape ``(*b, d)``."""
        return self._onto_grid(self._untransform(self._start + np.clip(x, 0, 1) * self._width))

    def snap(self, x: Array) -> Array:
        """Coordinates moved into the cube and onto the grid, others centred, ``(*b, d)``."""
        inside = np.clip(x, 0, 1)
        index, spacing, last = self._even
        if len(index):
            inside[..., index] = spacing * np.minimum(np.rint(inside[..., index] / spacing), last)
        index, start, width, low, step, high = self._uneven
        if len(index):
            value = np.exp(start + inside[..., index] * width)
            value = np.minimum(low + step * np.rint((value - low) / step), high)
            inside[..., index] = (np.log(value) - start) / width
        return self.centred(inside)

    def exists(self, x: Array) -> Mask:
        """Which coordinates exist at points ``(*b, d)``."""
        exists = np.ones(x.shape, dtype=bool)
        for c in self.conditions:
            exists[..., c.child] = exists[..., c.parent] & c.holds(x)
        return exists

    def centred(self, x: Array) -> Array:
        """Points with coordinates held, and those that do not exist at the centre, ``(*b, d)``."""
        x = x if self.held is None else np.where(self.free, x, self.held)
        return np.where(self.exists(x), x, self.centre) if self.conditions else x

    def every_point(self, limit: int) -> Array | None:
        """All points of the grid, or None if some coordinate is continuous or they are too many."""
        count = np.where(self.free, self.levels, 1)
        if count.prod() > limit:
            return None
        each = [np.arange(k) for k in count.astype(np.int64)]
        index = np.stack(np.meshgrid(*each, indexing="ij"), -1).reshape(-1, self.dimension)
        step = np.where(self.discrete, self.step, 0.0)
        points = self.centred(self.to_unit(self.low + index * step))
        return points[distinct(points)[0]]

    @cached_property
    def centre(self) -> Array:
        """The centre of the cube, on the grid where discrete, shape ``(d,)``."""
        half = np.full(self.dimension, 0.5)
        return np.where(self.discrete, self.to_unit(self.from_unit(half)), half)

    def spread(self, u: Array) -> Array:
        """Uniform numbers as coordinates, grid values equally likely, shape ``(*b, d)``.

        Log integers are as likely as their half-step intervals are long on the log scale.
        """
        first, stretch = self._outer
        return self.snap(first + u * stretch)

    def part(self, index: Integers) -> Space:
        """The space of some of the coordinates."""
        return Space(
            self.low[index],
            self.high[index],
            self.step[index],
            self.log[index],
            self.categorical[index],
        )

    @cached_property
    def _outer(self) -> tuple[Array, Array]:
        """Where the half-step intervals of the values begin, and their length: 0, 1 if none."""
        first = self.to_unit(self.low - 0.5 * self.step)
        last = self.to_unit(self.high + 0.5 * self.step)
        return np.where(self.discrete, first, 0.0), np.where(self.discrete, last - first, 1.0)

    @cached_property
    def _even(self) -> tuple[Integers, Array, Array]:
        """Coordinates of even grids, the spacing of these and their last index."""
        index = (self.discrete & ~self.log).nonzero()[0]
        return index, (self.step / self._width)[index], self.levels[index] - 1

    @cached_property
    def _uneven(self) -> tuple[Integers, Array, Array, Array, Array, Array]:
        """Discrete log coordinates, their start and width, low, step and high values."""
        index = (self.discrete & self.log).nonzero()[0]
        parts = (self._start, self._width, self.low, self.step, self.high)
        start, width, low, step, high = (part[index] for part in parts)
        return index, start, width, low, step, high

    @cached_property
    def _start(self) -> Array:
        return self._transform(self.low)

    @cached_property
    def _width(self) -> Array:
        return np.maximum(self._transform(self.high) - self._start, 1e-300)

    @cached_property
    def _plain(self) -> bool:
        """Whether no coordinate is a logarithm."""
        return not self.log.any()

    def _transform(self, values: Array) -> Array:
        if self._plain:
            return values
        return np.where(self.log, np.log(np.where(self.log, values, 1.0)), values)

    def _untransform(self, t: Array) -> Array:
        if self._plain:
            return t
        return np.where(self.log, np.exp(np.where(self.log, t, 0.0)), t)

    def _onto_grid(self, values: Array) -> Array:
        if self.discrete.any():
            step = np.where(self.discrete, self.step, 1.0)
            grid = self.low + step * np.round((values - self.low) / step)
            values = np.where(self.discrete, grid, values)
        return np.clip(values, self.low, self.high)


@dataclass(frozen=True)
class Proposal:
    """A point chosen for evaluation.

    Attributes:
        x: Coordinates on the grid, shape ``(d,)``.
        utility: Value of the acquisition function there (log expected improvement, in nats).
    """

    x: Array
    utility: float


def distinct(x: Array) -> tuple[Integers, Integers]:
    """The first row of each group of equal rows of ``x`` ``(n, d)``, and the group of each row.

    Both in order of first appearance; shapes ``(g,)`` and ``(n,)``.
    """
    mark = (x * _weights(x.shape[1])).sum(1)  # equal for equal rows
    if len(set(mark.tolist())) == len(mark):
        return np.arange(len(mark)), np.arange(len(mark))
    _, first, group = np.unique(x, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[group]


class RowIndex:
    """Finds rows of ``x`` ``(n, d)``, in which there is no NaN, in O(d log n) each.

    Args:
        x: The rows.
    """

    def __init__(self, x: Array) -> None:
        self._x = x
        mark = (x * _weights(x.shape[1])).sum(1)  # equal for equal rows
        self._order = np.argsort(mark, kind="stable")
        self._mark = mark[self._order]

    def equal_to(self, rows: Array) -> Integers:
        """Indices of all that equal one of some rows ``(m, d)``."""
        mark = (rows * _weights(rows.shape[1])).sum(1)
        first = np.searchsorted(self._mark, mark, side="left").tolist()
        last = np.searchsorted(self._mark, mark, side="right").tolist()
        found: list[int] = []
        for row, i, j in zip(rows, first, last, strict=True):
            alike = self._order[i:j]
            found += alike[(self._x[alike] == row).all(1)].tolist()
        return np.array(found, dtype=np.int64)


@lru_cache(maxsize=64)
def _weights(d: int) -> Array:
    return np.random.default_rng(0).random(d)
