"""Matérn-3/2 kernel with one lengthscale for each coordinate; categories differ by 0 or 1.

Symbols: ℓ lengthscales, σ² signal variance, t = √3 r, r² = Σ_j δ_j²/ℓ_j², with δ_j = x_j − x'_j,
or 1 where two categories differ. k = σ² ρ(t), ρ(t) = (1 + t) exp(−t)
(Rasmussen & Williams 2006, eq. 4.17). Where an orthogonal matrix R is given, lengthscales are those
of the coordinates R x: δ = R (x − x'). Categories with distances of their own, and mixture weights,
differ as `fisherbo.kinds` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers

_SQRT3 = math.sqrt(3.0)

CURVATURE = 3.0
"""Prior variance of ∂f/∂x_j is CURVATURE · σ²/ℓ_j² for the Matérn-3/2 kernel."""


@dataclass(frozen=True)
class Embedding:
    """Points as vectors whose Euclidean distance is ``t``.

    Categories are scaled one-hot vectors, or those of `Kinds.vectors`, scaled.

    Attributes:
        scale: √3/ℓ, 0 for a categorical coordinate, shape ``(d,)``.
        onehot: For each categorical coordinate its index, its choices and the length of its vector.
        kinds: What the coordinates are.
        rotation: R, shape ``(d, d)``, which leaves categories and weights alone; None: identity.
    """

    scale: Array
    onehot: tuple[tuple[int, int, float], ...]
    kinds: Kinds
    rotation: Array | None = None

    @staticmethod
    def of(
        lengthscale: Array, choices: Integers | Kinds, rotation: Array | None = None
    ) -> Embedding:
        """The embedding for lengthscales and numbers of choices (0: numeric), shape ``(d,)``."""
        kinds = Kinds.of(choices)
        choices = kinds.choices
        onehot = (
            (int(j), int(choices[j]), math.sqrt(1.5) / float(lengthscale[j]))
            for j in choices.nonzero()[0]
        )
        scale = np.where(choices > 0, 0.0, _SQRT3 / lengthscale)
        return Embedding(scale, tuple(onehot), kinds, rotation)

    def __call__(self, x: Array) -> Array:
        """Vectors of shape ``(b, e)`` for points of shape ``(b, d)``."""
        numeric = turned(self.kinds.inputs(x), self.rotation) * self.scale
        if not self.onehot:
            return numeric
        parts = [numeric]
        for j, count, length in self.onehot:
            choice = np.rint(x[:, j] * max(count - 1, 1))
            vectors = self.kinds.vectors.get(j)
            if vectors is None:
                parts.append(length * (choice[:, None] == np.arange(count)))
            else:  # of distance 1, where one-hot vectors have √2
                parts.append(math.sqrt(2) * length * vectors[choice.astype(np.int64)])
        return np.concatenate(parts, 1)


def turned(x: Array, rotation: Array | None) -> Array:
    """The coordinates ``R x`` of points ``(b, d)``; None is the identity."""
    return x if rotation is None else x @ rotation.T


def distance(a: Array, b: Array) -> Array:
    """Euclidean distances between rows, shape ``(m, n)`` from ``(m, e)`` and ``(n, e)``.

    By |a|² + |b|² − 2ab: absolute errors up to 1e-8 near 0, where ρ is flat.
    """
    squared = np.einsum("ie,ie->i", a, a)[:, None] + np.einsum("ie,ie->i", b, b) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def matern(t: Array) -> tuple[Array, Array]:
    """``ρ(t)`` and ``−ρ'(t)/t = exp(−t)``, each of the shape of ``t``.

    With the second, ∂k/∂x_j = −3 σ² exp(−t) δ_j/ℓ_j².
    """
    slope = np.exp(-t)
    return slope + slope * t, slope
