"""Weights of a mixture that sum to one, as one group of parameters.

A group of k weights is asked for as k floats in [0, 1]. Each is turned into the quantile
h_j = Φ⁻¹((1 + 0.99 x_j)/2) of the half-normal distribution, and p_j = h_j²/Σh². Any sampler may
suggest the floats. If they are uniform, p nearly has the distribution Dirichlet(½), Jeffreys' prior
of a categorical distribution: uniform in the volume of the Fisher–Rao metric (`fisherbo.kinds`), so
that no way to write the probabilities down is preferred. Dirichlet(1), uniform in p, puts next to
nothing near the vertices where k is large, and good weights are often sparse.

k floats for k − 1 degrees of freedom make all weights alike to the sampler: a point has many
preimages, but none of the weights is the one that is left over. The names of the floats tell the
group, so that a study has all that a resumed one needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import BaseTrial

from fisherbo.errors import InvalidInputError
from fisherbo.kinds import Integers, from_square_roots, square_roots

_NAME = re.compile(r"(?P<group>[^\[\]]*)\[(?P<part>[^\[\]]+)\] of (?P<count>\d+)")
_UNIT = FloatDistribution(0.0, 1.0)
_TOLERANCE = 1e-6


class MissingWeightsError(InvalidInputError, KeyError):
    """Parameters lack a group of weights or some of it."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


def suggest_simplex(trial: BaseTrial, name: str, parts: Sequence[str]) -> dict[str, float]:
    """Suggest weights as one group: one for each part, at least 0, with the sum 1.

    `FisherSampler` compares them by the Fisher–Rao geometry of the categorical distributions: by
    √p, on a sphere. Any other sampler suggests the floats behind them one by one. ``trial.params``
    holds these floats; `simplex_weights` turns them into weights.

    Args:
        trial: Optuna's trial.
        name: Name of the group.
        parts: Names of what is weighted, at least two. Keep them the same in all trials of a study.

    Returns:
        The weights by part, in the order given.

    Raises:
        InvalidInputError: If there are fewer than two parts, one is there twice, or a name has
            brackets.

    Example:
        >>> import fisherbo, optuna
        >>> trial = optuna.trial.FixedTrial(fisherbo.simplex_params("w", {"a": 0.2, "b": 0.8}))
        >>> weights = fisherbo.suggest_simplex(trial, "w", ["a", "b"])
        >>> round(weights["a"], 6)
        0.2
    """
    names = _names(name, parts)
    return _weights({part: trial.suggest_float(n, 0.0, 1.0) for part, n in names.items()})


def simplex_weights(params: Mapping[str, Any], name: str) -> dict[str, float]:
    """The weights of a group, by part, from the parameters of a trial.

    Args:
        params: Such as ``study.best_params``.
        name: Name of the group.

    Raises:
        InvalidInputError: If the parameters have no such group, or only a part of it. It is a
            KeyError too, so that a rule of ``input_constraints`` may ask for weights.
    """
    found = {n: m for n in params if (m := _NAME.fullmatch(n)) and m["group"] == name}
    counts = {int(m["count"]) for m in found.values()}
    if counts != {len(found)}:
        raise MissingWeightsError(
            f"params must have the weights of {name!r} that suggest_simplex asked for, got "
            f"{list(params)}; pass the params of one trial, such as study.best_params"
        )
    return _weights({m["part"]: float(params[n]) for n, m in found.items()})


def simplex_params(name: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Parameters that stand for given weights, for ``study.enqueue_trial``.

    Args:
        name: Name of the group.
        weights: By part, finite and at least 0, of sum 1.

    Raises:
        InvalidInputError: If a weight is negative or not finite, they do not sum to 1, or
            `suggest_simplex` refuses the names.
    """
    names = _names(name, list(weights))
    values = np.array(list(weights.values()), dtype=np.float64)
    if not (values >= 0).all() or not abs(values.sum() - 1) <= _TOLERANCE:
        raise InvalidInputError(
            f"weights of {name!r} must be at least 0 and sum to 1, got {dict(weights)}; divide "
            "them by their sum"
        )
    x = from_square_roots(np.sqrt(values / values.sum()))
    return dict(zip(names.values(), x.tolist(), strict=True))


def groups(search_space: Mapping[str, BaseDistribution]) -> tuple[Integers, ...]:
    """Positions of the floats of each group that is complete in a search space."""
    found: dict[tuple[str, int], list[int]] = {}
    for j, (name, distribution) in enumerate(search_space.items()):
        match = _NAME.fullmatch(name)
        if match and distribution == _UNIT:
            found.setdefault((match["group"], int(match["count"])), []).append(j)
    whole = (index for (_, count), index in found.items() if len(index) == count)
    return tuple(np.array(index, dtype=np.int64) for index in whole)


def _names(name: str, parts: Iterable[str]) -> dict[str, str]:
    """Names of the floats of a group, by part."""
    listed = [parts] if isinstance(parts, str) else list(parts)
    names = {str(part): f"{name}[{part}] of {len(listed)}" for part in listed}
    if len(listed) < 2 or len(names) < len(listed):
        raise InvalidInputError(
            f"the parts of {name!r} must be at least two different names, got {parts!r}; pass for "
            "example ['a', 'b', 'c']"
        )
    for part, full in names.items():
        if not _NAME.fullmatch(full):
            raise InvalidInputError(
                f"the names of a group and of its parts must be texts without brackets, got "
                f"{name!r} and {part!r}; write 'a.1' instead of 'a[1]'"
            )
    return names


def _weights(x: Mapping[str, float]) -> dict[str, float]:
    floats = np.array(list(x.values()), dtype=np.float64)
    p = square_roots(floats) ** 2
    p = np.where(floats > 0, p, 0.0) if floats.any() else p
    total = math.fsum(p.tolist())
    return {part: value / total for part, value in zip(x, p.tolist(), strict=True)}
