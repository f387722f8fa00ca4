"""Likelihoods of a network's outputs: labels drawn from them, and their Fisher information.

Symbols: z outputs of one distribution, C entries; s gradient of −log p(y | z) with respect to z;
F_z = E[s sᵀ] the Fisher of z, with E over labels y drawn from the model.

    categorical             logits, C classes                    F_z = diag(p) − p pᵀ
    bernoulli               C logits                             F_z = diag(σ(z) σ(−z))
    normal                  C means, variance 1                  F_z = I
    heteroscedastic_normal  C/2 means, C/2 log variances v       F_z = diag(exp(−v), ½)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.divergence import kl
from fisherbo.geometry.linalg import psd_eigh

Likelihood = Literal["categorical", "bernoulli", "normal", "heteroscedastic_normal"]
LikelihoodFunction: TypeAlias = Callable[[Tensor], Distribution]
"""Outputs, shape ``(rows, C)``, to a distribution of each row's label."""

_DISTRIBUTIONS: dict[str, LikelihoodFunction] = {
    "categorical": lambda z: Categorical(logits=z),
    "bernoulli": lambda z: Bernoulli(logits=z),
    "normal": lambda z: Normal(z, torch.ones_like(z)),
    "heteroscedastic_normal": lambda z: Normal(*_mean_and_deviation(z)),
}


def check_likelihood(likelihood: object) -> None:
    """Refuse what is neither the name of a likelihood nor a function.

    Raises:
        InvalidInputError: If it is not.
    """
    names = get_args(Likelihood)
    if not callable(likelihood) and likelihood not in names:
        raise InvalidInputError(
            f"likelihood must be one of {', '.join(names)}, or a function from outputs to a "
            f"torch.distributions.Distribution, got {likelihood!r}"
        )


def distribution(outputs: Tensor, likelihood: Likelihood | LikelihoodFunction) -> Distribution:
    """p(y | z) of outputs of shape ``(rows, C)``.

    Raises:
        InvalidInputError: If a function refuses the outputs, or returns something else than a
            distribution for each row.
    """
    if not callable(likelihood):
        return _DISTRIBUTIONS[likelihood](outputs)
    try:
        found = likelihood(outputs)
    except ValueError as error:  # torch's word for parameters that are out of their range
        raise InvalidInputError(
            f"the function given as likelihood refuses the outputs of the model: {error}; let it "
            "map any finite outputs to parameters in their range, or lower lr if they diverged"
        ) from error
    if not isinstance(found, Distribution) or found.batch_shape[:1] != outputs.shape[:1]:
        got = type(found).__name__
        if isinstance(found, Distribution):
            got += f" with batch_shape {tuple(found.batch_shape)}"
        raise InvalidInputError(
            "the function given as likelihood must return a torch.distributions.Distribution with "
            f"one distribution for each row of outputs of shape {tuple(outputs.shape)}, got {got}"
        )
    return found


def sampled_gradients(
    outputs: Tensor, likelihood: Likelihood | LikelihoodFunction, generator: torch.Generator
) -> Tensor:
    """Gradients ``s`` at labels drawn from the model, so that ``E[s sᵀ]`` is the Fisher of ``z``.

    Args:
        outputs: ``z``, shape ``(..., C)``.
        likelihood: p(y | z), over the last dimension.
        generator: Draws y; on the device of ``outputs``.

    Returns:
        ``s``, of the shape of ``outputs``; NaN where they are not finite.
    """
    if outputs.numel() == 0:
        return torch.zeros_like(outputs)
    z = outputs.to(_at_least_float32(outputs))
    if callable(likelihood):
        drawn = _sampled_by_autograd(z.reshape(-1, z.shape[-1]), likelihood, generator)
        return drawn.reshape(outputs.shape).to(outputs.dtype)
    if likelihood == "categorical":
        probability = z.softmax(-1)
        labels = _draw(_drawable(probability), generator)
        minus_one = -torch.ones_like(labels, dtype=probability.dtype)
        return probability.scatter_add(-1, labels, minus_one).to(outputs.dtype)
    if likelihood == "bernoulli":
        probability = z.sigmoid()
        labels = _drawable(probability).bernoulli(generator=generator)
        return (probability - labels).to(outputs.dtype)
    noise = torch.empty_like(z).normal_(generator=generator)
    if likelihood == "normal":
        return noise.to(outputs.dtype)
    half = _half(z)
    for_means = noise[..., :half] * (-0.5 * z[..., half:]).exp()
    for_log_variances = (1 - noise[..., :half].square()) / 2
    return torch.cat([for_means, for_log_variances], -1).to(outputs.dtype)


def exact_gradients(
    outputs: Tensor, likelihood: Likelihood | LikelihoodFunction
) -> Iterator[Tensor]:
    """Columns ``s`` whose ``Σ s sᵀ`` is the Fisher of z, so that the GGN is exact ("type 2").

    A column belongs to one class at one position: C·T of them, each of the shape ``(N, T, C)`` of
    ``outputs``.

    Raises:
        InvalidInputError: If torch has no closed form of the likelihood's KL divergence.
    """
    for column in root_columns(outputs, likelihood):
        for position in range(outputs.shape[1]):
            single = torch.zeros_like(outputs)
            single[:, position] = column[:, position]
            yield single


def root_columns(outputs: Tensor, likelihood: Likelihood | LikelihoodFunction) -> Iterator[Tensor]:
    """The C columns of S with ``S Sᵀ = F_z``, each of the shape ``(..., C)`` of ``outputs``.

    Categorical: column c is √p_c (e_c − p), since Σ_c p_c (e_c − p)(e_c − p)ᵀ = diag(p) − p pᵀ.

    Raises:
        InvalidInputError: As `exact_gradients`.
    """
    z = outputs.to(_at_least_float32(outputs))
    if callable(likelihood):
        root = fisher_matrix(z.reshape(-1, z.shape[-1]), likelihood)
        if root.isfinite().all():
            values, vectors = psd_eigh(root)
            root = vectors * values.sqrt()[..., None, :]
        for column in root.unbind(-1):
            yield column.reshape(outputs.shape).to(outputs.dtype)
        return
    if likelihood == "categorical":
        probability = z.softmax(-1)
        for index in range(z.shape[-1]):
            column = -probability
            column[..., index] += 1
            yield (column * probability[..., index, None].sqrt()).to(outputs.dtype)
        return
    deviation = _fisher_diagonal(z, likelihood).sqrt()
    for index in range(z.shape[-1]):
        column = torch.zeros_like(z)
        column[..., index] = deviation[..., index]
        yield column.to(outputs.dtype)


def output_inner_products(
    outputs: Tensor, tangents: Tensor, likelihood: Likelihood | LikelihoodFunction
) -> Tensor:
    """``Σ uᵀ F_z v`` over rows, for each pair (u, v) of tangents, shape ``(k, k)``.

    Args:
        outputs: ``z``, shape ``(..., C)``.
        tangents: ``J v``, shape ``(k, ..., C)``.
        likelihood: p(y | z), over the last dimension.

    Raises:
        InvalidInputError: As `exact_gradients`.
    """
    z = outputs.to(_at_least_float32(outputs))
    tangents = tangents.to(z.dtype)
    if callable(likelihood):
        fisher = fisher_matrix(z.reshape(-1, z.shape[-1]), likelihood)
        flat = tangents.reshape(len(tangents), -1, z.shape[-1])
        weighted = torch.einsum("ncd,knd->knc", fisher, flat)
    elif likelihood == "categorical":
        probability = z.softmax(-1)
        means = (probability * tangents).sum(-1, keepdim=True)
        weighted = probability * (tangents - means)
    else:
        weighted = _fisher_diagonal(z, likelihood) * tangents
    products = tangents.flatten(1) @ weighted.flatten(1).mT
    return (products + products.mT) / 2


def fisher_matrix(outputs: Tensor, likelihood: LikelihoodFunction) -> Tensor:
    """F_z of each row, the Hessian of KL(p(·|z) ‖ p(·|z')) at z' = z, shape ``(rows, C, C)``.

    Raises:
        InvalidInputError: As `exact_gradients`.
    """
    if not outputs.isfinite().all():
        return torch.full((*outputs.shape, outputs.shape[-1]), torch.nan).to(outputs)
    with torch.enable_grad():
        moved = outputs.detach().requires_grad_()
        try:
            divergence = kl(
                distribution(outputs.detach(), likelihood), distribution(moved, likelihood)
            )
        except InvalidInputError as error:
            raise InvalidInputError(
                f"the exact Fisher of this likelihood is not known: {error}; use fisher='mc' "
                "without quadratic_model and adaptive_damping"
            ) from error
        (slope,) = torch.autograd.grad(divergence.sum(), moved, create_graph=True)
        rows = [
            torch.autograd.grad(entry.sum(), moved, retain_graph=True)[0]
            for entry in slope.unbind(-1)
        ]
    matrix = torch.stack(rows, -2)
    return (matrix + matrix.mT) / 2


def gradient_at_mode(outputs: Tensor, likelihood: Likelihood | LikelihoodFunction) -> Tensor | None:
    """``s`` at the most probable label, shape ``(..., C)``; ``None`` for densities and functions.

    It is 0 only where the probability of that label rounds to 1.
    """
    z = outputs.to(_at_least_float32(outputs))
    if likelihood == "categorical":
        probability = z.softmax(-1)
        labels = probability.argmax(-1, keepdim=True)
        return probability.scatter_add(-1, labels, -torch.ones_like(probability[..., :1]))
    if likelihood == "bernoulli":
        return z.sigmoid() - (z > 0).to(z.dtype)
    return None


def _sampled_by_autograd(
    outputs: Tensor, likelihood: LikelihoodFunction, generator: torch.Generator
) -> Tensor:
    """``s`` of a likelihood that is known as a function, shape ``(rows, C)``."""
    if not outputs.isfinite().all():  # torch.distributions would refuse them here, in the backward
        return torch.full_like(outputs, torch.nan)
    device = generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device).item())
    with torch.enable_grad():
        z = outputs.detach().requires_grad_()
        found = distribution(z, likelihood)
        devices = [outputs.device] if outputs.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # distributions know global generators only
            torch.manual_seed(seed)
            labels = found.sample()
        loss = -found.log_prob(labels).sum()
        (gradient,) = torch.autograd.grad(loss, z, allow_unused=True, materialize_grads=True)
    return gradient


def _fisher_diagonal(z: Tensor, likelihood: Likelihood) -> Tensor:
    """F_z of the likelihoods whose entries are orthogonal, shape ``(..., C)``."""
    if likelihood == "bernoulli":
        return z.sigmoid() * (-z).sigmoid()
    if likelihood == "normal":
        return torch.ones_like(z)
    half = _half(z)
    precision = (-z[..., half:]).exp()
    return torch.cat([precision, torch.full_like(precision, 0.5)], -1)


def _mean_and_deviation(z: Tensor) -> tuple[Tensor, Tensor]:
    half = _half(z)
    return z[..., :half], (0.5 * z[..., half:]).exp()


def _half(z: Tensor) -> int:
    if z.shape[-1] % 2:
        raise InvalidInputError(
            "likelihood='heteroscedastic_normal' needs as many log variances as means in the "
            f"outputs, got {z.shape[-1]} entries; let the last layer have twice as many outputs as "
            "the targets have features"
        )
    return z.shape[-1] // 2


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


def _at_least_float32(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)
