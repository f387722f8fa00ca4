"""Log utilities of a candidate's standardised mean z = (μ − c)/s, with gradient and metric."""

from __future__ import annotations

from fisherbo.optimize.descent import Evaluation
from fisherbo.space import Array
from fisherbo.surrogate.metric import information_parts
from fisherbo.surrogate.posterior import Prediction
from fisherbo.surrogate.protocol import Surrogate


def evaluation(
    p: Prediction, threshold: float, utility: tuple[Array, Array, Array], surrogate: Surrogate
) -> Evaluation:
    """A log utility at ``b`` points by the chain rule, with the information metric.

    Args:
        p: Marginals at the points.
        threshold: ``c``.
        utility: Values and derivatives in μ and s, each of shape ``(b,)``.
        surrogate: Whose gradients' variance damps the metric.
    """
    value, by_mean, by_sd = utility
    gradient = by_mean[:, None] * p.mean_gradient + by_sd[:, None] * p.sd_gradient
    z = (p.mean - threshold) / p.sd
    return Evaluation(value, gradient, *information_parts(p, z, by_mean, by_sd, surrogate))
