"""A module's inputs and output gradients as rows: what its weight, as a matrix, multiplies.

Symbols: N rows of the batch, T shared positions of a row (Eschenhagen et al. 2023), b groups of a
convolution. A weight matrix is ``(*b, d_out, d_in)``; inputs are ``(*b, N, T, d_in)``, output
gradients ``(*b, N, T, d_out)``, and the gradient of row n is ``Σ_t ḡ_nt a_ntᵀ``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm: TypeAlias = nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, *BATCH_NORMS)

_POSITIONS = 4096
"""A moving average of twenty such batches has a hundred positions for each of 800 inputs."""


def input_rows(module: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs as the weight matrix sees them, shape ``(*b, N, T, d_in)``, without the bias's 1.

    For an Embedding the indices themselves, shape ``(N, T)``, which stand for one-hot rows. For a
    normalisation the normalised input, before weight and bias. Those of an attention come from
    `attended`, with a last 1.
    """
    if isinstance(module, nn.MultiheadAttention):
        return inputs
    if isinstance(module, CONVOLUTIONS):
        return convolution_patches(module, inputs)
    if isinstance(module, nn.Embedding):
        return _positions(inputs[..., None])[..., 0]
    if isinstance(module, NORMS):
        return _units(module, _normalised(module, inputs))
    return _positions(inputs)


def gradient_rows(module: nn.Module, gradient: Tensor) -> Tensor:
    """Output gradients, shape ``(*b, N, T, d_out)``."""
    if isinstance(module, nn.MultiheadAttention):
        return gradient
    if isinstance(module, CONVOLUTIONS):
        spatial = len(module.kernel_size)
        gradient = gradient if gradient.ndim == spatial + 2 else gradient[None]
        rows = _positions(gradient.movedim(1, -1))
        return rows if module.groups == 1 else _grouped(rows, module.groups)
    if isinstance(module, NORMS):
        return _units(module, gradient)
    return _positions(gradient)


def thinned(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Every k-th row of a batch that has more positions than an input factor needs.

    At least `_POSITIONS` are left: patches of images cost more than the sum of their products. The
    rows are spread over the batch, which may be sorted.

    Args:
        inputs: Of a module, rows first.
        gradients: The rows of its output gradients, shape ``(*b, N, T, d_out)``.
    """
    rows, positions = gradients.shape[-3:-1]
    return inputs[:: max(1, rows * positions // _POSITIONS)] if rows > 1 else inputs


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Rows of several calls as one: the positions of the same rows, or, if N differs, more rows."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[dim - 1] for part in parts}) == 1:
        return torch.cat(list(parts), dim)
    return torch.cat([part.flatten(dim - 1, dim).unsqueeze(dim) for part in parts], dim - 1)


def convolution_patches(module: Convolution, images: Tensor) -> Tensor:
    """Patches that a convolution multiplies by its flattened weight, ``(*b, N, T, C/b·Πk)``.

    ``images`` is ``(N, C, *S)`` or ``(C, *S)``; T is the number of output positions.
    """
    kernel = module.kernel_size
    images = images if images.ndim == len(kernel) + 2 else images[None]
    widths = convolution_padding(kernel, module.padding, module.dilation)
    if any(widths):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        images = functional.pad(images, widths, mode=mode)
    for axis, (k, stride, dilation) in enumerate(
        zip(kernel, module.stride, module.dilation, strict=True)
    ):
        windows = images.unfold(2 + axis, dilation * (k - 1) + 1, stride)
        images = windows[..., ::dilation]  # (N, C, *S', *k)
    n, channels, spatial = images.shape[0], images.shape[1], len(kernel)
    positions = math.prod(images.shape[2 : 2 + spatial])
    rows = images.movedim(1, 1 + spatial)  # (N, *S', C, *k)
    if module.groups == 1:
        return rows.reshape(n, positions, channels * math.prod(kernel))
    return _grouped(rows.reshape(n, positions, channels * math.prod(kernel)), module.groups)


def convolution_padding(
    kernel: Sequence[int], padding: Sequence[int] | str, dilation: Sequence[int]
) -> list[int]:
    """Pixels added before and after, last axis first, as `torch.nn.functional.pad` wants them."""
    widths: list[int] = []
    for axis in reversed(range(len(kernel))):
        if padding == "same":
            total = dilation[axis] * (kernel[axis] - 1)
            widths += [total // 2, total - total // 2]
        else:
            width = 0 if padding == "valid" else int(padding[axis])
            widths += [width, width]
    return widths


def mixes_rows(module: nn.Module) -> bool:
    """Whether the module's output of one row depends on the other rows of the batch."""
    batch_statistics = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return batch_statistics and (module.training or module.running_mean is None)


def _positions(values: Tensor) -> Tensor:
    """``(N, *T, d)`` or ``(d,)`` as ``(N, T, d)``."""
    if values.ndim == 1:
        return values[None, None]
    return values.reshape(values.shape[0], math.prod(values.shape[1:-1]), values.shape[-1])


def _grouped(rows: Tensor, groups: int) -> Tensor:
    """``(N, T, b·d)`` as ``(b, N, T, d)``."""
    return rows.unflatten(-1, (groups, rows.shape[-1] // groups)).movedim(2, 0)


def _units(module: nn.Module, values: Tensor) -> Tensor:
    """Values at the units of a normalisation, shape ``(N, T, units)``."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        shape = module.normalized_shape
        outer = values.shape[: values.ndim - len(shape)] or (1,)
        return values.reshape(outer[0], math.prod(outer[1:]), math.prod(shape))
    return _positions(values.movedim(1, -1) if values.ndim > 1 else values)


def _normalised(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a normalisation multiplies by its weight, computed anew; changes no statistics."""
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.RMSNorm):
        return functional.rms_norm(inputs, cast(list[int], module.normalized_shape), eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return functional.group_norm(inputs, module.num_groups, eps=module.eps)
    assert isinstance(module, BATCH_NORMS)
    if mixes_rows(module):
        return functional.batch_norm(inputs, None, None, training=True, eps=module.eps)
    return functional.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
