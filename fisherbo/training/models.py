"""Builders of the networks that the experiments train; their weights depend on the seed alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError

_SPARSE_INPUTS = 15  # Martens (2010), section 5


def autoencoder(
    n_features: int, hidden: Sequence[int] = (128, 64, 32, 8), seed: int = 0
) -> nn.Sequential:
    """A mirrored tanh autoencoder with a linear code layer and logits out.

    Sparsely initialised: 15 weights of each unit are N(0, 1), the others and the biases 0, which
    keeps the units apart at any width (Martens 2010, section 5).

    Args:
        n_features: Width of the input and of the output.
        hidden: Widths of the encoder; the last one is the code.
        seed: Of the private generator that draws the weights.

    Raises:
        InvalidInputError: If a width is not positive or ``hidden`` is empty.
    """
    widths = _checked((n_features, *hidden, *reversed(hidden[:-1]), n_features))
    generator = torch.Generator().manual_seed(seed)
    layers = [_linear(sparse_weight(out, inp, generator)) for inp, out in pairwise(widths)]
    code = len(hidden) - 1
    linear_outputs = {code, len(layers) - 1}
    modules: list[nn.Module] = []
    for index, layer in enumerate(layers):
        modules += [layer] if index in linear_outputs else [layer, nn.Tanh()]
    return nn.Sequential(*modules)


def mlp(n_in: int, hidden: Sequence[int], n_out: int, seed: int = 0) -> nn.Sequential:
    """A ReLU network with linear outputs, initialised as He et al. (2015), eq. 10, zero biases.

    Args:
        n_in: Width of the input.
        hidden: Widths of the hidden layers.
        n_out: Width of the output.
        seed: Of the private generator that draws the weights.

    Raises:
        InvalidInputError: If a width is not positive or ``hidden`` is empty.
    """
    widths = _checked((n_in, *hidden, n_out))
    generator = torch.Generator().manual_seed(seed)
    modules: list[nn.Module] = []
    for inp, out in pairwise(widths):
        weight = torch.randn(out, inp, generator=generator) * math.sqrt(2 / inp)
        modules += [_linear(weight), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def sparse_weight(n_out: int, n_in: int, generator: torch.Generator) -> Tensor:
    """A weight matrix with at most 15 N(0, 1) entries in each row, shape ``(n_out, n_in)``."""
    kept = min(_SPARSE_INPUTS, n_in)
    columns = torch.rand(n_out, n_in, generator=generator).argsort(1)[:, :kept]
    values = torch.randn(n_out, kept, generator=generator)
    return torch.zeros(n_out, n_in).scatter_(1, columns, values)


def _linear(weight: Tensor) -> nn.Linear:
    n_out, n_in = weight.shape
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    return layer


def _checked(widths: tuple[int, ...]) -> tuple[int, ...]:
    if len(widths) < 3 or min(widths) < 1:
        raise InvalidInputError(
            "a network needs at least one hidden layer and widths >= 1, "
            f"got widths {widths}; typical hidden widths are (128, 64)"
        )
    return widths
