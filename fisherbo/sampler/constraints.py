"""Observations of constraints and of failures, as their models see them.

A constraint's observation is at least 0 where the constraint holds. For values c (feasible ≤ 0) it
is −asinh(c/m), with m the median of |c|, clipped: monotone, so that 0 stays the threshold, and
close to linear near it, so that a value of 1e6 does not flatten the others. A failure is observed
as −1, a success as 1. The prior mean is 0 for a constraint, and 2p − 1 for failures, where
p = (½ + successes)/(1 + n) is the base rate with Jeffreys' prior.

For Optuna a complete trial that does not tell a constraint is feasible. Its observation is positive
but of unknown size: it counts as the typical one, asinh 1, with noise of the same size. Where a
constraint is told only when it is broken, the values on the two sides of its boundary differ by a
step. What is told then counts as at least most of a typical value below 0, as if it were told as 1;
otherwise the smooth model would expect points just beyond the boundary, where c is small, to be
nearly feasible.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np

from fisherbo.sampler.trials import Status, TrialTable
from fisherbo.space import Array, Mask

FAILURES = "failures"

_TOLERATED = 0.1
_CLIP = 3.0
_LONGEST_NAME = 64
_UNTOLD = math.asinh(1.0)
_UNTOLD_NOISE = 1.0
_STEP, _GRADE = 0.75, 0.25  # of a broken constraint that is told only then


@dataclass(frozen=True)
class ConstraintData:
    """Observations of one constraint, or of failures.

    Attributes:
        label: Of its model.
        y: One for each row of the table, at least 0 where feasible, NaN where not known, ``(n,)``.
        prior_mean: Prior mean of the model.
        noise: Variance of those that are guessed about the truth, else 0, shape ``(n,)``.
        told: Values as told, NaN where none is; None of failures, shape ``(n,)``.
    """

    label: str
    y: Array
    prior_mean: float
    noise: Array
    told: Array | None = None


def constraint_data(table: TrialTable) -> list[ConstraintData]:
    """Observations of every named constraint that was broken, or that all complete trials tell."""
    located, complete = table.located, table.have(Status.COMPLETE)
    told = [c if there else {} for c, there in zip(table.constraints, located, strict=True)]
    found = []
    for name in sorted({name for values in told for name in values}):
        c = np.array([values.get(name, math.nan) for values in told], dtype=np.float64)
        untold = located & complete & np.isnan(c)
        if (c > 0).any() or not untold.any():
            y = scaled(c)
            if untold.any() and not (c <= 0).any():
                y = _GRADE * y - _STEP
            noise = np.where(untold, _UNTOLD_NOISE, 0.0)
            y = np.where(untold, _UNTOLD, y)
            found.append(ConstraintData(_label(name), y, 0.0, noise, c))
    return found


def failure_data(failed: Mask, observed: Mask) -> ConstraintData | None:
    """Observations of failures; None if at most a tenth of the trials that are observed failed.

    Args:
        failed: Which trials failed, shape ``(n,)``.
        observed: Which trials have a value or failed, shape ``(n,)``.
    """
    n, bad = int(observed.sum()), int((failed & observed).sum())
    if bad <= _TOLERATED * n:
        return None
    y = np.where(observed, np.where(failed, -1.0, 1.0), np.nan)
    base = 2 * (0.5 + n - bad) / (1 + n) - 1
    return ConstraintData(FAILURES, y, base, np.zeros(len(failed)))


def scaled(c: Array) -> Array:
    """Observations for values of a constraint, NaN where it is not told, shape ``(n,)``."""
    size = np.abs(c[np.isfinite(c) & (c != 0)])
    scale = float(np.median(size)) if len(size) else 1.0
    most = math.sinh(_CLIP) * scale
    return -np.arcsinh(np.clip(c, -most, most) / scale)


def _label(name: str) -> str:
    """A label that storages take: a long name is cut, and told apart by a checksum."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}#{zlib.crc32(name.encode()):08x}"
    return f"constraint:{name}"
