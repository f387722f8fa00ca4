"""Fisher–Rao geometry of univariate and multivariate normals.

Symbols:
    x, y         half-plane of the normals: x = μ/√2, y = σ; d is √2 times the hyperbolic distance D
    L, M, S      Σ₁ = L Lᵀ;  M = L⁻¹L₂;  S = M Mᵀ = L⁻¹Σ₂L⁻ᵀ
    δ, u, ρ      L⁻¹(μ₂ − μ₁);  its direction (0 where δ = 0);  ρ = uᵀSu

Multivariate normals have a closed form where δ is an eigenvector of S: equal means (δ = 0), equal
covariances (S = I), one dimension, and mixtures of these. There N(0, I) and N(δ, S) lie in the
product of a half-plane, along u, and of the centred normals across u. It is totally geodesic, as
the fixed points of isometries (reflections that keep u). Distances are those of all normals.

Forms with asinh replace arccosh, which loses half of the digits at near points.
Sources: Atkinson & Mitchell (1981); Skovgaard (1984); Calvo & Oller (1990); Nielsen (2020, 2024).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.pairs import common_family

_ROOT2 = math.sqrt(2)


def _half_plane_distance(dx: Tensor, y1: Tensor, y2: Tensor) -> Tensor:
    """Hyperbolic distance ``D = arccosh(1 + (dx² + (y₁ − y₂)²)/(2y₁y₂))``, shape ``(*b,)``."""
    chord = torch.linalg.vector_norm(torch.stack(torch.broadcast_tensors(dx, y1 - y2), -1), dim=-1)
    return 2 * torch.asinh(chord / (2 * y1.sqrt() * y2.sqrt()))


def _half_plane_geodesic(dx: Tensor, y1: Tensor, y2: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Weight of the second x, and y, on the circle arc; ``x = x₁ + weight·dx``.

    On the hyperboloid X(t) = (sinh((1−t)D) X₁ + sinh(tD) X₂)/sinh D, with X ∝ (1/y)(1, x, x² + y²).
    """
    distance = _half_plane_distance(dx, y1, y2)
    first = _sinh_ratio(1 - t, distance) / y1
    second = _sinh_ratio(t, distance) / y2
    return second / (first + second), 1 / (first + second)


def _sinh_ratio(t: Tensor, distance: Tensor) -> Tensor:
    """``sinh(tD)/sinh D`` without overflow, and its limit ``t`` at D = 0."""
    apart = distance > 0
    safe = torch.where(apart, distance, 1.0)
    ratio = torch.exp((t - 1) * safe) * torch.expm1(-2 * t * safe) / torch.expm1(-2 * safe)
    return torch.where(apart, ratio, t)


def normal_distance(p: Normal, q: Normal) -> Tensor:
    """``√2·arccosh(1 + (Δμ²/2 + Δσ²)/(2σ₁σ₂))``, shape ``(*b,)`` (Atkinson & Mitchell 1981)."""
    return _ROOT2 * _half_plane_distance((q.loc - p.loc) / _ROOT2, p.scale, q.scale)


def normal_geodesic(p: Normal, q: Normal, t: Tensor) -> Normal:
    """The normal a fraction ``t`` of the way along the circle arc from p to q."""
    step = q.loc - p.loc
    weight, scale = _half_plane_geodesic(step / _ROOT2, p.scale, q.scale, t)
    return Normal(p.loc + weight * step, scale)


class _Whitened(NamedTuple):
    """A pair of multivariate normals, in coordinates where the first is N(0, I)."""

    direction: Tensor  # u, shape (*b, n)
    length: Tensor  # ‖δ‖, shape (*b,)
    along: Tensor  # √ρ, shape (*b,); 1 where u = 0
    across: Tensor  # M with the direction u made trivial, shape (*b, n, n)


def _relative_factor(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    """``M = L⁻¹L₂``, shape ``(*b, n, n)``."""
    left, right = _broadcast_matrices(p.scale_tril, q.scale_tril)
    return torch.linalg.solve_triangular(left, right, upper=False)


def _broadcast_matrices(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    shape = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    return left.expand(*shape, *left.shape[-2:]), right.expand(*shape, *right.shape[-2:])


def _whitened_difference(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    """``δ = L⁻¹(μ₂ − μ₁)``, shape ``(*b, n)``; exactly 0 where means are equal to rounding."""
    eps = torch.finfo(p.loc.dtype).eps
    equal = torch.isclose(p.loc, q.loc, rtol=4 * eps, atol=0.0).all(-1, keepdim=True)
    step = torch.where(equal, 0.0, q.loc - p.loc)[..., None]
    left, step = _broadcast_matrices(p.scale_tril, step)
    return torch.linalg.solve_triangular(left, step, upper=False)[..., 0]


def _whiten(p: MultivariateNormal, q: MultivariateNormal) -> _Whitened:
    """The pair in the coordinates of the module's heading.

    Raises:
        InvalidInputError: If δ is not an eigenvector of S.
    """
    factor, delta = _relative_factor(p, q), _whitened_difference(p, q)
    length = torch.linalg.vector_norm(delta, dim=-1)
    moved = length > 0
    direction = delta / torch.where(moved, length, 1.0)[..., None]
    row = (factor.mT @ direction[..., None])[..., 0]  # Mᵀu, of length √ρ
    along = torch.where(moved, torch.linalg.vector_norm(row, dim=-1), 1.0)
    _check_eigenvector(factor, direction, row)
    unit_row = row / along[..., None]
    # M + u (Mᵀu/√ρ − Mᵀu)ᵀ: as M across u, the identity along it
    across = factor + direction[..., :, None] * (unit_row - row)[..., None, :]
    return _Whitened(direction, length, along, across)


def _check_eigenvector(factor: Tensor, direction: Tensor, row: Tensor) -> None:
    """Refuse pairs where ``S u`` has a part across ``u``, beyond rounding."""
    image = (factor @ row[..., None])[..., 0]  # S u
    across = image - direction * (direction * image).sum(-1, keepdim=True)
    scale = torch.linalg.matrix_norm(factor) ** 2
    allowed = 100 * factor.shape[-1] * torch.finfo(factor.dtype).eps * scale
    if (torch.linalg.vector_norm(across, dim=-1) > allowed).any():
        raise InvalidInputError(
            "no closed form of the Fisher–Rao distance is known for these multivariate normals; "
            "supported are equal means, equal covariances, and a mean difference along an "
            "eigenvector of one covariance relative to the other; for others use fisher_rao_bounds"
        )


def _log_singular_norm(factor: Tensor) -> Tensor:
    """``√(½ Σ log² λᵢ)`` for the eigenvalues λ = s² of ``M Mᵀ``, shape ``(*b,)``."""
    return _ROOT2 * torch.linalg.vector_norm(torch.linalg.svdvals(factor).log(), dim=-1)


def multivariate_distance(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    """Distance in the product of a half-plane and centred normals, shape ``(*b,)``.

    Raises:
        InvalidInputError: If δ is not an eigenvector of S.
    """
    pair = _whiten(p, q)
    one = torch.ones_like(pair.along)
    along = _ROOT2 * _half_plane_distance(pair.length / _ROOT2, one, pair.along)
    return torch.linalg.vector_norm(
        torch.stack([along, _log_singular_norm(pair.across)], -1), dim=-1
    )


def multivariate_geodesic(
    p: MultivariateNormal, q: MultivariateNormal, t: Tensor
) -> MultivariateNormal:
    """The normal a fraction ``t`` of the way from p to q.

    Raises:
        InvalidInputError: If δ is not an eigenvector of S.
    """
    pair = _whiten(p, q)
    one = torch.ones_like(pair.along)
    weight, scale = _half_plane_geodesic(pair.length / _ROOT2, one, pair.along, t)
    u, s, _ = torch.linalg.svd(pair.across)
    root = (u * s[..., None, :] ** t[..., None, None]) @ u.mT  # S across, to the power t/2
    projector = pair.direction[..., :, None] * pair.direction[..., None, :]
    root = root + (scale - 1)[..., None, None] * projector
    shift = (weight * pair.length)[..., None] * pair.direction
    loc = p.loc + (p.scale_tril @ shift[..., None])[..., 0]
    return MultivariateNormal(loc, scale_tril=_lower_factor(p.scale_tril @ root))


def _lower_factor(root: Tensor) -> Tensor:
    """Lower triangular L with positive diagonal and ``L Lᵀ = root rootᵀ``, by QR of ``rootᵀ``."""
    upper = torch.linalg.qr(root.mT).R
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return (sign[..., :, None] * upper).mT


class Bounds(NamedTuple):
    """A lower and an upper bound, each of shape ``(*b,)``."""

    lower: Tensor
    upper: Tensor


def fisher_rao_bounds(p: MultivariateNormal, q: MultivariateNormal) -> Bounds:
    """Bounds of the Fisher–Rao distance between any two multivariate normals.

    Below: Calvo & Oller (1990), the distance of the centred normals with covariances
    [[Σ + μμᵀ, μ], [μᵀ, 1]]. Above: √(KL(p ‖ q) + KL(q ‖ p)), the root of Jeffreys' divergence
    (Nielsen 2024).

    Raises:
        InvalidInputError: If one is no MultivariateNormal, or shapes or parameters do not fit.
    """
    if common_family(p, q) is not MultivariateNormal:
        raise InvalidInputError(
            f"fisher_rao_bounds needs two MultivariateNormal, got {type(p).__name__}; other "
            "families have a closed form: use fisher_rao_distance"
        )
    factor, delta, back = (
        _relative_factor(p, q),
        _whitened_difference(p, q),
        _whitened_difference(q, p),
    )
    s = torch.linalg.svdvals(factor)
    jeffreys = torch.cat([s - 1 / s, delta, back], -1) / _ROOT2  # J = ½(Σ(s − 1/s)² + ‖δ‖² + ‖δ'‖²)
    return Bounds(
        _log_singular_norm(_embedded_factor(factor, delta)),
        torch.linalg.vector_norm(jeffreys, dim=-1),
    )


def _embedded_factor(factor: Tensor, delta: Tensor) -> Tensor:
    """``[[M, δ], [0, 1]]``, shape ``(*b, n+1, n+1)``."""
    top = torch.cat([factor, delta[..., :, None]], -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., -1] = 1
    return torch.cat([top, bottom], -2)
