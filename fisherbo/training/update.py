"""From gradients to an update of the weights: natural gradients, their clip and their length.

Symbols: g gradient with the L2 term, v natural gradient, u update (θ ← θ − u), λ damping, η weight
decay, F Fisher of the outputs pulled back to the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fisherbo.errors import DivergedError, InvalidInputError, NumericalError
from fisherbo.geometry.trust_region import kl_share
from fisherbo.training.blocks import (
    Scheme,
    State,
    average_spectrum,
    corrected_sum,
    factorise,
    is_due,
    natural,
)
from fisherbo.training.coverage import Layer
from fisherbo.training.guards import remedy
from fisherbo.training.moments import Moments, factor_shapes
from fisherbo.training.processes import received, shares, sum_over_processes, sums
from fisherbo.training.quadratic import Linearised


@dataclass(frozen=True)
class Block:
    """A layer in one step.

    Attributes:
        layer: The layer.
        state: Its state in the optimizer.
        group: The settings of its parameter group.
        gradient: g, shape ``(*b, d_out, d_in)``, bias column last.
    """

    layer: Layer
    state: State
    group: Mapping[str, Any]
    gradient: Tensor

    @property
    def penalty(self) -> float:
        """η where it is L2, else 0."""
        return l2(self.group)

    @property
    def damping(self) -> float:
        """λ + η."""
        return float(self.group["damping"]) + self.penalty


@dataclass(frozen=True)
class Model:
    """The quadratic model along directions v_i.

    Attributes:
        fisher: ``v_iᵀ F v_j``, shape ``(k, k)``, float64.
        curvature: ``v_iᵀ (F + (λ+η) I) v_j``.
        slopes: ``gᵀ v_i``, shape ``(k,)``.
    """

    fisher: Tensor
    curvature: Tensor
    slopes: Tensor


def l2(group: Mapping[str, Any]) -> float:
    """Weight decay that is part of the loss."""
    return 0.0 if group["decoupled_weight_decay"] else float(group["weight_decay"])


def block_of(layer: Layer, state: State, group: Mapping[str, Any]) -> Block:
    """The layer with its gradient, in at least float32; 0 where there is none."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    decay = l2(group)
    gradients = []
    for parameter in layer.parameters:
        if parameter.grad is None:
            gradients.append(torch.zeros_like(parameter, dtype=dtype))
            continue
        gradient = parameter.grad.to(dtype)
        gradients.append(gradient.add(parameter, alpha=decay) if decay else gradient)
    return Block(layer, state, group, layer.matrix(gradients))


def weights_of(layer: Layer) -> Tensor:
    """A copy of the layer's weights as one matrix, in at least float32."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    values = [p.detach().to(dtype) for p in layer.parameters]
    matrix = layer.matrix(values)
    joined = len(values) > 1  # which copies
    return matrix if joined else matrix.clone(memory_format=torch.contiguous_format)


def moving(blocks: Sequence[Block]) -> list[Block]:
    """The blocks that have factors; the others must have no gradient.

    Raises:
        InvalidInputError: If one has.
    """
    for block in blocks:
        gradients = [p.grad for p in block.layer.parameters if p.grad is not None]
        if block.state["factor_updates"] == 0 and any(g.any() for g in gradients):
            name = block.layer.name
            raise InvalidInputError(
                f"module {name!r} has a gradient but no Kronecker factors: no forward pass of the "
                "whole model led through it to the output; call the model that KFAC was given, "
                "call torch.compiler.reset() after building KFAC if the model or another of its "
                "classes was compiled and called before, or leave the module to AdamW with "
                f"exclude=[{name!r}]"
            )
    return [block for block in blocks if block.state["factor_updates"] > 0]


def factorise_due(
    blocks: Sequence[Block], scheme: Scheme, on_time: bool, rank: int = 0, processes: int = 1
) -> None:
    """Invert or decompose the factors of the blocks for which it is time.

    Each of several processes does its share of them, of about the same cost, and sends the
    results to the others; all end with the same bits.

    Raises:
        DivergedError: If a factor cannot be inverted, in all processes.
    """
    due = [b for b in blocks if is_due(b.layer, scheme, b.state, b.damping, on_time)]
    owners = shares([_inversion_cost(block.layer) for block in due], processes)
    errors: dict[int, NumericalError] = {}
    for index, (block, owner) in enumerate(zip(due, owners, strict=True)):
        if owner == rank:
            try:
                factorise(block.layer, scheme, block.state, block.damping)
            except NumericalError as error:
                errors[index] = error
    failed = [float(index in errors) for index in range(len(due))]
    if processes > 1 and due:
        failed = sums(failed, due[0].gradient.device)
    for index, block in enumerate(due):
        if failed[index]:
            reason = errors.get(index, "see the error of another process")
            raise DivergedError(
                f"the factors of module {block.layer.name!r} cannot be inverted: {reason}; "
                f"{remedy(block.group)}"
            ) from errors.get(index)
    if processes > 1:
        for owner in dict.fromkeys(owners):
            _exchange([b for b, o in zip(due, owners, strict=True) if o == owner], owner)


_RESULTS = (
    *("input_inverse", "output_inverse", "input_basis", "output_basis"),
    *("spectrum", "root_spectrum", "first_moment", "second_moment"),
)


def _exchange(blocks: Sequence[Block], owner: int) -> None:
    """Replace what `factorise` makes of the blocks by what it made in one process."""
    places = [(block.state, name) for block in blocks for name in _RESULTS if name in block.state]
    tensors = received([state[name] for state, name in places], owner)
    for (state, name), tensor in zip(places, tensors, strict=True):
        state[name] = tensor
    for block in blocks:
        block.state["inverse_update"] = block.state["factor_updates"]
        block.state["inverse_damping"] = block.damping


def _inversion_cost(layer: Layer) -> float:
    """Σ d³ over the factors that are matrices."""
    shapes = factor_shapes(layer).values()
    return float(sum(math.prod(shape) * shape[-1] for shape in shapes if len(shape) > 1))


def correct_spectra(
    blocks: Sequence[Block], fresh: Mapping[Layer, Moments], decay: float, processes: int = 1
) -> None:
    """Take the squared row gradients of the last passes into the spectra (EKFAC)."""
    corrected = [b for b in blocks if b.layer in fresh and b.layer.kind != "units"]
    sums = [corrected_sum(b.layer, b.state, fresh[b.layer].kept) for b in corrected]
    if processes > 1 and sums:
        sum_over_processes(sums)
    for block, total in zip(corrected, sums, strict=True):
        average_spectrum(block.state, total / fresh[block.layer].output_rows, decay)


def natural_gradients(blocks: Sequence[Block], scheme: Scheme) -> list[Tensor]:
    """V of each block."""
    return [natural(b.layer, scheme, b.state, b.gradient, b.damping) for b in blocks]


def slope(blocks: Sequence[Block], directions: Sequence[Tensor]) -> Tensor:
    """``v·g`` summed over blocks, a tensor without dimensions."""
    dots = [(b.gradient * v).sum() for b, v in zip(blocks, directions, strict=True)]
    return torch.stack(dots).sum() if dots else torch.zeros(())


def clip_scale(clip: float | None, blocks: Sequence[Block], total: Tensor) -> float:
    """ν of the natural gradients: ``lr² ν² v·g <= clip``, with the largest lr of the blocks."""
    if clip is None or not blocks:
        return 1.0
    lr = max(float(b.group["lr"]) for b in blocks)
    return kl_share(lr * lr * total.item(), clip)


def along(
    blocks: Sequence[Block],
    directions: Sequence[Sequence[Tensor]],
    maps: Sequence[Linearised],
    processes: int = 1,
) -> Model:
    """The quadratic model along directions, each a matrix for each block.

    Args:
        blocks: The layers that move.
        directions: k of them.
        maps: The forward passes of the step.
        processes: Number of processes whose passes make up the batch.
    """
    named = [_by_parameter(blocks, matrices) for matrices in directions]
    fisher = torch.stack([m.inner_products(named) for m in maps]).sum(0)
    rows = torch.tensor(float(sum(m.rows for m in maps)), dtype=torch.float64, device=fisher.device)
    if processes > 1:
        sum_over_processes([fisher, rows])
    fisher = fisher / rows
    curvature, slopes = fisher.clone(), torch.zeros(len(directions)).to(fisher)
    for index, block in enumerate(blocks):
        flat = torch.stack([matrices[index].double().flatten() for matrices in directions])
        curvature += block.damping * flat @ flat.mT
        slopes += flat @ block.gradient.double().flatten()
    return Model(fisher, curvature, slopes)


def with_momentum(block: Block, direction: Tensor, scale: float) -> Tensor:
    """The block's velocity ``v ← μ v + ν direction``."""
    buffer: Tensor = block.state["momentum_buffer"]
    return buffer.mul_(block.group["momentum"]).add_(direction, alpha=scale)


def move(block: Block, update: Tensor, lr: float) -> None:
    """θ ← (1 − lr η) θ − lr·update, where η is the decoupled weight decay."""
    decay = float(block.group["weight_decay"]) - block.penalty
    for parameter, part in zip(block.layer.parameters, block.layer.split(update), strict=True):
        if parameter.grad is None:
            continue
        if decay:
            parameter.mul_(1 - lr * decay)
        parameter.add_(part, alpha=-lr)


def squared_norm(blocks: Sequence[Block]) -> float:
    """``Σ η ‖θ‖²`` over the L2 terms."""
    return sum(
        b.penalty * float(p.double().square().sum()) for b in blocks for p in b.layer.parameters
    )


def _by_parameter(blocks: Sequence[Block], matrices: Sequence[Tensor]) -> dict[Tensor, Tensor]:
    named: dict[Tensor, Tensor] = {}
    for block, matrix in zip(blocks, matrices, strict=True):
        named |= zip(block.layer.parameters, block.layer.split(matrix), strict=True)
    return named
