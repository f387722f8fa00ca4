"""Comparisons of samplers over paired problems: average ranks, Wilcoxon with Holm, bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

Array = NDArray[np.float64]


def average_ranks(losses: Array) -> Array:
    """Mean rank (1 = best), shape ``(methods,)``, from losses ``(problems, methods)``."""
    ranks: Array = rankdata(losses, axis=1).mean(axis=0)
    return ranks


def wilcoxon_p(difference: Array) -> float:
    return float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0


def holm(p_values: Sequence[float]) -> Array:
    """p-values corrected for their number by Holm's step-down method."""
    p = np.asarray(p_values)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def bootstrap_interval(
    losses: Array, groups: Sequence[Any], reference: int, other: int, *, draws: int = 4000
) -> tuple[float, float]:
    """95 % interval of the mean rank difference other − reference; groups drawn, then problems."""
    rng = np.random.default_rng(0)
    ranks = rankdata(losses, axis=1)
    difference = ranks[:, other] - ranks[:, reference]
    labels = np.asarray(groups)
    by_group = [difference[labels == g] for g in np.unique(labels)]
    means = np.empty(draws)
    for k in range(draws):
        drawn = (by_group[i] for i in rng.integers(len(by_group), size=len(by_group)))
        means[k] = np.mean([rng.choice(d, size=len(d)).mean() for d in drawn])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mean_interval(values: Array, *, draws: int = 4000) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap interval over the values, such as seeds."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
