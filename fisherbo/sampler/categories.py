"""Order and distances of categories, as users tell them, and as the model takes them.

Optuna's categories are unordered. A user may know more: sizes have an order, and kernels or
optimizers may be more or less alike. Described distributions take the place of Optuna's in the
model; Optuna itself and the storage see its own. Numbers in rising or falling order are ordered
unless the user says that they are not: on tuning surfaces that gains (`experiments.categories`).

Distances become vectors by classical multidimensional scaling (Torgerson 1952): with D the
distances of k choices and J = I − 11ᵀ/k, the vectors are the rows of V √Λ of −½ J D² J = V Λ Vᵀ.
Negative eigenvalues, which distances of no points in space have, are set to 0: the nearest positive
semi-definite matrix (Higham 1988), so that the kernel stays positive definite.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.lapack import eigh
from fisherbo.space import Array

UNORDERED = "unordered"
_LEAST = 3  # numbers that are taken as ordered; two are as far apart in either way
_MOST_STRESS = 0.25  # of distances that vectors reproduce; beyond, they mean something else


@dataclass(frozen=True)
class Ordered:
    """Choices of a categorical parameter in their order.

    Attributes:
        choices: The choices.
    """

    choices: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances of the choices of a categorical parameter, as distances of vectors.

    Attributes:
        choices: The choices; None where they are in the order of `suggest_categorical`.
        vectors: Shape ``(k, e)``; the root mean square of their distances is 1.
    """

    choices: tuple[Any, ...] | None
    vectors: Array


Description = Ordered | Distances | str
"""What a user tells of the choices of one parameter; a text is `UNORDERED`."""

Categories = Mapping[str, Description]


def ordered(*choices: Any) -> Ordered:
    """Choices of a categorical parameter in their order, for ``FisherSampler(categories=...)``.

    The model treats the choices as whole numbers: neighbours are similar, and the lengthscale says
    how similar. All steps have the same length; if yours have not, give distances instead.

    Args:
        choices: All choices, from one end to the other; which end is first does not matter.

    Raises:
        InvalidInputError: If there are fewer than two, or one is there twice.

    Example:
        >>> import fisherbo
        >>> sampler = fisherbo.FisherSampler(categories={"size": fisherbo.ordered("s", "m", "l")})
    """
    if len(choices) < 2:
        raise InvalidInputError(
            f"ordered needs at least two choices, got {choices!r}; pass them one by one: "
            "ordered('s', 'm', 'l')"
        )
    _require_distinct("ordered", choices)
    return Ordered(choices)


class OrderedDistribution(CategoricalDistribution):
    """Ordered choices."""


class DistanceDistribution(CategoricalDistribution):
    """Choices with vectors, shape ``(k, e)``, whose distances are theirs."""

    def __init__(self, choices: Sequence[Any], vectors: Array) -> None:
        super().__init__(choices)
        self.vectors = vectors

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DistanceDistribution) or self.choices != other.choices:
            return False
        return np.array_equal(self.vectors, other.vectors)

    __hash__ = CategoricalDistribution.__hash__


def read_categories(categories: Mapping[str, Any] | None) -> Categories:
    """Descriptions of parameters from what a user passes.

    Raises:
        InvalidInputError: If one is none.
    """
    if categories is not None and not isinstance(categories, Mapping):
        raise InvalidInputError(
            f"categories must be a mapping from names of parameters, got {categories!r}; pass for "
            "example {'size': fisherbo.ordered('s', 'm', 'l')}"
        )
    return {name: _description(name, told) for name, told in (categories or {}).items()}


def described(
    search_space: Mapping[str, BaseDistribution], categories: Categories
) -> dict[str, BaseDistribution]:
    """The search space with the distributions of described parameters replaced.

    Three or more numbers, rising or falling, are taken as ordered unless the user says otherwise.

    Raises:
        InvalidInputError: If a description does not fit the parameter.
    """
    return {
        name: _described(name, d, categories[name]) if name in categories else _guessed(d)
        for name, d in search_space.items()
    }


def labels(search_space: Mapping[str, BaseDistribution]) -> tuple[str, ...]:
    """Names of the parameters, with what a lengthscale of a described one is about."""
    kinds = {OrderedDistribution: ":ordered", DistanceDistribution: ":distances"}
    return tuple(name + kinds.get(type(d), "") for name, d in search_space.items())


def unknown(categories: Categories, names: Mapping[str, Any]) -> str | None:
    """A warning of described parameters that no trial has; None where there is none."""
    missing = sorted(categories.keys() - names.keys())
    if not missing:
        return None
    return (
        f"categories describes {missing}, of which no trial has had a choice yet; the parameters "
        f"are {sorted(names)}. Check the spelling, unless they exist under a rare condition."
    )


def _description(name: str, told: Any) -> Description:
    if isinstance(told, Ordered | Distances) or (isinstance(told, str) and told == UNORDERED):
        return told
    if isinstance(told, Mapping):
        return _from_pairs(name, told)
    try:
        matrix = np.array(told, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if isinstance(told, str) or matrix.ndim != 2:
        raise InvalidInputError(
            f"categories[{name!r}] must be fisherbo.ordered(...), a matrix of distances, a mapping "
            f"from pairs of choices to distances, or {UNORDERED!r}; got {told!r}"
        )
    return Distances(None, vectors_of(name, matrix))


def _from_pairs(name: str, told: Mapping[Any, Any]) -> Distances:
    """Distances by pairs of choices, each pair once or both ways."""
    for pair in told:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidInputError(
                f"categories[{name!r}] must map pairs of choices to distances, got the key "
                f"{pair!r}; write {{('a', 'b'): 1.0, ...}}"
            )
    choices = tuple(dict.fromkeys(itertools.chain.from_iterable(told)))
    matrix = np.zeros((len(choices), len(choices)))
    for (i, a), (j, b) in itertools.combinations(enumerate(choices), 2):
        found = [told[pair] for pair in ((a, b), (b, a)) if pair in told]
        if not found:
            raise InvalidInputError(
                f"categories[{name!r}] must have the distance of every two choices, got none of "
                f"{a!r} and {b!r}; add ({a!r}, {b!r})"
            )
        matrix[i, j], matrix[j, i] = found[0], found[-1]
    for i, a in enumerate(choices):
        matrix[i, i] = told.get((a, a), 0.0)
    return Distances(choices, vectors_of(name, matrix))


def vectors_of(name: str, matrix: Array) -> Array:
    """Vectors with distances in proportion to a matrix's, root mean square 1, shape ``(k, e)``.

    Raises:
        InvalidInputError: If the matrix holds no distances, or none that vectors can have.
    """
    problem = _problem(matrix)
    if problem:
        raise InvalidInputError(
            f"the distances of categories[{name!r}] must be a symmetric matrix, zero on its "
            f"diagonal and positive elsewhere, a row for each choice; got {problem}"
        )
    k = len(matrix)
    pairs = np.triu_indices(k, 1)
    matrix = matrix / math.sqrt(np.mean(matrix[pairs] ** 2))
    centring = np.eye(k) - 1 / k
    values, axes = eigh(-0.5 * centring @ matrix**2 @ centring)
    kept = values > 1e-12 * values[-1]
    vectors = axes[:, kept] * np.sqrt(values[kept])
    reached = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    stress = math.sqrt(np.mean((reached - matrix)[pairs] ** 2))
    if stress > _MOST_STRESS:
        raise InvalidInputError(
            f"the distances of categories[{name!r}] must be near those of points in space, got "
            f"some that differ by {stress:.0%} (root mean square) from the nearest such; their "
            "square roots may be, or leave the parameter unordered"
        )
    scaled: Array = vectors / math.sqrt(np.mean(reached[pairs] ** 2))
    return scaled


def _problem(matrix: Array) -> str | None:
    """What is wrong with a matrix of distances."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        return f"the shape {matrix.shape}"
    if not np.isfinite(matrix).all():
        return "an entry that is not finite"
    if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=0.0):
        return "one that is not symmetric"
    if matrix.diagonal().any():
        return f"the diagonal {matrix.diagonal().tolist()}"
    least = float(matrix[np.triu_indices(len(matrix), 1)].min())
    return None if least > 0 else f"the distance {least:g} of two choices"


def _described(name: str, distribution: BaseDistribution, told: Description) -> BaseDistribution:
    if not isinstance(distribution, CategoricalDistribution):
        raise InvalidInputError(
            f"categories describes {name!r}, which must be a categorical parameter, got "
            f"{distribution!r}; ask for it by suggest_categorical, or leave it out of categories"
        )
    if isinstance(told, str) or distribution.single():
        return distribution
    if isinstance(told, Ordered):
        _places(name, distribution, told.choices)
        return OrderedDistribution(told.choices)
    if told.choices is not None:
        places = _places(name, distribution, told.choices)
        return DistanceDistribution(distribution.choices, told.vectors[places])
    if len(told.vectors) != len(distribution.choices):
        raise InvalidInputError(
            f"the distances of categories[{name!r}] must have a row for each of the choices "
            f"{distribution.choices}, got {len(told.vectors)}; their order is that of the choices"
        )
    return DistanceDistribution(distribution.choices, told.vectors)


def _guessed(distribution: BaseDistribution) -> BaseDistribution:
    """Choices in the order of their numbers, if they have one that whoever wrote them kept to."""
    if type(distribution) is not CategoricalDistribution or len(distribution.choices) < _LEAST:
        return distribution
    numbers: list[Any] = [c for c in distribution.choices if _is_number(c)]
    if len(numbers) < len(distribution.choices):
        return distribution
    rises = [b > a for a, b in itertools.pairwise(numbers)]
    falls = [b < a for a, b in itertools.pairwise(numbers)]
    return OrderedDistribution(distribution.choices) if all(rises) or all(falls) else distribution


def _is_number(choice: Any) -> bool:
    return isinstance(choice, int | float) and not isinstance(choice, bool)


def _places(
    name: str, distribution: CategoricalDistribution, choices: tuple[Any, ...]
) -> list[int]:
    """Where each choice of the study is among those that are described."""
    places = [_place(choice, choices) for choice in distribution.choices]
    missing = [c for c, p in zip(distribution.choices, places, strict=True) if p is None]
    further = [c for i, c in enumerate(choices) if i not in places]
    if missing or further:
        raise InvalidInputError(
            f"categories[{name!r}] must describe the choices {distribution.choices} that the study "
            f"has, got {choices!r}: " + _difference(missing, further)
        )
    return [p for p in places if p is not None]


def _difference(missing: list[Any], further: list[Any]) -> str:
    parts = [f"add {missing}"] if missing else []
    return " and ".join([*parts, *([f"remove {further}"] if further else [])])


def _place(choice: Any, choices: Sequence[Any]) -> int | None:
    same = (i for i, c in enumerate(choices) if _equal(c, choice))
    return next(same, None)


def _equal(a: Any, b: Any) -> bool:
    """Whether two choices are the same: 1 and True are not, 1 and 1.0 are, NaN and NaN are."""
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    return bool(a == b) or (a != a and b != b)  # noqa: PLR0124


def _require_distinct(what: str, choices: Sequence[Any]) -> None:
    for i, choice in enumerate(choices):
        if _place(choice, choices[:i]) is not None:
            raise InvalidInputError(
                f"{what} must have each choice once, got {choice!r} twice in {tuple(choices)!r}"
            )
