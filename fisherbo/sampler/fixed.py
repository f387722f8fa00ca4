"""Parameters of a trial whose values are not the sampler's to choose."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import PartialFixedSampler
from optuna.trial import FrozenTrial

from fisherbo.sampler.convert import SearchSpace, from_params, to_space
from fisherbo.space import Array, Space

_CONSTANT = 2


def fixed_values(
    sampler: Any,
    trial: FrozenTrial,
    asked: Collection[str],
    union: SearchSpace,
    trials: Sequence[FrozenTrial],
) -> dict[str, Any]:
    """Values that the trial has or will have, whatever is suggested.

    Enqueued values, those suggested already, and those of a `PartialFixedSampler` around ours. A
    parameter that is held back by another sampler is taken to keep the value that the latest trials
    with it agree on.

    Args:
        sampler: The study's sampler.
        trial: The trial.
        asked: Parameters to suggest.
        union: Parameters that vary in the study.
        trials: The other trials.
    """
    values = {**_of_wrappers(sampler), **trial.system_attrs.get("fixed_params", {}), **trial.params}
    for name in union:
        if name not in asked and name not in values:
            values.update(_constant(name, trials))
    return {n: v for n, v in values.items() if n in union and _has_coordinate(union[n], v)}


def widened(asked: SearchSpace, union: SearchSpace, fixed: Mapping[str, Any]) -> SearchSpace:
    """The parameters to suggest and those whose values are known, by name."""
    if all(name in asked for name in fixed):
        return asked
    return {n: union[n] for n in sorted({*asked, *fixed})}


def hold(space: Space, search_space: SearchSpace, values: Mapping[str, Any]) -> Space:
    """The space with the coordinates of some parameters held."""
    if not values:
        return space
    return replace(space, held=_coordinates(search_space, values))


def _coordinates(search_space: SearchSpace, values: Mapping[str, Any]) -> Array:
    space = to_space(search_space)
    return np.clip(from_params(space, search_space, [values])[0], 0, 1)


def _of_wrappers(sampler: Any) -> dict[str, Any]:
    """Values that `PartialFixedSampler`s fix, the outermost first in rank."""
    if not isinstance(sampler, PartialFixedSampler):
        return {}
    return {**_of_wrappers(sampler._base_sampler), **sampler._fixed_params}


def _constant(name: str, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    recent = [t.params[name] for t in reversed(trials) if name in t.params][:_CONSTANT]
    same = len(recent) == _CONSTANT and all(v == recent[0] for v in recent)
    return {name: recent[0]} if same else {}


def _has_coordinate(distribution: BaseDistribution, value: Any) -> bool:
    """Whether the value is a choice or a finite number, positive where on a log scale."""
    try:
        index = distribution.to_internal_repr(value)
    except (ValueError, TypeError):
        return False
    return bool(np.isfinite(index)) and not (getattr(distribution, "log", False) and index <= 0)
