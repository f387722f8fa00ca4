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

from fisherbo.geometry.block_diagonal import Matrix
from fisherbo.training.forms import Form

_CHUNK = 2**22  # scalars of row gradients that are held at once


def squared_gradients(
    inputs: Tensor,
    gradients: Tensor,
    input_basis: Tensor | None,
    output_basis: Tensor | None,
    input_form: Form,
    output_form: Form,
) -> Tensor:
    """``Σ_n (Q_Gᵀ ∇_n Q_A)²``, shape ``(*b, d_out, d_in)``, both padded as their forms are.

    Args:
        inputs: a, shape ``(*b, N, T, d_in)``, or ``(*b, N, T, d_in − 1)`` without the bias's 1.
        gradients: ḡ, shape ``(*b, N, T, d_out)``.
        input_basis: Q_A as it is stored; ``None``: the identity.
        output_basis: Q_G likewise.
        input_form: The form of A.
        output_form: The form of G.
    """
    a = input_form.rotated(inputs, input_basis)
    g = output_form.rotated(gradients, output_basis)
    if a.shape[-2] == 1:
        return g[..., 0, :].square().mT @ a[..., 0, :].square()
    rows = max(1, _CHUNK // (a.shape[-1] * g.shape[-1]))
    chunks = zip(g.split(rows, -3), a.split(rows, -3), strict=True)
    return sum((g_part.mT @ a_part).square().sum(-3) for g_part, a_part in chunks)


def squared_embedding_gradients(
    indices: Tensor, gradients: Tensor, output_basis: Tensor | None, output_form: Form, size: int
) -> Tensor:
    """As `squared_gradients` for one-hot inputs, whose basis is the identity.

    Args:
        indices: Shape ``(N, T)``.
        gradients: ḡ, shape ``(N, T, d_out)``.
        output_basis: Q_G as it is stored; ``None``: the identity.
        output_form: The form of G.
        size: d_in, the number of embeddings.
    """
    g = output_form.rotated(gradients, output_basis)
    rows = torch.arange(len(indices), device=indices.device)[:, None]
    keys, inverse = (indices + size * rows).flatten().unique(return_inverse=True)
    sums = g.new_zeros(len(keys), g.shape[-1]).index_add_(0, inverse, g.flatten(0, 1))
    squares = g.new_zeros(size, g.shape[-1]).index_add_(0, keys % size, sums.square())
    return squares.mT


def projected(
    spectrum: Tensor, input_rotation: Matrix | None, output_rotation: Matrix | None
) -> Tensor:
    """The diagonal, in a new basis, of the matrix with diagonal ``spectrum`` in the old one.

    Args:
        spectrum: s, shape ``(*b, d_out, d_in)``.
        input_rotation: ``(Q_A,newᵀ Q_A,old)²``, element by element; ``None``: the
            basis is the same.
        output_rotation: ``(Q_G,newᵀ Q_G,old)²`` likewise.
    """
    rows = spectrum if output_rotation is None else output_rotation @ spectrum
    return rows if input_rotation is None else rows @ input_rotation.mT
