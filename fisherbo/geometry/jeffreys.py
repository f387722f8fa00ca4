"""Jeffreys' prior π(θ) ∝ √det F(θ), which every change of coordinates leaves as it is.

Symbols: F Fisher information, K number of categories. On the probabilities of K categories
√det F = Π pᵢ^(−1/2), whose integral over the simplex is π^(K/2)/Γ(K/2) (Jeffreys 1946).
It is invariant, though not the only prior that is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
)

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.families import FAMILIES, family_of, fisher_information
from fisherbo.geometry.linalg import cholesky, log_determinant


def jeffreys_prior(
    family: Distribution | type[Distribution],
    *,
    categories: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Distribution:
    """Jeffreys' prior of a family's probabilities, where it is proper.

    Args:
        family: Bernoulli or Binomial, for Beta(½, ½) of ``probs``; Categorical, for Dirichlet(½)
            of all K ``probs``. A class, or a member, whose dtype, device and K are used.
        categories: K, where ``family`` is the class Categorical.
        dtype: Of the prior. Default: the member's, or torch's default.
        device: Of the prior. Default: the member's, or torch's default.

    Raises:
        InvalidInputError: If the prior is improper or the family not known, or K is missing.
    """
    kind = family if isinstance(family, type) else family_of(family)
    if isinstance(family, (Bernoulli, Binomial, Categorical)):
        probs = family.probs
        dtype, device = dtype or probs.dtype, probs.device if device is None else device
        categories = probs.shape[-1] if isinstance(family, Categorical) else None
    half = torch.tensor(0.5, dtype=dtype, device=device)
    if kind is Categorical:
        return Dirichlet(half.expand(_at_least_two(categories)))
    if kind is Bernoulli or kind is Binomial:
        return Beta(half, half)
    raise _no_prior(family, kind)


def _at_least_two(categories: int | None) -> int:
    if categories is None or categories < 2:
        raise InvalidInputError(
            f"categories must be >= 2, got {categories!r}; pass categories=K or a Categorical"
        )
    return categories


def _no_prior(
    family: Distribution | type[Distribution], kind: type[Distribution] | None
) -> InvalidInputError:
    name = family.__name__ if isinstance(family, type) else type(family).__name__
    if kind in FAMILIES:
        return InvalidInputError(
            f"Jeffreys' prior of {name} is improper (its density has no finite integral), so it is "
            "no distribution; log_jeffreys_density gives log √det F, up to a constant"
        )
    return InvalidInputError(
        f"Jeffreys' prior is known for Bernoulli, Binomial and Categorical, got {name}; "
        "log_jeffreys_density gives log √det F of any distribution, up to a constant"
    )


def log_jeffreys_density(
    distribution: Distribution, *, parameters: str | tuple[str, ...] | None = None
) -> Tensor:
    """``log √det F`` at a distribution, up to a constant, shape ``(*b,)``.

    A density of the coordinates that ``parameters`` name, as in `fisher_information`.

    Raises:
        InvalidInputError: As `fisher_information`; also where F is singular, as it is in the chart
            ``logits`` of Categorical.
    """
    if family_of(distribution) is Categorical and parameters in ("logits", ("logits",)):
        raise InvalidInputError(
            "the Fisher information of Categorical in logits is singular (a constant may be added "
            'to all), so it has no density; use parameters="probs"'
        )
    fisher = fisher_information(distribution, parameters=parameters)
    return log_determinant(cholesky(fisher)) / 2


def jeffreys_normaliser(categories: int) -> float:
    """``∫ √det F dp`` over the probabilities of K categories: ``π^(K/2)/Γ(K/2)``; π for K = 2.

    Raises:
        InvalidInputError: If K < 2.
    """
    k = _at_least_two(categories)
    return math.exp(k / 2 * math.log(math.pi) - math.lgamma(k / 2))
