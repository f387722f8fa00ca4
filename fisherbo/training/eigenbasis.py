"""The second moments of a layer's gradient in a Kronecker-factored eigenbasis (EKFAC).

Symbols (George et al. 2018):
    Q_A, Q_G   eigenvectors of the factors A and G, as columns
    ∇_n        gradient of row n, Σ_t ḡ_nt a_ntᵀ over its shared positions, shape (d_out, d_in)
    s          E[(Q_Gᵀ ∇_n Q_A)²], element by element: the diagonal of the Fisher in the basis
Of all matrices that are diagonal in the basis, diag(s) is the nearest to the Fisher in Frobenius
norm; K-FAC's is g aᵀ, with the eigenvalues of the factors.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 2**22  # scalars of row gradients that are held at once


def squared_gradients(
    inputs: Tensor, gradients: Tensor, input_basis: Tensor, output_basis: Tensor
) -> Tensor:
    """``Σ_n (Q_Gᵀ ∇_n Q_A)²``, shape ``(*b, d_out, d_in)``.

    Args:
        inputs: a, shape ``(*b, N, T, d_in)``, or ``(*b, N, T, d_in − 1)`` without the bias's 1.
        gradients: ḡ, shape ``(*b, N, T, d_out)``.
        input_basis: Q_A, shape ``(*b, d_in, d_in)``.
        output_basis: Q_G, shape ``(*b, d_out, d_out)``.
    """
    basis = input_basis[..., None, :, :]
    width = inputs.shape[-1]
    a = inputs.to(basis.dtype) @ basis[..., :width, :]
    if basis.shape[-2] > width:
        a = a + basis[..., width:, :]
    g = gradients.to(basis.dtype) @ output_basis[..., None, :, :]
    if a.shape[-2] == 1:
        return g[..., 0, :].square().mT @ a[..., 0, :].square()
    rows = max(1, _CHUNK // (a.shape[-1] * g.shape[-1]))
    chunks = zip(g.split(rows, -3), a.split(rows, -3), strict=True)
    return sum((g_part.mT @ a_part).square().sum(-3) for g_part, a_part in chunks)


def squared_embedding_gradients(
    indices: Tensor, gradients: Tensor, output_basis: Tensor, size: int
) -> Tensor:
    """As `squared_gradients` for one-hot inputs, whose basis is the identity.

    Args:
        indices: Shape ``(N, T)``.
        gradients: ḡ, shape ``(N, T, d_out)``.
        output_basis: Q_G, shape ``(d_out, d_out)``.
        size: d_in, the number of embeddings.
    """
    g = gradients.to(output_basis.dtype) @ output_basis
    rows = torch.arange(len(indices), device=indices.device)[:, None]
    keys, inverse = (indices + size * rows).flatten().unique(return_inverse=True)
    sums = g.new_zeros(len(keys), g.shape[-1]).index_add_(0, inverse, g.flatten(0, 1))
    squares = g.new_zeros(size, g.shape[-1]).index_add_(0, keys % size, sums.square())
    return squares.mT


def projected(spectrum: Tensor, input_rotation: Tensor | None, output_rotation: Tensor) -> Tensor:
    """The diagonal, in a new basis, of the matrix with diagonal ``spectrum`` in the old one.

    Args:
        spectrum: s, shape ``(*b, d_out, d_in)``.
        input_rotation: ``Q_A,newᵀ Q_A,old``; ``None``: the basis is the same.
        output_rotation: ``Q_G,newᵀ Q_G,old``.
    """
    rows = output_rotation.square() @ spectrum
    return rows if input_rotation is None else rows @ input_rotation.square().mT
