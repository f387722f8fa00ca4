"""Which parameters exist where, learned from the trials: an objective does not declare it.

Optuna's objectives ask for a parameter where they need it. A parameter that some trials have and
others have not is conditional: on a choice (``kernel`` is "rbf"), or on an ordered discrete
parameter above or below a threshold (``n_layers`` at least 3). The simplest such rule that all
trials obey is taken; where there is none the parameter counts as always there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fisherbo.space import Array, Condition, Mask, Space

_MOST_LEVELS = 64


def with_conditions(space: Space, x: Array) -> Space:
    """The space with the conditions that points ``(n, d)``, NaN where absent, obey."""
    present = ~np.isnan(x)
    if present.all():
        return space
    share = present.mean(0) if len(x) else np.ones(space.dimension)
    varying = [j for j in np.argsort(-share, kind="stable").tolist() if 0 < share[j] < 1]
    found = (_condition(space, x, present, j) for j in varying)
    return replace(space, conditions=tuple(c for c in found if c is not None))


def _condition(space: Space, x: Array, present: Mask, child: int) -> Condition | None:
    """The simplest rule for one coordinate: fewest changes over its parent's values."""
    rules = []
    for parent in range(space.dimension):
        few = space.discrete[parent] and space.levels[parent] <= _MOST_LEVELS
        within = (present[:, parent] >= present[:, child]).all()
        if parent != child and few and within and not _same(present, parent, child):
            rule = _rule(space, x, present, parent, child)
            if rule is not None:
                cost = len(rule.known) if space.categorical[parent] else 2
                rules.append((cost, -present[:, parent].sum(), parent, rule))
    return min(rules, key=lambda r: r[:3])[3] if rules else None


def _same(present: Mask, parent: int, child: int) -> bool:
    return bool((present[:, parent] == present[:, child]).all())


def _rule(space: Space, x: Array, present: Mask, parent: int, child: int) -> Condition | None:
    """The condition of ``child`` on ``parent``, or None if the points contradict it."""
    rows = present[:, parent]
    known, group = np.unique(np.round(x[rows, parent], 9), return_inverse=True)
    count = np.bincount(group)
    with_child = np.bincount(group, weights=present[rows, child])
    if ((with_child > 0) & (with_child < count)).any():
        return None
    exists = with_child > 0
    if not space.categorical[parent]:
        once = np.count_nonzero(np.diff(exists.astype(int))) == 1
        return Condition(child, parent, known, exists) if once else None
    choices = np.arange(space.choices[parent]) / max(space.choices[parent] - 1, 1)
    seen = np.abs(choices[:, None] - known).min(1) < 1e-6
    table = np.ones(len(choices), dtype=bool)  # a choice not seen yet may have the parameter
    table[seen] = exists
    return Condition(child, parent, choices, table)
