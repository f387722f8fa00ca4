"""Whether the reports of trials go with the values that they return.

A trial may return something else than its last report: the score on other data, or the return of a
policy that acts without noise. Usually trials with better reports return better values. Where those
with better reports return worse values, since the two have little to do with each other or one has
the wrong sign, a trial cannot be stopped by its reports, and what a pruned trial reported says
nothing of its value.
"""

from __future__ import annotations

import numpy as np

from fisherbo.space import Array

_LEAST = 4
"""Complete trials before they may contradict their reports: of three, one pair decides."""

_LEAST_OTHER = 3
"""Complete trials before values that are no reports are known to go with them."""

_MOST_COMPARED = 256


def contradict(ends: Array, values: Array) -> bool:
    """Whether more pairs of trials are in opposite orders by ends and values than in the same one.

    That is a negative τ of Kendall (1938). To ask for a positive τ beyond chance would be too much:
    complete trials are those that a pruner let pass, and alike. Of networks on breast_cancer that
    reported their loss and returned their error, τ was .2 among complete trials.

    Args:
        ends: Of the curves of complete trials, larger is better, shape ``(c,)``.
        values: What these returned, larger is better, shape ``(c,)``.
    """
    known = np.isfinite(ends) & np.isfinite(values)
    return int(known.sum()) >= _LEAST and same_order(ends[known], values[known]) < 0.5


def tell(ends: Array, values: Array) -> bool:
    """Whether ends of curves are known to go with values.

    They are where trials return their last or their best report. Otherwise three complete trials
    must show it: a loss that is reported in a study that maximizes would have all but the worst
    trials stopped from the second one on.

    Args:
        ends: Of the curves of complete trials, larger is better, shape ``(c,)``.
        values: What these returned, larger is better, shape ``(c,)``.
    """
    known = np.isfinite(ends) & np.isfinite(values)
    ends, values = ends[known], values[known]
    if np.allclose(ends, values, rtol=1e-9, atol=0):
        return True
    return len(ends) >= _LEAST_OTHER and same_order(ends, values) >= 0.5


def same_order(a: Array, b: Array) -> float:
    """Share of pairs that two quantities put in the same order, ties in either counting half.

    Kendall's τ is twice that less 1. Of many values some are compared, evenly spread.

    Args:
        a: Shape ``(n,)``, of two values at least.
        b: Shape ``(n,)``.
    """
    chosen = np.unique(np.linspace(0, len(a) - 1, min(len(a), _MOST_COMPARED)).round().astype(int))
    first, second = np.triu_indices(len(chosen), 1)
    a, b = a[chosen], b[chosen]
    agreement = np.sign(a[first] - a[second]) * np.sign(b[first] - b[second])
    return float((1 + agreement).mean() / 2)
