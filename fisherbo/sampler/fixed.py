"""Parameters of a trial whose values are fixed: enqueued, held by wrappers, no longer asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from fisherbo.sampler.optuna_private import enqueued_values, values_of_wrappers
from fisherbo.sampler.search_space import SearchSpace, from_params, to_space
from fisherbo.sampler.trials import Status, TrialTable
from fisherbo.space import Array, Mask, Space

_CONSTANT = 2
_CHANCE = 0.01


def given_values(sampler: Any, trial: FrozenTrial) -> dict[str, Any]:
    """Values fixed by wrappers of the sampler, enqueued ones, and those suggested already."""
    return {**values_of_wrappers(sampler), **enqueued_values(trial), **trial.params}


def fixed_values(
    sampler: Any,
    trial: FrozenTrial,
    asked: Collection[str],
    union: SearchSpace,
    trials: Sequence[FrozenTrial],
) -> dict[str, Any]:
    """Values that the trial has or will have, whatever is suggested.

    Enqueued values, those suggested already, and those of a `PartialFixedSampler` around ours. A
    parameter that is held back by another sampler is assumed to keep the value that the latest
    trials with it agree on.

    Args:
        sampler: The study's sampler.
        trial: The trial.
        asked: Parameters to suggest.
        union: Parameters that vary in the study.
        trials: The other trials.
    """
    values = given_values(sampler, trial)
    for name in union:
        if name not in asked and name not in values:
            values.update(_constant(name, trials))
    return {n: v for n, v in values.items() if n in union and _has_coordinate(union[n], v)}


def widened(asked: SearchSpace, union: SearchSpace, fixed: Mapping[str, Any]) -> SearchSpace:
    """The parameters to suggest and those whose values are known, by name."""
    if all(name in asked for name in fixed):
        return asked
    return {n: union[n] for n in sorted({*asked, *fixed})}


def no_longer_asked(space: Space, table: TrialTable) -> Mask:
    """Which parameters the objective no longer asks for, shape ``(d,)``.

    A parameter that the latest trials lack, although its condition holds in them, counts as no
    longer asked for if that many trials in succession would lack it by chance with a probability
    below 1 %, given how often earlier trials had it; so do its children. This happens when a
    parameter is renamed in the code or removed from it.
    """
    ran = table.have(Status.COMPLETE, Status.PRUNED)  # these asked for all that they need
    present = ~np.isnan(table.x[ran & table.located])
    gone = np.zeros(space.dimension, dtype=bool)
    if not len(present) or present[-1].all():
        return gone
    parent = {c.child: c.parent for c in space.conditions}
    for j in (~present[-1]).nonzero()[0].tolist():
        seen = present[:, j].nonzero()[0]
        if len(seen) and j not in parent:
            share = len(seen) / (seen[-1] - seen[0] + 2)
            gone[j] = (1 - share) ** (len(present) - 1 - seen[-1]) < _CHANCE
    for child, of in parent.items():
        gone[child] = gone[of] and not present[-1, child]
    return gone


def hold(space: Space, search_space: SearchSpace, values: Mapping[str, Any], gone: Mask) -> Space:
    """The space with the coordinates of some parameters held.

    Args:
        space: The space.
        search_space: Its parameters.
        values: Values at which parameters are held, by name.
        gone: Which parameters are held where trials without them are, shape ``(d,)``.
    """
    if not values and not gone.any():
        return space
    held = np.where(gone, space.centre, np.nan)
    fixed = _coordinates(search_space, values)
    return replace(space, held=np.where(np.isnan(fixed), held, fixed))


def _coordinates(search_space: SearchSpace, values: Mapping[str, Any]) -> Array:
    space = to_space(search_space)
    return np.clip(from_params(space, search_space, [values])[0], 0, 1)


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
