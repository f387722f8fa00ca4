"""When to stop a trial of several objectives: optimal stopping by simulation and regression.

Symbols: as in `stopping`, with the hypervolume improvement u(e) of the ends e of all objectives,
which are independent N(μ_j, v_j), in place of max(0, e − b). Its expectation given the reports up
to step t, M_t = E[u(e) | t] (`log_ehvi`), is a martingale. What going on from step t is worth is

    W_t = max(0, −λ (u − t) + E[W_u | M_t]),     W_T = M_T

with u the next step at which the trial may be stopped, and T the last. A dynamic program on a grid
of means, as for one objective, grows exponentially with their number. Means are simulated instead,
by quasi-random numbers that are always the same, and E[W_u | M_t] is the average over simulated
trials of similar M_t (least-squares Monte Carlo: Longstaff & Schwartz 2001, with a step function).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from fisherbo.acquisition.log_ehvi import Cells, log_hypervolume_improvement
from fisherbo.acquisition.stopping import Stages
from fisherbo.sobol import sobol
from fisherbo.space import Array

_GROUPS, _MEMBERS = 16, 32
_MOST_NUMBERS = 2_000_000  # of simulated trials times stages times cells
_LEAST_VARIANCE = 1e-18


@dataclass(frozen=True)
class Futures:
    """Simulated trials, and what each was expected to improve at each stage.

    Attributes:
        cost: Steps from each stage to the next, shape ``(k,)``.
        worth: Expected hypervolume improvement, shape ``(n, k + 1)``.
    """

    cost: Array
    worth: Array

    def gain(self, rate: float) -> float:
        """Expected gain of going on to the next stage; negative: stop.

        Args:
            rate: λ.
        """
        gained = self.worth[:, -1]
        for j in range(len(self.cost) - 1, 0, -1):
            order = np.argsort(self.worth[:, j], kind="stable")
            left = gained[order].reshape(_GROUPS, -1) - rate * self.cost[j]
            kept = np.where(left.mean(1, keepdims=True) > 0, left, 0.0)
            gained = np.empty_like(gained)
            gained[order] = kept.reshape(-1)
        return float(gained.mean() - rate * self.cost[0])


def futures(mean: Array, stages: Sequence[Stages], cells: Cells) -> Futures:
    """Simulated trials whose ends are expected at the means ``(p, m)`` now, each as likely.

    Args:
        mean: Means of the ends, larger is better.
        stages: Of each objective; their costs are alike.
        cells: What the front does not dominate.
    """
    cost, variance = stages[0].cost, np.stack([each.variance for each in stages], 1)
    k, m = len(cost), mean.shape[1]
    members = _MOST_NUMBERS // (_GROUPS * (k + 1) * cells.cell.size)
    n = _GROUPS * min(max(members, 1), _MEMBERS)
    moves = _normal(k * m, n).reshape(n, k, m)
    falls = np.sqrt(np.maximum(-np.diff(variance, axis=0), 0.0))
    begun = mean[np.arange(n) * len(mean) // n][:, None]
    means = np.concatenate([begun, begun + np.cumsum(falls * moves, axis=1)], 1)
    sd = np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
    flat = means.reshape(-1, m), np.broadcast_to(sd, means.shape).reshape(-1, m)
    worth = np.exp(log_hypervolume_improvement(*flat, cells))
    return Futures(cost, worth.reshape(n, k + 1))


def non_dominated_probability(
    mean: Array, variance: Array, front: Array, count: int = 512
) -> float:
    """Probability that an end is dominated by no point of a front.

    Args:
        mean: Means of the end's values, shape ``(m,)``.
        variance: Their variances, shape ``(m,)``.
        front: Points, shape ``(p, m)``.
        count: Of quasi-random draws.
    """
    ends = mean + np.sqrt(variance) * _normal(len(mean), count)
    dominated = (front[None] >= ends[:, None]).all(-1).any(-1)
    return 1.0 - float(dominated.mean())


@lru_cache(maxsize=64)
def _normal(dimension: int, count: int) -> Array:
    """Quasi-random standard normal numbers, shape ``(count, dimension)``."""
    uniform = sobol(dimension, count, seed=0)
    numbers: Array = ndtri(np.maximum(uniform, 0.5 / count))
    numbers.setflags(write=False)
    return numbers
