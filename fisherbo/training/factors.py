"""Pure K-FAC mathematics: output gradients, Kronecker factors, damping, averaging and clipping.

Symbols (Martens & Grosse 2015; Grosse & Martens 2016; Eschenhagen et al. 2023, setting "expand"):
    z        network outputs, shape (N, *T, C): N rows, T shared positions, C classes or features
    s        gradient of −log p(y | z) with respect to z, summed (not averaged) over rows
    a, ḡ     one layer's input (with a last coordinate 1 for the bias) and its output gradient
    A, G     Kronecker factors E[a aᵀ] and E[ḡ ḡᵀ]; the layer's Fisher block is A ⊗ G
    λ, π     damping and its split: A + π√λ I and G + √λ/π I
    ε        weight of the old factor in the moving average
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from fisherbo.geometry.block_diagonal import Matrix, add_diagonal, inverse, mean_diagonal
from fisherbo.geometry.metric import KroneckerMetric

Likelihood = Literal["categorical", "bernoulli", "normal"]


def events(outputs: Tensor, likelihood: Likelihood) -> Tensor:
    """Outputs as ``(N, T, C)``: one distribution over the last dimension at each row and position.

    One-dimensional outputs are N rows of one feature, for ``"categorical"`` one row of C logits.
    """
    if outputs.ndim == 1:
        return outputs.reshape((1, 1, -1) if likelihood == "categorical" else (-1, 1, 1))
    return outputs.reshape(outputs.shape[0], -1, outputs.shape[-1])


def sampled_gradients(
    outputs: Tensor, likelihood: Likelihood, generator: torch.Generator
) -> Tensor:
    """Gradients ``s`` at labels drawn from the model, so that ``E[s sᵀ]`` is the Fisher of ``z``.

    The likelihood is of logits ("categorical", "bernoulli") or of means with variance 1 ("normal").

    Args:
        outputs: ``z``, shape ``(..., C)``.
        likelihood: p(y | z), over the last dimension.
        generator: Draws y; on the device of ``outputs``.

    Returns:
        ``s``, of the shape of ``outputs``; NaN where they are not finite.
    """
    if likelihood == "normal":
        noise = torch.empty_like(outputs, dtype=_at_least_float32(outputs))
        return noise.normal_(generator=generator).to(outputs.dtype)
    logits = outputs.to(_at_least_float32(outputs))
    if likelihood == "bernoulli":
        probability = logits.sigmoid()
        drawn = _drawable(probability).bernoulli(generator=generator)
        return (probability - drawn).to(outputs.dtype)
    probability = logits.softmax(-1)
    drawn = _draw(_drawable(probability), generator)
    minus_one = -torch.ones_like(drawn, dtype=probability.dtype)
    return probability.scatter_add(-1, drawn, minus_one).to(outputs.dtype)


def _draw(probability: Tensor, generator: torch.Generator) -> Tensor:
    """A class of each row, shape ``(..., 1)``, by one uniform number a row.

    `torch.multinomial` draws one for each class: half the time of a step with 4,000 classes.
    """
    cumulative = probability.cumsum(-1)
    total = cumulative[..., -1:]
    uniform = torch.empty_like(total).uniform_(generator=generator) * total
    found = torch.searchsorted(cumulative, uniform, right=True)
    last = (cumulative < total).sum(-1, keepdim=True)  # of positive probability
    return torch.minimum(found, last)


def _drawable(probability: Tensor) -> Tensor:
    """Probabilities from which torch can draw; those of a network that diverged become ½.

    Its ``s`` are NaN all the same, so that the factors tell of it, not the drawing of labels.
    """
    return torch.where(probability.isfinite(), probability, 0.5)


def exact_gradients(outputs: Tensor, likelihood: Likelihood) -> Iterator[Tensor]:
    """Columns ``s`` whose ``Σ s sᵀ`` is the output Hessian, so that the GGN is exact ("type 2").

    A column belongs to one class at one position: C·T of them, each of the shape ``(N, T, C)`` of
    ``outputs`` (see `events`).
    """
    for position in range(outputs.shape[1]):
        for index in range(outputs.shape[2]):
            column = torch.zeros_like(outputs)
            column[:, position] = hessian_root_column(outputs[:, position], likelihood, index)
            yield column


def hessian_root_column(outputs: Tensor, likelihood: Likelihood, index: int) -> Tensor:
    """Column ``index`` of S with ``S Sᵀ = ∇² −log p(y | z)``, for each row, shape ``(N, C)``.

    Categorical: column √p_c (e_c − p), since Σ_c p_c (e_c − p)(e_c − p)ᵀ = diag(p) − p pᵀ.
    """
    logits = outputs.to(_at_least_float32(outputs))
    if likelihood == "categorical":
        probability = logits.softmax(-1)
        column = -probability
        column[:, index] += 1
        column = column * probability[:, index, None].sqrt()
    else:
        column = torch.zeros_like(logits)
        scale = _bernoulli_sd(logits[:, index]) if likelihood == "bernoulli" else 1.0
        column[:, index] = scale
    return column.to(outputs.dtype)


def _bernoulli_sd(logit: Tensor) -> Tensor:
    return (logit.sigmoid() * (-logit).sigmoid()).sqrt()


def _at_least_float32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def output_inner_products(outputs: Tensor, tangents: Tensor, likelihood: Likelihood) -> Tensor:
    """``Σ uᵀ F_z v`` over rows and positions, for each pair (u, v) of tangents, shape ``(k, k)``.

    F_z, the Fisher of z, is diag(p) − p pᵀ, diag(σ(1 − σ)) or the identity.

    Args:
        outputs: ``z``, shape ``(N, T, C)``.
        tangents: ``J v``, shape ``(k, N, T, C)``.
        likelihood: p(y | z), over the last dimension.
    """
    logits = outputs.to(_at_least_float32(outputs))
    tangents = tangents.to(logits.dtype)
    if likelihood == "categorical":
        probability = logits.softmax(-1)
        means = (probability * tangents).sum(-1, keepdim=True)
        weighted = probability * (tangents - means)
    elif likelihood == "bernoulli":
        weighted = logits.sigmoid() * (-logits).sigmoid() * tangents
    else:
        weighted = tangents
    products = tangents.flatten(1) @ weighted.flatten(1).mT
    return (products + products.mT) / 2


def add_second_moment(total: Tensor, rows: Tensor) -> None:
    """Add ``Σ r rᵀ`` over the rows ``r``, shape ``(*b, n, d)``, to ``total``, in place.

    Where ``total``, shape ``(*b, d, d)``, is one wider than the rows, they get a last coordinate 1.
    """
    rows = rows.to(total.dtype)
    width = rows.shape[-1]
    corner = total[..., :width, :width]
    if rows.ndim == 2:
        corner.addmm_(rows.mT, rows)
    else:
        corner.add_(rows.mT @ rows)
    if total.shape[-1] > width:
        first_moment = rows.sum(-2)
        total[..., width, :width] += first_moment
        total[..., :width, width] += first_moment
        total[..., width, width] += rows.shape[-2]


def average_weight(update: int, decay: float) -> float:
    """Weight ``ε = min(1 − 1/k, decay)`` of the old factor at update k >= 1 (M&G 2015, § 5)."""
    return min(1 - 1 / update, decay)


def damped_factors(
    input_factor: Matrix, output_factor: Matrix, damping: float
) -> tuple[Matrix, Matrix]:
    """Damped ``A + π√λ I`` and ``G + √λ/π I`` (M&G 2015, § 6.3), in the factors' own forms.

    π = √((tr A / d_A) / (tr G / d_G)), and 1 where a trace is 0.
    """
    balance = trace_balance(input_factor, output_factor)
    root = math.sqrt(damping)
    return add_diagonal(input_factor, root * balance), add_diagonal(output_factor, root / balance)


def trace_balance(input_factor: Matrix, output_factor: Matrix) -> Tensor:
    """π of the factored damping, shape ``(*b,)``."""
    ratio = mean_diagonal(input_factor) / mean_diagonal(output_factor)
    return torch.where((ratio > 0) & ratio.isfinite(), ratio, 1.0).sqrt()


def damped_metric(input_factor: Matrix, output_factor: Matrix, damping: float) -> KroneckerMetric:
    """The metric ``(A + π√λ I) ⊗ (G + √λ/π I)``, ready to be applied.

    Raises:
        NumericalError: If a factor is not finite or cannot be made positive definite.
    """
    damped_input, damped_output = damped_factors(input_factor, output_factor, damping)
    return KroneckerMetric(inverse(damped_input), inverse(damped_output))


def kl_clip_factor(clip: float, lr: float, slope: float) -> float:
    """``ν = min(1, √(c / (lr²·v·g)))``: lr²·v·g is twice the KL divergence of the step.

    Args:
        clip: c, in nats.
        lr: Learning rate.
        slope: v·g of the natural gradient v and the gradient g, summed over layers.
    """
    squared_length = lr * lr * slope
    return min(1.0, math.sqrt(clip / squared_length)) if squared_length > 0 else 1.0
