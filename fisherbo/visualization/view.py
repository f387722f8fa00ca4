"""How a parameter's axis looks, and the slices of the search space that figures show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from fisherbo.errors import InvalidInputError
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.rotation import kernel_axes
from fisherbo.sampler.inspect import Inspection
from fisherbo.space import Array

_POINTS = 121


@dataclass(frozen=True)
class Axis:
    """One parameter's axis.

    Attributes:
        name: The parameter.
        index: Of its coordinate.
        grid: Coordinates to draw at, shape ``(g,)``.
        ticks: The parameter's values there.
        kind: "linear", "log" or "category".
    """

    name: str
    index: int
    grid: Array
    ticks: list[Any]
    kind: str

    def of(self, inspection: Inspection, x: Array) -> list[Any]:
        """The parameter's values at coordinates ``(b, d)``."""
        return [self.tick(inspection, row) for row in x]

    def tick(self, inspection: Inspection, x: Array) -> Any:
        """The parameter's value at coordinates ``(d,)``."""
        value = inspection.params(x)[self.name]
        return str(value) if self.kind == "category" else value


def axis(inspection: Inspection, name: str, points: int = _POINTS) -> Axis:
    """The axis of a parameter.

    Raises:
        InvalidInputError: The study has no such parameter that varies.
    """
    names = list(inspection.search_space)
    if name not in names:
        raise InvalidInputError(f"params must name parameters that vary, got {name!r}; of {names}")
    index, space = names.index(name), inspection.space
    levels = space.levels[index]
    line = np.tile(space.centre, (points, 1))
    line[:, index] = np.linspace(0, 1, points)
    if levels <= points:
        line = line[: int(levels)]
        steps = space.low[index] + np.arange(int(levels)) * space.step[index]
        line[:, index] = space.part(np.array([index])).to_unit(steps[:, None])[:, 0]
    categorical = isinstance(inspection.search_space[name], CategoricalDistribution)
    kind = "category" if categorical else "log" if space.log[index] else "linear"
    bare = Axis(name, index, line[:, index], [], kind)
    return Axis(name, index, line[:, index], bare.of(inspection, line), kind)


def chosen(inspection: Inspection, params: list[str] | None, most: int) -> list[str]:
    """The parameters asked for, or those of the shortest lengthscales."""
    if params is not None:
        return params
    names = list(inspection.search_space)
    return [names[j] for j in np.argsort(inspection.lengthscale(), kind="stable")[:most]]


def through(inspection: Inspection, index: int, objective: int = 0) -> Array:
    """The best observation at which a coordinate exists, for a slice along it, shape ``(d,)``."""
    x, _ = inspection.observed(objective)
    there = inspection.space.exists(x)[:, index]
    mean = inspection.surrogate(objective).mean(x)
    return x[int(np.argmax(np.where(there, mean, -np.inf)))]


def slice_points(at: Array, drawn: Axis) -> Array:
    """Points of a slice along an axis through ``at`` ``(d,)``, shape ``(g, d)``."""
    points = np.tile(at, (len(drawn.grid), 1))
    points[:, drawn.index] = drawn.grid
    return points


def nearness(inspection: Inspection, x: Array, at: Array, free: list[int]) -> Array:
    """Prior correlation of each point with its foot on the slice in some directions, ``(n,)``."""
    lengthscale, rotation = kernel_axes(inspection.surrogate())
    embedding = Embedding.of(lengthscale, inspection.space.kinds, rotation)
    foot = np.tile(at, (len(x), 1))
    foot[:, free] = x[:, free]
    gaps = [distance(embedding(a[None]), embedding(b[None])) for a, b in zip(x, foot, strict=True)]
    return matern(np.concatenate(gaps))[0][:, 0]


def value_kind(values: Array) -> str:
    """Scale for values: logarithmic where they are positive and span a thousandfold."""
    finite = values[np.isfinite(values)]
    wide = len(finite) > 0 and finite.min() > 0 and finite.max() > 1e3 * finite.min()
    return "log" if wide else "linear"
