"""Input constraints, known beforehand: which points a user's rule allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.search_space import SearchSpace, to_params, to_space
from fisherbo.space import Array, Mask, Space

Rule = Callable[[dict[str, Any]], bool]
"""Parameters that exist at a point, by name, to whether the point may be evaluated."""

_BLOCK = 256
_BLOCKS = 64
_ENOUGH = 128
_DRAWS = 4096


@dataclass(frozen=True)
class InputConstraint:
    """A user's rule on the points of a space.

    Attributes:
        rule: The rule.
        space: The space.
        search_space: Its parameters.
        constant: Parameters that have one value only.
    """

    rule: Rule
    space: Space
    search_space: SearchSpace
    constant: Mapping[str, Any]

    def __call__(self, x: Array) -> Mask:
        """Which of the points ``(b, d)`` are allowed, shape ``(b,)``."""
        exists = self.space.exists(x)
        return np.array([self._allows(*row) for row in zip(x, exists, strict=True)], dtype=bool)

    def draw(self, rng: np.random.Generator) -> Array:
        """Allowed points drawn uniformly, shape ``(b, d)``; none if they are very rare."""
        kept: list[Array] = []
        count = 0
        for _ in range(_BLOCKS):
            points = self.space.spread(rng.random((_BLOCK, self.space.dimension)))
            kept.append(points[self(points)])
            count += len(kept[-1])
            if count >= _ENOUGH:
                break
        return np.concatenate(kept)

    def require(self, points: Array) -> Array:
        """The allowed ones of ``points`` ``(b, d)``.

        Raises:
            InvalidInputError: If there are none.
        """
        allowed = points[self(points)]
        if not len(allowed):
            held = "" if self.space.held is None else " with the values that are fixed"
            raise InvalidInputError(
                f"input_constraints must allow some point of the search space{held}, got none in "
                f"{_BLOCK * _BLOCKS} draws; check the rule, or suggest a transformed parameter"
            )
        return allowed

    def _allows(self, x: Array, exists: Mask) -> bool:
        params = to_params(self.space, self.search_space, x)
        there = {n: v for (n, v), e in zip(params.items(), exists, strict=True) if e}
        return bool(self.rule({**self.constant, **there}))


def may_have(rule: Rule, params: dict[str, Any]) -> bool:
    """Whether the rule allows parameters; True where it needs one that is not known yet."""
    try:
        return bool(rule(params))
    except KeyError:
        return True


def draw_value(
    rule: Rule | None,
    known: Mapping[str, Any],
    name: str,
    distribution: BaseDistribution,
    points: Iterator[Array],
) -> Any:
    """The first value of a parameter that a rule may allow.

    Args:
        rule: The rule, if there is one.
        known: Parameters that have a value already.
        name: Of the parameter.
        distribution: Its distribution.
        points: Coordinates to try, each of shape ``(1,)``.

    Raises:
        InvalidInputError: If the rule allows none of the first.
    """
    search_space = {name: distribution}
    space = to_space(search_space)
    for x in islice(points, _DRAWS):
        drawn = to_params(space, search_space, x)
        if rule is None or may_have(rule, {**known, **drawn}):
            return drawn[name]
    raise InvalidInputError(
        f"input_constraints must allow some value of {name!r} beside {dict(known)}, "
        f"got none in {_DRAWS} draws; enqueue a trial that is allowed to begin with"
    )
