"""Markov kernels on finite sample spaces, and what Čencov's theorem says of them.

Symbols:
    p, v     probabilities of m outcomes; a tangent vector there, Σ vᵢ = 0
    W        Markov kernel, shape (m, n), rows sum to 1; it sends p to pW and v to vW
    g        Fisher metric g_p(u, v) = Σ uᵢ vᵢ / pᵢ

A kernel that splits each outcome i into outcomes of its own, in fixed proportions, is a congruent
embedding. Čencov (1982): on finite sample spaces the Fisher metric is, up to a factor, the only one
that all congruent embeddings preserve. Every kernel contracts it: what is lost is information.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical

from fisherbo.errors import InvalidInputError


def markov_embedding(outcome: Tensor, weight: Tensor) -> Tensor:
    """Kernel of a congruent embedding, shape ``(*b, m, n)``, with m = largest outcome + 1.

    Args:
        outcome: The old outcome that each new one is split from, integers, shape ``(n,)``; every
            one of 0 … m − 1 must occur.
        weight: Positive, shape ``(*b, n)``; an old outcome's weights are scaled to sum to 1.

    Raises:
        InvalidInputError: If an outcome has no part, a weight is not positive, or shapes differ.
    """
    if outcome.ndim != 1 or weight.shape[-1:] != outcome.shape or not outcome.numel():
        raise InvalidInputError(
            "markov_embedding needs outcome of shape (n,) and weight of shape (*b, n), got "
            f"{tuple(outcome.shape)} and {tuple(weight.shape)}"
        )
    if not ((weight > 0) & torch.isfinite(weight)).all():
        raise InvalidInputError(
            f"weight must be positive and finite, got a least weight of {weight.min().item()}"
        )
    count = int(outcome.max()) + 1
    member = outcome == torch.arange(count, device=outcome.device)[:, None]
    if int(outcome.min()) < 0 or not member.any(-1).all():
        raise InvalidInputError(
            f"outcome must name each of 0 … {count - 1} at least once, got {outcome.tolist()}"
        )
    kernel = member * weight[..., None, :]
    return kernel / kernel.sum(-1, keepdim=True)


def is_congruent(kernel: Tensor) -> Tensor:
    """Whether each new outcome comes from exactly one old one, shape ``(*b,)``."""
    check_kernel(kernel)
    return ((kernel > 0).sum(-2) == 1).all(-1)


def push_forward(distribution: Categorical, kernel: Tensor) -> Categorical:
    """The distribution ``pW`` of the new outcome, for a kernel of shape ``(*b, m, n)``.

    Raises:
        InvalidInputError: If the kernel's rows are no probabilities or their number is not m.
    """
    return Categorical(probs=push_tangent(distribution.probs, kernel))


def push_tangent(vector: Tensor, kernel: Tensor) -> Tensor:
    """Image ``vW`` of tangent vectors ``(*b, m)``, shape ``(*b, n)``; sums are kept.

    Raises:
        InvalidInputError: As `push_forward`.
    """
    check_kernel(kernel)
    if vector.shape[-1] != kernel.shape[-2]:
        raise InvalidInputError(
            f"a kernel of shape {tuple(kernel.shape)} acts on {kernel.shape[-2]} outcomes, got "
            f"{vector.shape[-1]}"
        )
    return (vector[..., None, :] @ kernel)[..., 0, :]


def fisher_inner(distribution: Categorical, u: Tensor, v: Tensor) -> Tensor:
    """Fisher metric ``Σ uᵢ vᵢ / pᵢ`` on tangent vectors ``(*b, m)`` with sum 0, shape ``(*b,)``.

    Where p is 0, the result is inf if u v ≠ 0, and NaN if u v = 0.
    """
    return (u * v / distribution.probs).sum(-1)


def check_kernel(kernel: Tensor) -> None:
    """Refuse what is no Markov kernel of shape ``(*b, m, n)``.

    Raises:
        InvalidInputError: If an entry is negative or not finite, or a row does not sum to 1.
    """
    if kernel.ndim < 2 or not kernel.is_floating_point():
        raise InvalidInputError(
            f"a Markov kernel must be floating point of shape (*b, m, n), got {kernel.dtype} of "
            f"shape {tuple(kernel.shape)}"
        )
    error = (kernel.sum(-1) - 1).abs()
    allowed = 10 * kernel.shape[-1] * torch.finfo(kernel.dtype).eps
    if not ((kernel >= 0).all() and (error <= allowed).all()):
        raise InvalidInputError(
            "the rows of a Markov kernel must be probabilities, got a least entry of "
            f"{kernel.min().item():.3g} and a row sum off by {error.max().item():.3g}; divide by "
            "kernel.sum(-1, keepdim=True)"
        )
