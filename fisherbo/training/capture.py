"""Hooks that collect a layer's inputs and output gradients during the user's own forward pass.

After a forward pass in training mode, one extra `torch.autograd.grad` from the outputs to those of
the layers gives the gradients at labels drawn from the model (Martens & Grosse 2015, section 5);
for the empirical Fisher they are those of the user's own backward pass. The user's loop and the
``.grad`` of every parameter stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fisherbo.errors import InvalidInputError
from fisherbo.training.coverage import Layer
from fisherbo.training.factors import Likelihood, events, exact_gradients, sampled_gradients
from fisherbo.training.hooks import Hook, single_tensor
from fisherbo.training.moments import Moments, Sharing, add_gradients, add_inputs, empty_moments
from fisherbo.training.quadratic import Linearised, linearise
from fisherbo.training.rows import gradient_rows, input_rows, joined, mixes_rows

Fisher = Literal["mc", "type2", "empirical"]


@dataclass(frozen=True)
class OutputFisher:
    """How the Fisher of the outputs is estimated.

    Attributes:
        likelihood: p(y | z) over the last dimension of the outputs z.
        kind: ``"mc"`` (labels drawn from the model), ``"type2"`` (exact, C backward passes) or
            ``"empirical"`` (the labels of the loss).
        mc_samples: Labels drawn for each row.
        generator: Draws the labels.
        reduction: Of the user's loss over rows; the scale of empirical gradients follows from it.
        rank: Number of this process among ``processes`` that train one model; each draws labels of
            its own, while their generators stay alike.
        processes: See ``rank``.
    """

    likelihood: Likelihood
    kind: Fisher
    mc_samples: int
    generator: torch.Generator
    reduction: Literal["mean", "sum"] = "mean"
    rank: int = 0
    processes: int = 1

    def columns(self, outputs: Tensor) -> Iterator[Tensor]:
        """Output gradients s, shape ``(N, T, C)`` as ``outputs``; ``E[Σ s sᵀ]`` is the Fisher."""
        if self.kind == "type2":
            yield from exact_gradients(outputs, self.likelihood)
            return
        generator = self._labels()
        for _ in range(self.mc_samples):
            sample = sampled_gradients(outputs, self.likelihood, generator)
            yield sample / self.mc_samples**0.5 if self.mc_samples > 1 else sample

    def _labels(self) -> torch.Generator:
        if self.processes == 1:
            return self.generator
        device = self.generator.device
        seed = torch.randint(2**62, (), generator=self.generator, device=device).item()
        return torch.Generator(device).manual_seed(int(seed) + self.rank)


@dataclass
class _Call:
    layer: Layer
    module: nn.Module
    inputs: Tensor
    edge: GradientEdge
    gradient: Tensor | None = None  # of the user's backward pass, for the empirical Fisher

    def add(self, gradient: Tensor) -> None:
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


@dataclass
class _Pass:
    wanted: frozenset[Layer]
    calls: list[_Call] = field(default_factory=list)
    rows: int = 0


class Capture:
    """Collects `Moments` of the layers from the forward passes in training mode.

    Args:
        model: The network whose forward passes are watched.
        layers: Its covered layers.
        fisher: How the Fisher of the outputs is estimated.
        due: Asked at the beginning of each pass whether to collect from it.
        missing: Asked at the beginning of a pass that is not due for layers to collect all the
            same, if the pass leads through them.
        sharing: How the shared positions of a row are treated.
        keep: Whether the rows are kept beside their sums.
        linearised: Asked at the end of each pass whether to keep it as a linear map of the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        fisher: OutputFisher,
        due: Callable[[], bool],
        *,
        missing: Callable[[], Collection[Layer]] = tuple,
        sharing: Sharing = "expand",
        keep: bool = False,
        linearised: Callable[[], bool] = lambda: False,
    ) -> None:
        self._fisher = fisher
        self._due = due
        self._missing = missing
        self._sharing = sharing
        self._keep = keep
        self._linearised = linearised
        self._layers = {module: x for x in layers for module in (x.module, *x.aliases)}
        self._mixing = [module for module in model.modules() if _is_batch_norm(module)]
        self._moments: dict[Layer, Moments] = {}
        self._maps: list[Linearised] = []
        self._passes: list[_Pass] = []
        self._pass: _Pass | None = None
        self._paused = False
        self._handles = [
            model.register_forward_pre_hook(Hook(self._begin)),
            *(
                module.register_forward_hook(Hook(self._record), with_kwargs=True)
                for module in self._layers
            ),
            model.register_forward_hook(Hook(self._finish)),
        ]

    def remove(self) -> None:
        """Take all hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self.forget()

    def forget(self) -> None:
        """Forget all that was collected since the last step."""
        self._pass = None
        self._moments, self._maps, self._passes = {}, [], []

    def take(self, gradient_scale: float = 1.0) -> dict[Layer, Moments]:
        """The moments collected since the last call, which are then forgotten.

        Args:
            gradient_scale: The user's gradients are those of so many times the loss.
        """
        self._add_empirical(gradient_scale)
        taken, self._moments, self._passes = self._moments, {}, []
        return taken

    def take_linearised(self) -> list[Linearised]:
        """The linear maps kept since the last call, which are then forgotten."""
        taken, self._maps = self._maps, []
        return taken

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is collected within the block."""
        self._paused, before = True, self._paused
        try:
            yield
        finally:
            self._paused = before

    def _begin(self, model: nn.Module, _args: object) -> None:
        watched = model.training and torch.is_grad_enabled() and not self._paused
        wanted: Collection[Layer] = ()
        if watched:
            wanted = self._layers.values() if self._due() else self._missing()
        self._pass = _Pass(frozenset(wanted)) if wanted else None

    def _record(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor | None:
        if self._pass is None:
            return None
        layer = self._layer(module)
        if layer not in self._pass.wanted:
            return None
        if not (layer.weight.requires_grad and output.requires_grad):
            return None
        if output._is_view():  # an in-place activation would cut the edge of a view
            output = output.clone()
        inputs = args[0] if args else kwargs["input"]
        call = _Call(layer, module, inputs.detach(), get_gradient_edge(output))
        self._pass.calls.append(call)
        if self._fisher.kind == "empirical":
            output.register_hook(call.add)
        return output

    def _layer(self, module: nn.Module) -> Layer:
        if module not in self._layers:
            raise InvalidInputError(
                "K-FAC watches the modules of one model, got a pass through a replica of them (by "
                "torch.nn.DataParallel?); use DistributedDataParallel"
            )
        return self._layers[module]

    def _finish(self, model: nn.Module, _args: object, outputs: object) -> None:
        current, self._pass = self._pass, None
        watched = model.training and torch.is_grad_enabled() and not self._paused
        if not watched:
            return
        if current is not None and not current.calls:
            current = None
        linear = self._linearised()
        if current is None and not linear:
            return
        outputs = single_tensor(outputs)
        if not outputs.requires_grad:
            return
        if linear:
            parameters = [p for x in dict.fromkeys(self._layers.values()) for p in x.parameters]
            self._maps.append(linearise(outputs, parameters, self._fisher.likelihood))
        if current is not None:
            self._collect(current, outputs)

    def _collect(self, current: _Pass, outputs: Tensor) -> None:
        viewed = events(outputs.detach(), self._fisher.likelihood)
        current.rows = viewed.shape[0] * viewed.shape[1]
        if self._fisher.kind == "empirical":
            self._passes.append(current)
            return
        if self._fisher.kind == "type2" and any(map(mixes_rows, self._mixing)):
            raise InvalidInputError(
                "fisher='type2' needs rows that do not depend on each other, got a BatchNorm in "
                "training mode; use fisher='mc', or eval() the BatchNorm modules"
            )
        edges = [call.edge for call in current.calls]
        seen: dict[Layer, Tensor] = {}
        for column in self._fisher.columns(viewed):
            gradients = torch.autograd.grad(
                outputs,
                edges,
                grad_outputs=column.reshape(outputs.shape),
                retain_graph=True,
                allow_unused=True,
            )
            self._add(current, gradients, seen)

    @torch.no_grad()
    def _add(
        self, current: _Pass, gradients: Sequence[Tensor | None], seen: dict[Layer, Tensor]
    ) -> None:
        """Add one gradient for each call of a pass; ``seen`` holds the inputs added already."""
        by_layer: dict[Layer, list[tuple[_Call, Tensor]]] = {}
        for call, gradient in zip(current.calls, gradients, strict=True):
            if gradient is not None:
                by_layer.setdefault(call.layer, []).append((call, gradient))
        for layer, pairs in by_layer.items():
            if layer not in self._moments:
                self._moments[layer] = empty_moments(layer)
            moments = self._moments[layer]
            if layer not in seen:
                rows = [input_rows(call.module, call.inputs) for call, _ in pairs]
                seen[layer] = joined(rows, 1 if layer.kind == "diagonal" else -2)
                add_inputs(moments, layer, seen[layer], self._sharing)
                moments.output_rows += current.rows
            rows = [gradient_rows(call.module, gradient) for call, gradient in pairs]
            add_gradients(moments, layer, seen[layer], joined(rows, -2), self._sharing, self._keep)

    def _add_empirical(self, gradient_scale: float) -> None:
        """Add the gradients of the user's backward passes, scaled to a sum over rows."""
        mean = self._fisher.reduction == "mean"
        rows = sum(current.rows for current in self._passes) if mean else 1
        scale = rows / gradient_scale
        for current in self._passes:
            gradients = [
                None if call.gradient is None else call.gradient * scale for call in current.calls
            ]
            self._add(current, gradients, {})


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
