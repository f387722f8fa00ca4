"""The exact quadratic model of the loss along a few directions (Martens & Grosse 2015, § 6.4, § 7).

Symbols: J Jacobian of the outputs z by the weights, F_z Fisher of z, F = E[Jᵀ F_z J] of the
weights; h the loss with its L2 term, g = ∇h; λ damping, η weight decay.

    M(δ) = ½ δᵀ(F + (λ+η) I)δ + gᵀδ

J v is exact and of the user's own forward pass: u ↦ Jᵀu is linear, so that J v is the gradient by u
of ⟨Jᵀu, v⟩. No further forward pass is made; dropout and statistics of the batch stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.linalg import psd_eigh
from fisherbo.training.events import events
from fisherbo.training.likelihoods import Likelihood, LikelihoodFunction, output_inner_products


@dataclass(frozen=True)
class Linearised:
    """A forward pass as a linear map of the weights.

    Attributes:
        outputs: z, shape ``(N, T, C)``.
        used: Which entries of z the loss uses, shape ``(N, T, C)`` or ``(N, T, 1)``.
        likelihood: p(y | z).
        dim: The dimension of the model's output that holds the C entries.
        seed: u, of the shape of the model's output.
        slopes: Jᵀu of each parameter, as a function of u.
    """

    outputs: Tensor
    used: Tensor
    likelihood: Likelihood | LikelihoodFunction
    dim: int
    seed: Tensor
    slopes: Mapping[Tensor, Tensor]

    @property
    def rows(self) -> int:
        """Number of distributions p(y | z) that the loss uses."""
        return int(self.used.any(-1).sum())

    def inner_products(self, directions: Sequence[Mapping[Tensor, Tensor]]) -> Tensor:
        """``Σ_n (J v)ᵀ F_z (J w)`` for each pair of directions, shape ``(k, k)``, in float64."""
        tangents = [self._tangent(direction) for direction in directions]
        return output_inner_products(self.outputs, torch.stack(tangents), self.likelihood).double()

    def _tangent(self, direction: Mapping[Tensor, Tensor]) -> Tensor:
        used = [p for p, slope in self.slopes.items() if slope.requires_grad and p in direction]
        if not used:
            return torch.zeros_like(self.outputs)
        with second_derivatives("the quadratic model"), torch.enable_grad():
            (tangent,) = torch.autograd.grad(
                [self.slopes[p] for p in used],
                self.seed,
                [direction[p].to(self.slopes[p].dtype) for p in used],
                retain_graph=True,
            )
        return torch.where(self.used, events(tangent, self.likelihood, self.dim), 0.0)


@contextmanager
def second_derivatives(user: str) -> Iterator[None]:
    """Name what the ``user`` of the block needs where an operation has no second derivative.

    Raises:
        InvalidInputError: If one has none.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise InvalidInputError(
            f"{user} needs second derivatives of every operation, got: {error}; call the model "
            "within torch.nn.attention.sdpa_kernel(SDPBackend.MATH) for attention, within "
            "torch.backends.cudnn.flags(enabled=False) for recurrent modules on CUDA, and without "
            "torch.compile"
        ) from error


def linearise(
    outputs: Tensor,
    used: Tensor,
    parameters: Sequence[Tensor],
    likelihood: Likelihood | LikelihoodFunction,
    dim: int = -1,
) -> Linearised:
    """The map v ↦ J v of a forward pass whose graph is alive.

    Args:
        outputs: The model's output.
        used: Which of its entries the loss uses, in the shape of `events`.
        parameters: Of the model.
        likelihood: p(y | z).
        dim: The dimension of the output that holds the entries of one distribution.

    Raises:
        InvalidInputError: If an operation of the network has no second derivative.
    """
    seed = torch.zeros_like(outputs).requires_grad_()
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    with second_derivatives("the quadratic model"), torch.enable_grad():
        slopes = torch.autograd.grad(
            outputs, trained, seed, create_graph=True, allow_unused=True, materialize_grads=True
        )
    viewed = events(outputs.detach(), likelihood, dim)
    found = dict(zip(trained, slopes, strict=True))
    return Linearised(viewed, used, likelihood, dim, seed, found)


def minimiser(curvature: Tensor, slopes: Tensor, rounding: float = 1e-14) -> Tensor:
    """Coefficients c of δ = −Σ c_i v_i that minimise M, the least ones if directions are parallel.

    Args:
        curvature: ``v_iᵀ(F + (λ+η) I)v_j``, shape ``(k, k)``; ``v_i = 0`` is allowed.
        slopes: ``gᵀv_i``, shape ``(k,)``.
        rounding: Relative size of the errors in ``curvature``.

    Raises:
        NumericalError: If the curvature is not finite.
    """
    lengths = curvature.diagonal()
    scale = torch.where(lengths > 0, lengths, 1.0).sqrt()
    values, vectors = psd_eigh(curvature / scale / scale[:, None])
    kept = values > rounding * values[-1]
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
    return vectors @ (inverse * (vectors.mT @ (slopes / scale))) / scale


def change(curvature: Tensor, slopes: Tensor, coefficients: Tensor) -> float:
    """``M(δ) − M(0)`` for ``δ = −Σ c_i v_i``."""
    return float(0.5 * coefficients @ curvature @ coefficients - slopes @ coefficients)
