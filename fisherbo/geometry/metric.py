"""The natural-gradient core: metrics that turn a gradient into a natural gradient.

Symbols:
    F        Fisher metric at a point
    g, d     gradient, natural gradient d = F⁻¹ g
    λ        damping, added to the diagonal of F
    J        Jacobian of a map of parameters, or of a network's outputs by its weights
    z, θ     outputs of a network, its weights
A step t·d changes the distribution by KL ≈ ½ t² dᵀF d = ½ t² gᵀd (Amari 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.block_diagonal import Matrix, eigh, inverse
from fisherbo.geometry.divergence import kl
from fisherbo.geometry.linalg import conjugate_gradients, kronecker_solve, psd_inverse, psd_solve

Product: TypeAlias = Callable[[Tensor], Tensor]
"""Vectors ``v`` to ``F v``, of the same shape."""


Array = TypeVar("Array")


@runtime_checkable
class Metric(Protocol[Array]):
    """A positive definite form on tangent vectors, which are torch tensors or NumPy arrays."""

    def natural(self, gradient: Array, /) -> Array:
        """Natural gradient ``F⁻¹ gradient``, of the gradient's shape."""
        ...

    def squared_length(self, step: Array, /) -> Array:
        """``stepᵀ F step``, twice the KL divergence of a short step in nats, shape ``(*b,)``."""
        ...

    def damped(self, damping: float, /) -> Metric[Array]:
        """The metric ``F + damping·I``."""
        ...


@dataclass(frozen=True)
class DenseMetric:
    """Metrics held by their inverses.

    Attributes:
        inverse: ``F⁻¹``, shape ``(*b, n, n)``.
    """

    inverse: Tensor

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``F⁻¹ gradient``, shape ``(*b, n)``."""
        return (self.inverse @ gradient[..., None])[..., 0]

    def squared_length(self, step: Tensor) -> Tensor:
        """``stepᵀ F step``, shape ``(*b,)``."""
        return (step * psd_solve(self.inverse, step)).sum(-1)

    def damped(self, damping: float) -> DenseMetric:
        """The metric ``F + damping·I``."""
        metric = psd_inverse(self.inverse)
        metric.diagonal(dim1=-2, dim2=-1).add_(damping)
        return DenseMetric(psd_inverse(metric))


@dataclass(frozen=True)
class KroneckerMetric:
    """The metric ``A ⊗ G`` on weight matrices, held by the inverses of its factors.

    Attributes:
        input_inverse: ``A⁻¹``, shape ``(*b, d_in, d_in)``, or block-diagonal.
        output_inverse: ``G⁻¹``, shape ``(*b, d_out, d_out)``, or block-diagonal.
    """

    input_inverse: Matrix
    output_inverse: Matrix

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``G⁻¹ gradient A⁻¹``, shape ``(*b, d_out, d_in)``.

        Martens & Grosse (2015), eq. 1 and (A ⊗ G)⁻¹ = A⁻¹ ⊗ G⁻¹.
        """
        rows: Tensor = self.output_inverse @ gradient
        return rows @ self.input_inverse

    def squared_length(self, step: Tensor) -> Tensor:
        """``tr(stepᵀ G step A)``, shape ``(*b,)``."""
        rows: Tensor = inverse(self.output_inverse) @ step
        return (step * (rows @ inverse(self.input_inverse))).sum((-2, -1))

    def damped(self, damping: float) -> EigenMetric:
        """The metric ``A ⊗ G + damping·I``, exactly."""
        inputs, input_basis = eigh(inverse(self.input_inverse))
        outputs, output_basis = eigh(inverse(self.output_inverse))
        spectrum = outputs[..., :, None] * inputs[..., None, :]
        return EigenMetric(Eigenbasis(input_basis, output_basis), spectrum, damping)


@dataclass(frozen=True)
class Eigenbasis:
    """Coordinates of weight matrices in the bases Q_A of the inputs and Q_G of the outputs.

    Attributes:
        input_basis: Q_A, orthogonal, shape ``(*b, d_in, d_in)``, or block-diagonal; ``None`` is the
            identity.
        output_basis: Q_G, likewise.
    """

    input_basis: Matrix | None
    output_basis: Matrix | None

    def coordinates(self, matrix: Tensor) -> Tensor:
        """``Q_Gᵀ matrix Q_A``."""
        rotated = matrix if self.output_basis is None else self.output_basis.mT @ matrix
        return rotated if self.input_basis is None else rotated @ self.input_basis

    def matrix(self, coordinates: Tensor) -> Tensor:
        """``Q_G coordinates Q_Aᵀ``."""
        basis = self.input_basis
        rotated = coordinates if basis is None else coordinates @ basis.mT
        return rotated if self.output_basis is None else self.output_basis @ rotated


@dataclass(frozen=True)
class EigenMetric:
    """The metric ``(Q_A ⊗ Q_G) (diag(s) + λ I) (Q_A ⊗ Q_G)ᵀ`` on weight matrices.

    With ``s = g aᵀ``, the eigenvalues of G and A, it is ``A ⊗ G + λ I``; with the second moments of
    a gradient in the basis it is the nearest metric of that basis (George et al. 2018, eq. 5). λ
    changes without a new factorisation.

    Attributes:
        basis: Q_A and Q_G.
        spectrum: s >= 0, shape ``(*b, d_out, d_in)``; as many more as the bases have columns more.
        damping: λ > 0.
    """

    basis: Eigenbasis
    spectrum: Tensor
    damping: float

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``Q_G ((Q_Gᵀ gradient Q_A) / (s + λ)) Q_Aᵀ``, ``(*b, d_out, d_in)``."""
        coordinates = self.basis.coordinates(gradient)
        return self.basis.matrix(coordinates / (self.spectrum + self.damping))

    def squared_length(self, step: Tensor) -> Tensor:
        """``Σ (s + λ) (Q_Gᵀ step Q_A)²``, shape ``(*b,)``."""
        squares = self.basis.coordinates(step).square()
        return ((self.spectrum + self.damping) * squares).sum((-2, -1))

    def damped(self, damping: float) -> EigenMetric:
        """The metric with ``damping`` more."""
        return replace(self, damping=self.damping + damping)


@dataclass(frozen=True)
class MatrixFreeMetric:
    """The metric ``F + λ I`` known by products ``v ↦ F v``, solved by conjugate gradients.

    Attributes:
        product: F, positive semi-definite.
        damping: λ >= 0.
        tolerance: Relative residual at which conjugate gradients stop.
        max_iterations: Default: 2n.
        preconditioner: Vectors r to M⁻¹ r, M near F + λI. Default: none.
    """

    product: Product
    damping: float = 0.0
    tolerance: float = 1e-10
    max_iterations: int | None = None
    preconditioner: Product | None = None

    def natural(self, gradient: Tensor) -> Tensor:
        """Natural gradient ``(F + λI)⁻¹ gradient``, shape ``(*b, n)``.

        Raises:
            NumericalError: If a product shows negative curvature or is not finite.
        """
        return conjugate_gradients(
            self._times,
            gradient,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            preconditioner=self.preconditioner,
        )

    def squared_length(self, step: Tensor) -> Tensor:
        """``stepᵀ (F + λI) step``, shape ``(*b,)``, by one product."""
        return (step * self._times(step)).sum(-1)

    def damped(self, damping: float) -> MatrixFreeMetric:
        """The metric with ``damping`` more."""
        return replace(self, damping=self.damping + damping)

    def _times(self, vector: Tensor) -> Tensor:
        return self.product(vector) + self.damping * vector


Fisher: TypeAlias = Tensor | tuple[Tensor, Tensor] | Metric[Tensor] | Product
"""A matrix ``(*b, n, n)``; Kronecker factors ``(A, G)``; a metric; or a product ``v ↦ F v``."""


def natural_gradient(fisher: Fisher, gradient: Tensor, damping: float = 0.0) -> Tensor:
    """Natural gradient ``(F + λI)⁻¹ g``, of the gradient's shape (Amari 1998, theorem 1).

    A dense F that is singular gives the least-norm ``F⁺ g``: the part of g that F does not see is
    dropped.

    Args:
        fisher: F, in one of the forms of `Fisher`. A product is solved by conjugate gradients;
            `MatrixFreeMetric` has their settings.
        gradient: g, shape ``(*b, n)``; for Kronecker forms ``(*b, d_out, d_in)``.
        damping: λ >= 0. It makes the direction depend on the chart.

    Raises:
        InvalidInputError: If F is not symmetric positive semi-definite and finite, shapes do not
            fit, or λ < 0.
        NumericalError: If a product shows negative curvature or is not finite.
    """
    if not damping >= 0:
        raise InvalidInputError(f"damping must be >= 0, got {damping!r}; 1e-4 to 1e-2 are usual")
    if isinstance(fisher, Tensor):
        return _dense_natural_gradient(fisher, gradient, damping)
    if isinstance(fisher, tuple):
        return kronecker_solve(*fisher, gradient, damping)
    metric: Metric[Tensor] = _metric_of(fisher)
    return (metric.damped(damping) if damping else metric).natural(gradient)


def _metric_of(fisher: Any) -> Metric[Tensor]:
    if isinstance(fisher, Metric):
        return fisher
    if callable(fisher):
        return MatrixFreeMetric(fisher)
    raise InvalidInputError(
        "the Fisher information must be a matrix, Kronecker factors (A, G), a product v -> F v, or "
        f"a metric with natural(), squared_length() and damped(), got {type(fisher).__name__}"
    )


def _dense_natural_gradient(fisher: Tensor, gradient: Tensor, damping: float) -> Tensor:
    if fisher.ndim < 2 or fisher.shape[-1] != gradient.shape[-1]:
        raise InvalidInputError(
            f"a gradient of shape {tuple(gradient.shape)} needs a Fisher matrix of shape "
            f"(*b, n, n) with n = {gradient.shape[-1]}, got {tuple(fisher.shape)}"
        )
    if damping > 0:
        fisher = fisher + damping * torch.eye(
            fisher.shape[-1], dtype=fisher.dtype, device=fisher.device
        )
    return psd_solve(fisher, gradient)


def pull_back(fisher: Tensor, jacobian: Tensor) -> Tensor:
    """Metric ``Jᵀ F J`` of coordinates φ with θ = θ(φ), shape ``(*b, n, n)``.

    Args:
        fisher: F in the coordinates θ, shape ``(*b, m, m)``.
        jacobian: J = ∂θ/∂φ, shape ``(*b, m, n)``.

    Raises:
        InvalidInputError: If the shapes do not fit.
    """
    if fisher.shape[-1] != jacobian.shape[-2]:
        raise InvalidInputError(
            f"the Jacobian needs one row for each of the {fisher.shape[-1]} coordinates of the "
            f"metric, shape (*b, {fisher.shape[-1]}, n), got {tuple(jacobian.shape)}"
        )
    return jacobian.mT @ fisher @ jacobian


def fisher_vector_product(
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    likelihood: Callable[[Tensor], Distribution],
    *,
    parameters: Iterable[Tensor] | None = None,
) -> Product:
    """Products ``v ↦ F v`` with the Fisher matrix of a network's weights, never formed.

    F = mean over rows of Jᵀ F_z J is the Hessian, at θ itself, of ``KL(p(·|z) ‖ p(·|z(θ)))`` with
    z held fixed (Martens 2020, § 8): one forward pass now, one backward pass for each product.

    Args:
        model: A module, or another map of inputs to outputs z. Called once, in the mode it is in.
        inputs: Rows first.
        likelihood: Outputs to ``p(y|z)``, as ``lambda z: Categorical(logits=z)``. Divergences are
            averaged over the first dimension and summed over the others.
        parameters: θ. Default: those of the module that require a gradient.

    Returns:
        A map of vectors ``(n,)`` to vectors ``(n,)``; entries are those of the parameters, in
        order, flattened.

    Raises:
        InvalidInputError: If no parameter requires a gradient, or torch has no closed form of KL.
    """
    weights = _trainable(model, parameters)
    with torch.enable_grad():
        outputs = model(inputs)
        divergence = kl(likelihood(outputs.detach()), likelihood(outputs))
        mean = divergence.sum() / (divergence.shape[0] if divergence.ndim else 1)
        gradients = torch.autograd.grad(
            mean, weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        slope = torch.cat([g.flatten() for g in gradients])

    def product(vector: Tensor) -> Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(vector)
        rows = torch.autograd.grad(
            slope, weights, vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([row.flatten() for row in rows])

    return product


def _trainable(
    model: Callable[[Tensor], Tensor], parameters: Iterable[Tensor] | None
) -> list[Tensor]:
    if parameters is None:
        parameters = model.parameters() if isinstance(model, nn.Module) else ()
    weights = [p for p in parameters if p.requires_grad]
    if not weights:
        raise InvalidInputError(
            "a Fisher-vector product needs parameters that require a gradient, got none; pass a "
            "module, or parameters=[...] that the model uses"
        )
    return weights
