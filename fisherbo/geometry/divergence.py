"""Kullback–Leibler divergence, with its exact limits at the edge of a family.

Symbols: p, q batches of `torch.distributions`; KL(p ‖ q) = E_p[log p − log q], in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Distribution,
    Poisson,
    kl_divergence,
)

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.families import check_range
from fisherbo.geometry.pairs import broadcast_batch


def kl(p: Distribution, q: Distribution) -> Tensor:
    """Kullback–Leibler divergence ``KL(p ‖ q) = E_p[log p − log q]``, in nats, shape ``(*b,)``.

    Closed forms of `torch.distributions`, with the exact limits 0·log 0 = 0 and inf where p has
    mass that q lacks. Below about 1e-8 (float64) the result is mostly rounding error; use ½ δᵀFδ
    there.

    Raises:
        InvalidInputError: If torch has no closed form for the pair, or shapes do not fit.
    """
    check_range(p)
    check_range(q)
    batch = broadcast_batch(p, q)
    try:
        return _exact_kl(p.expand(batch), q.expand(batch))
    except NotImplementedError as error:  # torch's word for a pair that nobody registered
        raise InvalidInputError(
            f"no closed form of KL({type(p).__name__} ‖ {type(q).__name__}) is known; supported "
            "are pairs within a family (Binomial: with equal total_count) and those that "
            "torch.distributions.kl registers"
        ) from error


def _exact_kl(p: Distribution, q: Distribution) -> Tensor:
    """Divergence of torch, mended where torch loses the limits at the edge."""
    if isinstance(p, Poisson) and isinstance(q, Poisson):
        log_ratio = torch.xlogy(p.rate, p.rate) - torch.xlogy(p.rate, q.rate)
        return log_ratio - (p.rate - q.rate)
    if isinstance(p, Binomial) and isinstance(q, Binomial):
        if torch.equal(p.total_count, q.total_count):
            return p.total_count * kl_divergence(Bernoulli(p.probs), Bernoulli(q.probs))
    return kl_divergence(p, q)
