"""What an acquisition needs of a model: ours, or any other."""

from __future__ import annotations

from typing import Protocol

from fisherbo.gp.posterior import Prediction
from fisherbo.space import Array


class Surrogate(Protocol):
    """A model of an objective f on the unit cube, larger is better."""

    @property
    def noise(self) -> float:
        """Noise variance τ² of the next observation."""

    @property
    def variance(self) -> float:
        """Typical ``Var(f)``, the unit of ``Λ``."""

    @property
    def gradient_variance(self) -> Array:
        """Typical ``E[(∂f/∂x_j)²]``, the diagonal of ``Λ``, which damps the metric, ``(d,)``."""

    @property
    def gradient_axes(self) -> Array | None:
        """``A`` with orthogonal columns and ``Λ = A Aᵀ``, ``(d, d)``; None if Λ is diagonal."""

    def mean(self, points: Array) -> Array:
        """Mean of f at points ``(b, d)``, shape ``(b,)``."""

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of f at points ``(b, d)``, each of shape ``(b,)``."""

    def predict_with_gradient(self, points: Array) -> Prediction:
        """Marginals and their gradients at points of shape ``(b, d)``."""
