"""The interface of acquisitions, as `propose` uses it."""

from __future__ import annotations

from typing import Protocol

from fisherbo.optimize.descent import LocalModel
from fisherbo.space import Array


class Acquisition(Protocol):
    """How much an evaluation at a point is worth, in nats."""

    def value(self, x: Array) -> Array:
        """Log utility at points ``(b, d)``, shape ``(b,)``."""

    def evaluate(self, x: Array) -> LocalModel:
        """The same with its gradient and the parts of the metric ``U Uᵀ + D``."""
