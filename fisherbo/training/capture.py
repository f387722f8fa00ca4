"""Hooks that collect a layer's inputs and output gradients during the user's own forward pass.

After a forward pass in training mode, one extra `torch.autograd.grad` from the outputs to those of
the layers gives the gradients at labels drawn from the model (Martens & Grosse 2015, section 5).
The user's loop and the ``.grad`` of every parameter stay as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fisherbo.errors import InvalidInputError
from fisherbo.training.coverage import Layer
from fisherbo.training.factors import (
    Likelihood,
    add_second_moment,
    conv2d_patches,
    conv2d_rows,
    events,
    exact_gradients,
    linear_rows,
    sampled_gradients,
)


@dataclass(frozen=True)
class OutputFisher:
    """How the Fisher of the outputs is estimated.

    Attributes:
        likelihood: p(y | z) over the last dimension of the outputs z.
        kind: ``"mc"`` (labels drawn from the model) or ``"type2"`` (exact, C backward passes).
        mc_samples: Labels drawn for each row.
        generator: Draws the labels.
    """

    likelihood: Likelihood
    kind: Literal["mc", "type2"]
    mc_samples: int
    generator: torch.Generator

    def columns(self, outputs: Tensor) -> Iterator[Tensor]:
        """Output gradients s, shape ``(N, T, C)`` as ``outputs``; ``E[Σ s sᵀ]`` is the Fisher."""
        if self.kind == "type2":
            yield from exact_gradients(outputs, self.likelihood)
            return
        for _ in range(self.mc_samples):
            sample = sampled_gradients(outputs, self.likelihood, self.generator)
            yield sample / self.mc_samples**0.5 if self.mc_samples > 1 else sample


@dataclass
class Moments:
    """Sums over the forward passes since the last step, for one layer.

    Attributes:
        inputs: ``Σ a aᵀ``, shape ``(d_in, d_in)``.
        outputs: ``Σ ḡ ḡᵀ``, shape ``(d_out, d_out)``.
        input_rows: Number of a (rows × shared positions).
        output_rows: Number of distributions p(y | z) (rows of the outputs).
    """

    inputs: Tensor
    outputs: Tensor
    input_rows: int = 0
    output_rows: int = 0

    def factors(self) -> tuple[Tensor, Tensor]:
        """Kronecker factors ``A`` and ``G`` of the rows seen."""
        return self.inputs / self.input_rows, self.outputs / self.output_rows


@dataclass(frozen=True)
class _Call:
    layer: Layer
    inputs: Tensor
    edge: GradientEdge


class Capture:
    """Collects `Moments` of the layers from the forward passes in training mode.

    Args:
        model: The network whose forward passes are watched.
        layers: Its covered layers.
        fisher: How the Fisher of the outputs is estimated.
        due: Asked at the beginning of each pass whether to collect from it.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        fisher: OutputFisher,
        due: Callable[[], bool],
    ) -> None:
        self._fisher = fisher
        self._due = due
        self._layers: dict[nn.Module, Layer] = {layer.module: layer for layer in layers}
        self._moments: dict[Layer, Moments] = {}
        self._calls: list[_Call] | None = None
        self._handles = [
            model.register_forward_pre_hook(_Hook(self._begin)),
            *(
                layer.module.register_forward_hook(_Hook(self._record), with_kwargs=True)
                for layer in layers
            ),
            model.register_forward_hook(_Hook(self._finish)),
        ]

    def remove(self) -> None:
        """Take all hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._calls = None
        self._moments = {}

    def take(self) -> dict[Layer, Moments]:
        """The moments collected since the last call, which are then forgotten."""
        taken, self._moments = self._moments, {}
        return taken

    def _begin(self, model: nn.Module, _args: object) -> None:
        watched = model.training and torch.is_grad_enabled() and self._due()
        self._calls = [] if watched else None

    def _record(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor | None:
        layer = self._layers[module]
        if self._calls is None or not (layer.weight.requires_grad and output.requires_grad):
            return None
        if output._is_view():  # an in-place activation would cut the edge of a view
            output = output.clone()
        inputs = args[0] if args else kwargs["input"]
        self._calls.append(_Call(layer, inputs.detach(), get_gradient_edge(output)))
        return output

    def _finish(self, _model: nn.Module, _args: object, outputs: object) -> None:
        calls, self._calls = self._calls, None
        if not calls:
            return
        outputs = _single_tensor(outputs)
        if outputs.requires_grad:
            self._collect(calls, outputs)

    def _collect(self, calls: list[_Call], outputs: Tensor) -> None:
        viewed = events(outputs.detach(), self._fisher.likelihood)
        edges = [call.edge for call in calls]
        used: set[int] = set()
        for column in self._fisher.columns(viewed):
            gradients = torch.autograd.grad(
                outputs,
                edges,
                grad_outputs=column.reshape(outputs.shape),
                retain_graph=True,
                allow_unused=True,
            )
            for index, gradient in enumerate(gradients):
                if gradient is not None:
                    used.add(index)
                    self._add_outputs(calls[index].layer, gradient)
        with torch.no_grad():
            for index in sorted(used):
                self._add_inputs(calls[index])
        for layer in dict.fromkeys(calls[index].layer for index in sorted(used)):
            self._moments[layer].output_rows += viewed.shape[0] * viewed.shape[1]

    def _add_outputs(self, layer: Layer, gradient: Tensor) -> None:
        add_second_moment(self._moments_of(layer).outputs, output_rows(layer.module, gradient))

    def _add_inputs(self, call: _Call) -> None:
        moments = self._moments_of(call.layer)
        rows = input_rows(call.layer.module, call.inputs)
        add_second_moment(moments.inputs, rows)
        moments.input_rows += rows.shape[0]

    def _moments_of(self, layer: Layer) -> Moments:
        if layer not in self._moments:
            self._moments[layer] = _zero_moments(layer)
        return self._moments[layer]


def input_rows(module: nn.Linear | nn.Conv2d, inputs: Tensor) -> Tensor:
    """Rows that the flattened weight of the module multiplies, shape ``(N·T, d_in)``."""
    if isinstance(module, nn.Linear):
        return linear_rows(inputs)
    return conv2d_patches(
        inputs,
        # torch types these as tuples of any length, `unfold` as pairs; they are pairs here
        module.kernel_size,  # type: ignore[arg-type]
        stride=module.stride,  # type: ignore[arg-type]
        padding=module.padding,  # type: ignore[arg-type]
        dilation=module.dilation,  # type: ignore[arg-type]
        padding_mode=module.padding_mode,
    )


def output_rows(module: nn.Linear | nn.Conv2d, gradient: Tensor) -> Tensor:
    """Output gradients of the module as rows, shape ``(N·T, d_out)``."""
    return linear_rows(gradient) if isinstance(module, nn.Linear) else conv2d_rows(gradient)


def _zero_moments(layer: Layer) -> Moments:
    weight = layer.weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    d_in, d_out = layer.widths
    return Moments(
        inputs=torch.zeros(d_in, d_in, dtype=dtype, device=weight.device),
        outputs=torch.zeros(d_out, d_out, dtype=dtype, device=weight.device),
    )


def _single_tensor(outputs: object) -> Tensor:
    if isinstance(outputs, Tensor) and outputs.ndim > 0:
        return outputs
    raise InvalidInputError(
        "the model's output must be one tensor of logits or means with at least one dimension for "
        f"K-FAC, got {type(outputs).__name__}; wrap the model so that it returns the tensor alone"
    )


class _Hook:
    """A forward hook that keeps no capture alive and does nothing in a copy of the model."""

    def __init__(self, method: Callable[..., Tensor | None] | None) -> None:
        self._method = None if method is None else weakref.WeakMethod(method)

    def __call__(self, *args: Any) -> Tensor | None:
        method = None if self._method is None else self._method()
        return None if method is None else method(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[None]]:
        return (_Hook, (None,))
