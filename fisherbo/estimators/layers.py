"""Weights of a multilayer perceptron as arrays: drawn, run, and put in the units of the data.

Networks are trained on scaled inputs (and targets, in regression) in float32; what predicts is the
same function of the data's own units in float64.

    z = (x − c)/s,  W z + b = (W/s) x + (b − W c/s)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from fisherbo.geometry.linalg import orthonormal_basis

Array = NDArray[Any]
Layer = tuple[Array, Array]
"""Weight (inputs, outputs) and bias (outputs,)."""

ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], type[nn.Module], float]] = {
    "identity": (lambda z: z, nn.Identity, 1.0),
    "logistic": (expit, nn.Sigmoid, 1.0),
    "tanh": (np.tanh, nn.Tanh, 1.0),
    "relu": (lambda z: np.maximum(z, 0), nn.ReLU, 2.0),
}
"""On arrays, as a module, and the gain squared of its initial weights (He et al. 2015, eq. 10)."""

SPREAD = 6.0  # ranges that a column's scale is at least a share of


@dataclass(frozen=True, eq=False)
class Scaling:
    """Centre and scale of columns."""

    centre: Array
    scale: Array

    def apply(self, values: Array) -> Array:
        """Scaled values in float32."""
        return np.asarray((values - self.centre) / self.scale, dtype=np.float32)


def input_scaling(X: Array) -> Scaling:
    """Means, and standard deviations or a sixth of the ranges where these are greater.

    So no scaled value is far out; with standard deviations alone a column that is nearly constant,
    such as a pixel at the margin, weighs as much as all others by a few rows.
    """
    return _scaling(X, np.maximum(X.std(0), np.ptp(X, axis=0) / SPREAD))


def target_scaling(y: Array) -> Scaling:
    """Means and standard deviations of targets (n, outputs)."""
    return _scaling(y, y.std(0))


def _scaling(values: Array, spread: Array) -> Scaling:
    centre = values.mean(0)
    smallest = 1e-12 * np.abs(centre)  # what rounding leaves of a constant is no spread
    return Scaling(centre, np.where(spread > smallest, spread, 1.0))


def draw(widths: Sequence[int], activation: str, seed: int) -> list[Layer]:
    """Normal weights of variance gain²/inputs and zero biases."""
    rng = np.random.default_rng(seed)
    gain = ACTIVATIONS[activation][2]
    return [
        (
            rng.standard_normal((n_in, n_out), dtype=np.float32)
            * np.float32(math.sqrt(gain / n_in)),
            np.zeros(n_out, dtype=np.float32),
        )
        for n_in, n_out in pairwise(widths)
    ]


def as_module(layers: Sequence[Layer], activation: str) -> nn.Sequential:
    """The network as a torch module with weights of its own."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, *weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, ACTIVATIONS[activation][1]()]
    return nn.Sequential(*modules[:-1])


def of_module(model: nn.Module) -> list[Layer]:
    """A copy of the weights of a module."""
    return [
        (x.weight.detach().numpy().T.copy(), x.bias.detach().numpy().copy())
        for x in model.modules()
        if isinstance(x, nn.Linear)
    ]


def row_space(x: torch.Tensor) -> torch.Tensor | None:
    """Orthonormal basis (inputs, rows) of the rows of `x` where inputs outnumber them, else None.

    The first layer's gradients lie in the span of the rows, and normal initial weights and their L2
    penalty know no direction. So gradient descent on the coordinates ``x @ basis`` is that on `x`;
    K-FAC's differs in how its damping is split, and its factors have as many columns as rows.
    """
    rows, inputs = x.shape
    return orthonormal_basis(x.T) if inputs > rows else None


def reduced(layers: Sequence[Layer], basis: torch.Tensor | None) -> list[Layer]:
    """The layers as a network of the coordinates in a basis of the inputs."""
    if basis is None:
        return list(layers)
    (weight, bias), *others = layers
    return [(basis.numpy().T @ weight, bias), *others]


def expanded(
    layers: Sequence[Layer], basis: torch.Tensor | None, before: Sequence[Layer] | None
) -> list[Layer]:
    """The layers of coordinates as a network of the inputs.

    Across the basis the weights are what they were `before`, or zero: rows say nothing about them.
    """
    if basis is None:
        return list(layers)
    (weight, bias), *others = layers
    across = 0.0
    if before is not None:
        across = before[0][0] - basis.numpy() @ (basis.numpy().T @ before[0][0])
    return [(basis.numpy() @ weight + across, bias), *others]


def in_units(layers: Sequence[Layer], inputs: Scaling, targets: Scaling | None) -> list[Layer]:
    """The same function of values that are not scaled, in float64."""
    made = [(weight.astype(np.float64), bias.astype(np.float64)) for weight, bias in layers]
    weight, bias = made[0]
    weight = weight / inputs.scale[:, None]
    made[0] = weight, bias - inputs.centre @ weight
    if targets is not None:
        weight, bias = made[-1]
        made[-1] = weight * targets.scale, bias * targets.scale + targets.centre
    return made


def run(layers: Sequence[Layer], activation: str, X: Array) -> Array:
    """Outputs (n, outputs) of inputs (n, inputs)."""
    apply = ACTIVATIONS[activation][0]
    for weight, bias in layers[:-1]:
        X = apply(X @ weight + bias)
    return X @ layers[-1][0] + layers[-1][1]
