"""Sums over rows, for one layer, of what its block of the Fisher is made of.

Symbols: a, ḡ a layer's input and output gradient; N rows, T shared positions. Weight sharing
(Eschenhagen et al. 2023) is "expand" (each position a row: Σ_t a aᵀ, Σ_t ḡ ḡᵀ) or "reduce" (a row
is its mean input and its summed output gradient).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from fisherbo.training.coverage import Layer
from fisherbo.training.factors import add_second_moment

Sharing = Literal["expand", "reduce"]


@dataclass
class Moments:
    """Sums over the forward passes since the last step, for one layer.

    Attributes:
        inputs: ``Σ a aᵀ`` in the `Form` of the layer's input factor; ``None`` for a normalisation.
        outputs: ``Σ ḡ ḡᵀ`` likewise; for a normalisation ``Σ_n ∇_n ∇_nᵀ`` of each unit's weight and
            bias, shape ``(units, k, k)``.
        input_rows: Number of a (rows × shared positions, unless reduced).
        output_rows: Number of distributions p(y | z) that the loss uses (rows of the outputs), in
            all passes, through this layer or not.
        kept: Pairs (a, ḡ) of each pass and draw, where they are needed again.
    """

    inputs: Tensor | None
    outputs: Tensor
    input_rows: int = 0
    output_rows: int = 0
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def sums(self) -> list[Tensor]:
        """The tensors that add up."""
        return [self.outputs] if self.inputs is None else [self.inputs, self.outputs]

    @property
    def empty(self) -> bool:
        """Whether no row was seen, so that there are no factors."""
        return self.output_rows == 0 or (self.inputs is not None and self.input_rows == 0)

    def factors(self) -> dict[str, Tensor]:
        """The factors of the rows seen, by the name that they have in the optimizer's state."""
        found = {"output_factor": self.outputs / self.output_rows}
        if self.inputs is not None:
            found["input_factor"] = self.inputs / self.input_rows
        return found


def factor_shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Shapes of the factors of a layer, by name."""
    *batch, d_out, d_in = layer.shape
    if layer.kind == "units":
        return {"output_factor": (d_out, d_in, d_in)}
    return {
        "input_factor": layer.input_form.shape(tuple(batch)),
        "output_factor": layer.output_form.shape(tuple(batch)),
    }


def empty_moments(layer: Layer) -> Moments:
    """No rows seen, in at least float32."""
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    zeros = {
        name: torch.zeros(shape, dtype=dtype, device=layer.weight.device)
        for name, shape in factor_shapes(layer).items()
    }
    return Moments(zeros.get("input_factor"), zeros["output_factor"])


def add_inputs(
    moments: Moments,
    layer: Layer,
    inputs: Tensor,
    sharing: Sharing,
    used: Tensor | None = None,
) -> None:
    """Add the inputs of one pass, in the shape of `rows.input_rows`.

    Args:
        moments: To be added to, in place.
        layer: The layer.
        inputs: a.
        sharing: How the positions of a row are treated.
        used: The rows and positions that count, shape ``(N, T)``; ``None``: all.
    """
    if moments.inputs is None:
        return
    if layer.kind == "embedding":
        trained = inputs != _padding(layer)
        indices = inputs[trained if used is None else trained & used]
        moments.inputs += torch.bincount(indices, minlength=layer.shape[-1])
        moments.input_rows += indices.numel()
        return
    if sharing == "reduce":
        rows = _reduced(inputs.to(moments.inputs.dtype), used)
    else:
        rows = inputs.flatten(-3, -2)
        rows = rows if used is None else rows[..., used.flatten(), :]
    if layer.kind == "attention":
        rows = _without_absent(layer, rows, sharing)
    layer.input_form.add_second_moment(moments.inputs, rows)
    moments.input_rows += rows.shape[-2]


def add_gradients(
    moments: Moments, layer: Layer, inputs: Tensor, gradients: Tensor, sharing: Sharing, keep: bool
) -> None:
    """Add the output gradients of one pass and one draw, in the shape of `rows.gradient_rows`."""
    precise = moments.outputs.dtype
    if layer.kind == "units":
        rows = _unit_gradients(layer, inputs.to(precise), gradients.to(precise))
        add_second_moment(moments.outputs, rows)
        return
    if layer.kind == "embedding":
        gradients = gradients * (inputs != _padding(layer))[..., None]
    if layer.kind == "embedding" or sharing == "expand":
        rows = gradients.flatten(-3, -2)
    else:
        rows = gradients.to(precise).sum(-2)
    layer.output_form.add_second_moment(moments.outputs, rows)
    if keep:
        rows = inputs[..., : layer.shape[-1]] if layer.kind == "attention" else inputs
        moments.kept.append((rows, gradients))


def _without_absent(layer: Layer, rows: Tensor, sharing: Sharing) -> Tensor:
    """Rows of an attention scaled so that their mean is over the positions that are there.

    Queries and keys may have different numbers of positions; the shorter ones are filled up with
    zeros, whose last coordinate is 0 too.
    """
    present = rows[..., -1].mean(-1)[:, None, None]
    scale = present if sharing == "reduce" else present.sqrt()
    return rows[..., : layer.shape[-1]] / scale


def _reduced(inputs: Tensor, used: Tensor | None) -> Tensor:
    """Mean input of each row over the positions that count, shape ``(*b, N', d_in)``."""
    if used is None:
        return inputs.mean(-2)
    counts = used.sum(-1)
    means = torch.where(used[..., None], inputs, 0.0).sum(-2) / counts[:, None].clamp_min(1)
    return means[..., counts > 0, :]


def _unit_gradients(layer: Layer, normalised: Tensor, gradients: Tensor) -> Tensor:
    """Row gradients of each unit's (weight, bias), shape ``(units, N, k)``."""
    columns = [(gradients * normalised).sum(-2)]
    if layer.shape[-1] == 2:
        columns.append(gradients.sum(-2))
    return torch.stack(columns, -1).movedim(1, 0)


def _padding(layer: Layer) -> int:
    """The index whose embedding is never trained, −1 if there is none."""
    module = layer.module
    assert isinstance(module, nn.Embedding)
    return -1 if module.padding_idx is None else module.padding_idx
