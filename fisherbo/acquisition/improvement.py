"""Expected improvement of one objective."""

from __future__ import annotations

from dataclasses import dataclass

from fisherbo.acquisition.utility import log_expected_improvement
from fisherbo.optimize.descent import Evaluation
from fisherbo.space import Array
from fisherbo.surrogate.metric import score_parts
from fisherbo.surrogate.protocol import Surrogate


@dataclass(frozen=True)
class ExpectedImprovement:
    """Log expected improvement on a value.

    Attributes:
        surrogate: Beliefs about the objective, larger is better.
        best: Value to improve on.
    """

    surrogate: Surrogate
    best: float

    def value(self, x: Array) -> Array:
        """Log expected improvement at points ``(b, d)``, shape ``(b,)``."""
        return log_expected_improvement(*self.surrogate.predict(x), self.best)[0]

    def evaluate(self, x: Array) -> Evaluation:
        """The same with gradient and score metric."""
        p = self.surrogate.predict_with_gradient(x)
        value, by_mean, by_sd = log_expected_improvement(p.mean, p.sd, self.best)
        gradient = by_mean[:, None] * p.mean_gradient + by_sd[:, None] * p.sd_gradient
        return Evaluation(value, gradient, *score_parts(gradient, self.surrogate))
