"""One layer's block of the Fisher in the optimizer's state: averaged, factorised and applied.

The state of a layer is a dict whose keys are there from the beginning, so that checkpoints of any
two moments have the same form:

    input_factor, output_factor      moving averages of A and G (a normalisation has G only)
    factor_updates                   how often they were averaged
    input_inverse, output_inverse    of the factors damped by π, or of a normalisation's blocks
    input_basis, output_basis        eigenvectors of A and G, and
    spectrum, root_spectrum          the Fisher's diagonal in their basis, undamped, or its root
    inverse_update, inverse_damping  the factors and the damping that they belong to
    momentum_buffer                  moving sum of natural gradients; or
    first_moment, second_moment      moving averages of the gradient and of its square in the basis,
    mean_length                      of the squared length of the gradient by the second moment,
    moment_updates                   and how often they were averaged
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fisherbo.geometry.block_diagonal import Matrix, diagonal_in, eigh, squared_rotation
from fisherbo.geometry.linalg import psd_inverse
from fisherbo.geometry.metric import DenseMetric, Eigenbasis, EigenMetric, KroneckerMetric
from fisherbo.training.coverage import Layer
from fisherbo.training.eigenbasis import (
    projected,
    squared_embedding_gradients,
    squared_gradients,
)
from fisherbo.training.factors import average_weight, damped_metric
from fisherbo.training.moments import Moments, Sharing, factor_shapes

State = dict[str, Any]

_NEARLY_DIAGONAL = 0.05
"""Share of a factor's norm outside of the diagonal at which the basis is kept. A test costs a fifth
of a decomposition (Eschenhagen et al. 2025 decide alike for Shampoo)."""


@dataclass(frozen=True)
class Scheme:
    """How blocks are approximated and damped.

    Attributes:
        exact_damping: ``A ⊗ G + λ I`` in the eigenbasis, else ``(A + π√λ I) ⊗ (G + √λ/π I)``.
        eigen_correction: EKFAC: the spectrum is that of the row gradients, not of the factors.
        sharing: How the shared positions of a row are treated.
        gradient_moments: Steps are scaled by the second moments of the gradient in the eigenbasis,
            not by the Fisher, which is then not damped.
    """

    exact_damping: bool = False
    eigen_correction: bool = False
    sharing: Sharing = "expand"
    gradient_moments: bool = False

    def uses_basis(self, layer: Layer) -> bool:
        """Whether the layer is scaled in its eigenbasis, where λ is free to change."""
        return (self.exact_damping or self.gradient_moments) and layer.kind != "units"


def empty_state(layer: Layer, scheme: Scheme) -> State:
    """The state of a layer before its first step, all zeros."""
    shapes: dict[str, tuple[int, ...]] = dict(factor_shapes(layer))
    scaled = layer.shape
    if scheme.uses_basis(layer):
        scaled = (*layer.shape[:-2], layer.output_form.padded, layer.input_form.padded)
    for name, shape in factor_shapes(layer).items():
        form = layer.input_form if name == "input_factor" else layer.output_form
        if scheme.uses_basis(layer):
            if not form.diagonal:  # whose basis is the identity
                shapes[name.replace("factor", "basis")] = shape
        elif not scheme.gradient_moments:
            shapes[name.replace("factor", "inverse")] = shape
    if scheme.gradient_moments:
        shapes |= dict.fromkeys(("root_spectrum", "first_moment", "second_moment"), scaled)
        shapes["mean_length"] = ()
    else:
        shapes["momentum_buffer"] = layer.shape
        if scheme.uses_basis(layer):
            shapes["spectrum"] = scaled
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    device = layer.weight.device
    state: State = {
        name: torch.zeros(shape, dtype=dtype, device=device) for name, shape in shapes.items()
    }
    if scheme.gradient_moments:
        state["moment_updates"] = 0
    return {**state, "factor_updates": 0, "inverse_update": 0, "inverse_damping": 0.0}


def average(state: State, moments: Moments, decay: float) -> None:
    """Take new factors into the moving averages; the first ones replace the zeros."""
    update = state["factor_updates"] = state["factor_updates"] + 1
    weight = 1 - average_weight(update, decay)
    for name, new in moments.factors().items():
        if update == 1:
            state[name] = new
        else:
            state[name].lerp_(new, weight)


def is_due(layer: Layer, scheme: Scheme, state: State, damping: float, on_time: bool) -> bool:
    """Whether the factors are to be inverted or decomposed anew."""
    if state["inverse_update"] == 0:
        return True
    damped = not (scheme.uses_basis(layer) or scheme.gradient_moments)
    if damped and state["inverse_damping"] != damping:
        return True
    return on_time and bool(state["inverse_update"] != state["factor_updates"])


def factorise(layer: Layer, scheme: Scheme, state: State, damping: float) -> None:
    """Invert or decompose the factors of a layer.

    Raises:
        NumericalError: If a factor is not finite or cannot be made positive definite.
    """
    if layer.kind == "units" and scheme.gradient_moments:
        state["root_spectrum"] = state["output_factor"].diagonal(dim1=-2, dim2=-1).sqrt()
    elif layer.kind == "units":
        factor = state["output_factor"]
        identity = torch.eye(layer.shape[-1], dtype=factor.dtype, device=factor.device)
        state["output_inverse"] = psd_inverse(factor + damping * identity).contiguous()
    elif scheme.uses_basis(layer):
        _decompose(layer, scheme, state)
    else:
        inputs, outputs = layer.input_form, layer.output_form
        metric = damped_metric(
            inputs.matrix(state["input_factor"]), outputs.matrix(state["output_factor"]), damping
        )
        state["input_inverse"] = inputs.stored(metric.input_inverse)
        state["output_inverse"] = outputs.stored(metric.output_inverse)
    state["inverse_update"], state["inverse_damping"] = state["factor_updates"], damping


def natural(layer: Layer, scheme: Scheme, state: State, gradient: Tensor, damping: float) -> Tensor:
    """Natural gradient of the block, shape ``(*b, d_out, d_in)`` as the gradient."""
    if layer.kind == "units":
        return DenseMetric(state["output_inverse"]).natural(gradient)
    if scheme.uses_basis(layer):
        return EigenMetric(eigenbasis(layer, state), state["spectrum"], damping).natural(gradient)
    inputs, outputs = layer.input_form, layer.output_form
    inverses = inputs.matrix(state["input_inverse"]), outputs.matrix(state["output_inverse"])
    return KroneckerMetric(*inverses).natural(gradient)


def eigenbasis(layer: Layer, state: State) -> Eigenbasis:
    """The basis of a layer that was decomposed; the identity for a normalisation."""
    if layer.kind == "units":
        return Eigenbasis(None, None)
    inputs, outputs = layer.input_form, layer.output_form
    return Eigenbasis(
        inputs.basis(state.get("input_basis")), outputs.basis(state.get("output_basis"))
    )


def corrected_sum(layer: Layer, state: State, kept: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over rows of the squared row gradients in the layer's basis, shape of the spectrum."""
    total = torch.zeros_like(state["spectrum"])
    bases = state.get("input_basis"), state.get("output_basis")
    for inputs, gradients in kept:
        if layer.kind == "embedding":
            total += squared_embedding_gradients(
                inputs, gradients, bases[1], layer.output_form, layer.shape[-1]
            )
        else:
            total += squared_gradients(
                inputs, gradients, *bases, layer.input_form, layer.output_form
            )
    return total


def average_spectrum(state: State, new: Tensor, decay: float) -> None:
    """Take a new spectrum into the moving average, with the weight of the factors of its rows."""
    state["spectrum"].lerp_(new, 1 - average_weight(state["factor_updates"], decay))


def owned(saved: Mapping[str, Any], weight: Tensor) -> State:
    """A copy of a layer's saved state on the weight's device, in at least float32."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    copied: State = {}
    for key, value in saved.items():
        if not isinstance(value, Tensor):
            copied[key] = value
        elif value.is_floating_point():
            copied[key] = value.detach().to(weight.device, dtype, copy=True)
        else:
            copied[key] = value.cpu().clone()
    return copied


def _decompose(layer: Layer, scheme: Scheme, state: State) -> None:
    before = eigenbasis(layer, state)
    values: list[Tensor] = []
    rotations: list[Matrix | None] = []
    for name, form in (("output", layer.output_form), ("input", layer.input_form)):
        factor, old = form.matrix(state[f"{name}_factor"]), form.basis(state.get(f"{name}_basis"))
        kept = (
            _diagonal(factor, old) if scheme.gradient_moments and state["inverse_update"] else None
        )
        if kept is not None:
            values.append(kept)
            rotations.append(None)
            continue
        found, basis = eigh(factor)
        values.append(found)
        rotations.append(squared_rotation(basis, old))
        if basis is not None:
            state[f"{name}_basis"] = form.stored(basis)
    spectrum = values[0][..., :, None] * values[1][..., None, :]
    if not scheme.gradient_moments:
        corrected = scheme.eigen_correction and state["inverse_update"] > 0
        old = state["spectrum"]
        state["spectrum"] = projected(old, rotations[1], rotations[0]) if corrected else spectrum
        return
    state["root_spectrum"] = spectrum.sqrt()
    if state["moment_updates"] > 0 and any(rotation is not None for rotation in rotations):
        mean = before.matrix(state["first_moment"])
        state["first_moment"] = eigenbasis(layer, state).coordinates(mean)
        state["second_moment"] = projected(state["second_moment"], rotations[1], rotations[0])


def _diagonal(factor: Matrix, basis: Matrix | None) -> Tensor | None:
    """The factor's diagonal in an old basis that still nearly diagonalises it, else ``None``."""
    if basis is None:
        return None
    diagonal, outside = diagonal_in(factor, basis)
    return diagonal if outside <= _NEARLY_DIAGONAL else None
