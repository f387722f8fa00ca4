"""What the coordinates of a space are to a kernel: numbers, categories, or weights of a mixture.

A kernel sees the distance of two points. Numbers differ by their difference, and categories by 0 or
1. Categories with distances of their own are vectors of that distance. Mixture weights
p_1 … p_k, on the simplex, are compared by √p on the unit sphere, where the Fisher–Rao metric of the
categorical distributions is the sphere's, times 4 (Amari 2016, sec. 2.6).

Symbols: x coordinates in the unit cube; h_j = Φ⁻¹((1 + c x_j)/2), a half-normal quantile; u = h/|h|
= √p. If x is uniform and c = 1, |N(0, 1)| has h's distribution and u is uniform on the sphere's
positive orthant: p then has the distribution Dirichlet(½), Jeffreys' prior. With c = 0.99 it nearly
has, and the slopes dh/dx are bounded, where the cube ends as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, erfinv

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

SHARE = 0.99
"""c, the share of the half-normal distribution: dh/dx is at most 35, and any √p has an x."""

LEAST = 1e-12
"""Least x of a weight, so that √p is defined where all are 0."""

_SQRT2, _SQRT_HALF_PI = math.sqrt(2.0), math.sqrt(math.pi / 2)


@dataclass(frozen=True, eq=False)
class Kinds:
    """What each of ``d`` coordinates is.

    Attributes:
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        vectors: Vectors of the choices of some categorical coordinates, shape ``(k, e)``, by the
            coordinate; those of all others are at distance 1 of each other.
        simplices: Coordinates of each group of weights.
    """

    choices: Integers
    vectors: Mapping[int, Array] = field(default_factory=dict)
    simplices: tuple[Integers, ...] = ()

    def __len__(self) -> int:
        return len(self.choices)

    @staticmethod
    def of(choices: Integers | Kinds) -> Kinds:
        """The same, from numbers of choices alone where there is nothing else to tell."""
        return choices if isinstance(choices, Kinds) else Kinds(choices)

    @property
    def widths(self) -> Integers:
        """Length of the vectors of each categorical coordinate, 0 of any other, ``(d,)``."""
        widths = self.choices.copy()
        for j, vectors in self.vectors.items():
            widths[j] = vectors.shape[1]
        return widths

    def inputs(self, x: Array) -> Array:
        """Points ``(*b, d)`` with the coordinates of weights replaced by √p."""
        if not self.simplices:
            return x
        u = x.copy()
        for index in self.simplices:
            u[..., index], _ = _on_sphere(x[..., index])
        return u

    def pull(self, x: Array, gradient: Array) -> Array:
        """Gradients in `inputs` ``(*k, b, d)`` as those in points ``(b, d)``, by the chain rule.

        With u = h/|h|: ∂/∂h = (I − uuᵀ)/|h| ∂/∂u, and dh/dx = c √(π/2) exp(h²/2).
        """
        if not self.simplices:
            return gradient
        pulled = gradient.copy()
        for index in self.simplices:
            u, h = _on_sphere(x[..., index])
            g = gradient[..., index]
            tangent = g - (g * u).sum(-1, keepdims=True) * u
            slope = SHARE * _SQRT_HALF_PI * np.exp(0.5 * h * h)
            pulled[..., index] = tangent * slope / np.linalg.norm(h, axis=-1, keepdims=True)
        return pulled


def square_roots(x: Array) -> Array:
    """``√p`` of the weights at coordinates ``(*b, k)`` of one group, same shape."""
    return _on_sphere(x)[0]


def from_square_roots(u: Array) -> Array:
    """Coordinates ``(k,)`` of weights with the square roots ``u``.

    Of the points that stand for them it is the one with Σh² = k, the mean where x is uniform, or
    the nearest in the unit cube.
    """
    h = u * math.sqrt(len(u))
    h = h * min(1.0, _SQRT2 * erfinv(SHARE) / float(h.max()))
    return np.minimum(erf(h / _SQRT2) / SHARE, 1.0)


def _on_sphere(x: Array) -> tuple[Array, Array]:
    """``u`` and ``h``, each of the shape of x."""
    h = _SQRT2 * erfinv(SHARE * np.clip(x, LEAST, 1))
    return h / np.linalg.norm(h, axis=-1, keepdims=True), h
