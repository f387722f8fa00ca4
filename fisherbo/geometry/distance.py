"""Fisher–Rao distances and geodesics between members of a family of `torch.distributions`.

Symbols:
    d            Fisher–Rao distance: length of the shortest curve; √(2 KL) for near points
    r            √p: a point of the unit sphere, whose great circles are the geodesics
    φ            angle between two such points; d = 2φ

Chords replace arccos, which loses half of the digits at near points. Normals are in `normals`.
Sources: Atkinson & Mitchell (1981); Amari (2016); Miyamoto et al. (2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.normals import (
    multivariate_distance,
    multivariate_geodesic,
    normal_distance,
    normal_geodesic,
)
from fisherbo.geometry.pairs import common_family


def fisher_rao_distance(p: Distribution, q: Distribution) -> Tensor:
    """Fisher–Rao distance between members of one family, shape ``(*b,)``.

    Finite at the edge of Bernoulli, binomial, categorical (a probability 0) and Poisson (rate 0).
    Gradients flow; at p = q, where the distance has none, they are 0.

    Args:
        p: Bernoulli, Binomial, Categorical, Poisson, Exponential, Normal or MultivariateNormal.
        q: Of the same family; batch shapes broadcast. Multivariate normals need equal means, equal
            covariances, or a mean difference along an eigenvector of Σ₂ relative to Σ₁.

    Raises:
        InvalidInputError: If families, events, numbers of trials or batch shapes do not fit, a
            parameter is out of range, or a pair of multivariate normals has no closed form.
    """
    return _DISTANCES[common_family(p, q)](p, q)


def geodesic(p: Distribution, q: Distribution, t: float | Tensor) -> Distribution:
    """The distribution a fraction ``t`` of the way along the shortest curve from p to q.

    d(p, γ(t)) = t·d(p, q). Equal-covariance normals leave the set of equal covariances: the mean
    moves on a circle arc of the half-plane along the mean difference. Gradients of multivariate
    normals are not defined where eigenvalues of S repeat.

    Args:
        p: The distribution at t = 0, as in `fisher_rao_distance`.
        q: The distribution at t = 1, of the same family.
        t: In [0, 1]; a tensor broadcasts with the batch shape.

    Raises:
        InvalidInputError: As `fisher_rao_distance`, and if ``t`` is not in [0, 1].
    """
    family = common_family(p, q)
    like = p.probs if isinstance(p, Categorical) else p.mean
    time = torch.as_tensor(t, dtype=like.dtype, device=like.device)
    if not ((time >= 0) & (time <= 1)).all():
        raise InvalidInputError(f"t must be in [0, 1], got {t}; 0 gives p and 1 gives q")
    return _GEODESICS[family](p, q, time)


def _sqrt(value: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, not inf."""
    positive = value > 0
    return torch.where(positive, value, 1.0).sqrt() * positive


def _root_difference(left: Tensor, right: Tensor) -> Tensor:
    """``√left − √right`` without cancellation, ``(left − right)/(√left + √right)``."""
    total = _sqrt(left) + _sqrt(right)
    return (left - right) / torch.where(total > 0, total, 1.0)


def _two_outcomes(p: Any) -> Tensor:
    """Probabilities of success and failure, shape ``(*b, 2)``."""
    return torch.stack([p.probs, 1 - p.probs], -1)


def _sphere_distance(left: Tensor, right: Tensor) -> Tensor:
    """``2·arccos Σ√(pq)`` between probabilities ``(*b, k)``."""
    chord = torch.linalg.vector_norm(_root_difference(left, right), dim=-1)
    return 4 * torch.asin((chord / 2).clamp(max=1.0))  # chord = 2 sin(φ/2), d = 2φ


def _sphere_geodesic(left: Tensor, right: Tensor, t: Tensor) -> Tensor:
    """Probabilities r² on the great circle, shape ``(*b, k)``; t has shape ``(*b, 1)``."""
    angle = _sphere_distance(left, right)[..., None] / 2
    apart = angle > 0
    safe = torch.where(apart, angle, 1.0)
    before = torch.where(apart, torch.sin((1 - t) * safe) / torch.sin(safe), 1 - t)
    after = torch.where(apart, torch.sin(t * safe) / torch.sin(safe), t)
    squares = (before * _sqrt(left) + after * _sqrt(right)) ** 2
    return squares / squares.sum(-1, keepdim=True)


def _categorical_geodesic(p: Categorical, q: Categorical, t: Tensor) -> Categorical:
    return Categorical(probs=_sphere_geodesic(p.probs, q.probs, t[..., None]))


def _bernoulli_geodesic(p: Bernoulli, q: Bernoulli, t: Tensor) -> Bernoulli:
    return Bernoulli(_sphere_geodesic(_two_outcomes(p), _two_outcomes(q), t[..., None])[..., 0])


def _binomial_distance(p: Binomial, q: Binomial) -> Tensor:
    # 2√n |asin√p − asin√q|
    return p.total_count.sqrt() * _sphere_distance(_two_outcomes(p), _two_outcomes(q))


def _binomial_geodesic(p: Binomial, q: Binomial, t: Tensor) -> Binomial:
    probs = _sphere_geodesic(_two_outcomes(p), _two_outcomes(q), t[..., None])[..., 0]
    return Binomial(p.total_count, probs)


def _poisson_distance(p: Poisson, q: Poisson) -> Tensor:
    return 2 * _root_difference(p.rate, q.rate).abs()


def _poisson_geodesic(p: Poisson, q: Poisson, t: Tensor) -> Poisson:
    return Poisson(((1 - t) * _sqrt(p.rate) + t * _sqrt(q.rate)) ** 2)


def _exponential_distance(p: Exponential, q: Exponential) -> Tensor:
    half_sinh = (p.rate - q.rate) / (2 * p.rate.sqrt() * q.rate.sqrt())
    return 2 * torch.asinh(half_sinh.abs())  # |log λ₁ − log λ₂|


def _exponential_geodesic(p: Exponential, q: Exponential, t: Tensor) -> Exponential:
    return Exponential(p.rate ** (1 - t) * q.rate**t)


Length: TypeAlias = Callable[[Any, Any], Tensor]
Path: TypeAlias = Callable[[Any, Any, Tensor], Distribution]

_DISTANCES: dict[type[Distribution], Length] = {
    Bernoulli: lambda p, q: _sphere_distance(_two_outcomes(p), _two_outcomes(q)),
    Binomial: _binomial_distance,
    Categorical: lambda p, q: _sphere_distance(p.probs, q.probs),
    Poisson: _poisson_distance,
    Exponential: _exponential_distance,
    Normal: normal_distance,
    MultivariateNormal: multivariate_distance,
}

_GEODESICS: dict[type[Distribution], Path] = {
    Bernoulli: _bernoulli_geodesic,
    Binomial: _binomial_geodesic,
    Categorical: _categorical_geodesic,
    Poisson: _poisson_geodesic,
    Exponential: _exponential_geodesic,
    Normal: normal_geodesic,
    MultivariateNormal: multivariate_geodesic,
}
