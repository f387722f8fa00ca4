"""Expected improvement in the objective's own units, of a model of warped values.

Symbols: f ~ N(μ, s²) the warped value at a point; g the inverse warp, piecewise linear and
increasing (`fisherbo.gp.warp.unwarp`); b the warped value to improve on; ν(a) = E[max(f − a, 0)].
Since max(g(f) − g(b), 0) = ∫_b^∞ g'(t) 1[f > t] dt, and g' is c_k between the edges
b = a_0 < a_1 < … < a_n < a_{n+1} = ∞,
    E[max(g(f) − g(b), 0)] = Σ_k c_k (ν(a_k) − ν(a_{k+1})).
"""

from __future__ import annotations

import numpy as np

from fisherbo.acquisition.log_ei import log_expected_improvement
from fisherbo.gp.warp import unwarp
from fisherbo.space import Array


def unwarped_improvement(mean: float, sd: float, best: float, y: Array, warped: Array) -> float:
    """``E[max(g(f) − g(best), 0)]`` in units of the objective, at least 0.

    Args:
        mean: μ, of the warped value.
        sd: s > 0.
        best: Warped value to improve on.
        y: Observed values, larger is better, shape ``(n,)``.
        warped: Their warped values, shape ``(n,)``.
    """
    knots = np.unique(warped[np.isfinite(y)])
    edges = np.concatenate([[best], knots[knots > best]])
    beyond = edges[-1] + 1.0  # on the line above the best value
    heights = unwarp(np.append(edges, beyond), y, warped)
    slopes = np.diff(heights) / np.diff(np.append(edges, beyond))
    gains = np.exp(log_expected_improvement(np.full(len(edges), mean), np.array(sd), edges)[0])
    return float(slopes @ -np.diff(np.append(gains, 0.0)))
