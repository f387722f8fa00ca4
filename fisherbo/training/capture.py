"""Hooks that collect a layer's inputs and output gradients during the user's own passes.

When the user's backward pass reaches the model's outputs, one extra `torch.autograd.grad` from the
outputs to those of the layers gives the gradients at labels drawn from the model (Martens & Grosse
2015, section 5); for the empirical Fisher they are those of the user's own backward pass. Only then
is it known which rows the loss uses, and a pass without a backward pass costs and keeps nothing.
The user's loop and the ``.grad`` of every parameter stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from fisherbo.errors import InvalidInputError
from fisherbo.training.attention import attended, random_state
from fisherbo.training.compiled import reusable
from fisherbo.training.coverage import Layer
from fisherbo.training.events import ClassDimension, as_outputs, events, used_entries
from fisherbo.training.graph import nodes_of, used_outside
from fisherbo.training.hooks import Hook, single_tensor
from fisherbo.training.moments import Moments, Sharing, add_gradients, add_inputs, empty_moments
from fisherbo.training.output_fisher import OutputFisher
from fisherbo.training.passes import weight_versions, when_reached
from fisherbo.training.quadratic import Linearised, linearise
from fisherbo.training.rows import gradient_rows, input_rows, joined, mixes_rows, thinned


@dataclass
class _Sum:
    """The gradient of the user's backward passes, for the empirical Fisher."""

    value: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        self.value = gradient if self.value is None else self.value + gradient


@dataclass
class _Call:
    layer: Layer
    module: nn.Module
    inputs: Tensor
    edge: GradientEdge | None
    sources: frozenset[Node]  # of the inputs, until the pass ends
    gradient: _Sum = field(default_factory=_Sum)  # known to a hook, which must not know the edge


@dataclass
class _Pass:
    wanted: frozenset[Layer]
    linear: bool
    calls: list[_Call] = field(default_factory=list)
    used: Tensor | None = None

    @property
    def rows(self) -> int:
        """Number of distributions that the loss uses."""
        return 0 if self.used is None else int(self.used.any(-1).sum())

    def release(self) -> None:
        """Drop what was kept for the backward pass; the graph outlives it where a loss is kept."""
        for call in self.calls:
            call.gradient.value = None
        self.calls = []


@dataclass
class _Rows:
    """Inputs of a layer in one pass, and where its gradients are not 0, shape ``(N, T)``."""

    inputs: Tensor
    used: Tensor | None = None

    def add(self, gradients: Tensor) -> None:
        touched = (gradients != 0).any(-1)
        touched = touched.any(0) if touched.ndim == 3 else touched
        self.used = touched if self.used is None else self.used | touched


class Capture:
    """Collects `Moments` of the layers from the passes that a backward pass comes to.

    Rows that the loss leaves out (`used_entries`) do not count in the Fisher of the outputs. Where
    there are any, an input counts if a gradient of the outputs that do reaches its position.

    Args:
        model: The network whose forward passes are watched.
        layers: Its covered layers.
        fisher: How the Fisher of the outputs is estimated.
        due: Asked at the beginning of each pass whether to collect from it.
        missing: Asked at the beginning of a pass that is not due for layers to collect all the
            same, if the pass leads through them.
        watched: Asked at the beginning of each pass whether it is one of the model's own weights.
        sharing: How the shared positions of a row are treated.
        keep: Whether the rows are kept beside their sums.
        linearised: Asked at the beginning of each pass whether to keep it as a linear map of the
            weights.
        when: Whether to collect when a backward pass reaches the outputs, or at the end of the
            forward pass, from all rows.

    Attributes:
        rows: Number of distributions that the loss used in the passes of the last `take`.
        outputs: Number of entries of z that one distribution is over; 0 before any pass.
        variance: Of the residuals of a normal likelihood in the passes of the last `take`, else 1.

    Raises:
        InvalidInputError: If the dimension of the classes is not a whole number.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        fisher: OutputFisher,
        due: Callable[[], bool],
        *,
        missing: Callable[[], Collection[Layer]] = tuple,
        watched: Callable[[], bool] = lambda: True,
        sharing: Sharing = "expand",
        keep: bool = False,
        linearised: Callable[[], bool] = lambda: False,
        when: Literal["backward", "forward"] = "backward",
    ) -> None:
        self._fisher = fisher
        self._dimension = ClassDimension(fisher.likelihood, fisher.class_dim)
        self._due = due
        self._missing = missing
        self._watched = watched
        self._sharing = sharing
        self._keep = keep
        self._linearised = linearised
        self._when = when
        self._layers = {module: x for x in layers for module in (x.module, *x.aliases)}
        self._weights = [p for x in layers for p in x.parameters]
        self._versions: tuple[int, ...] = ()
        self._mixing = [module for module in model.modules() if _is_batch_norm(module)]
        self._attentions: dict[nn.Module, Tensor | None] = {
            module: None for module in model.modules() if self._is_attention(module)
        }
        self._attending = False
        self._exposed: dict[Layer, None] = {}
        self._dropped: frozenset[Layer] = frozenset()
        self._moments: dict[Layer, Moments] = {}
        self._rows = self.rows = 0
        self._squares, self._entries = 0.0, 0
        self.outputs, self.variance = 0, 1.0
        self._maps: list[Linearised] = []
        self._passes: list[_Pass] = []
        self._pass: _Pass | None = None
        self._paused = False
        self._compiling = ExitStack()
        self._handles = [
            model.register_forward_pre_hook(Hook(self._begin)),
            *(
                module.register_forward_hook(Hook(self._record), with_kwargs=True)
                for module in self._layers
                if not isinstance(module, nn.MultiheadAttention)
            ),
            *(
                module.register_forward_pre_hook(Hook(self._before_attention))
                for module in self._attentions
            ),
            *(
                module.register_forward_hook(Hook(self._attend), with_kwargs=True)
                for module in self._attentions
            ),
            model.register_forward_hook(Hook(self._finish)),
        ]

    def remove(self) -> None:
        """Take all hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.forget()

    def forget(self) -> None:
        """Forget all that was collected since the last step."""
        for one in self._passes:
            one.release()
        self._pass = None
        self._moments, self._rows, self._maps, self._passes = {}, 0, [], []
        self._squares, self._entries = 0.0, 0

    def take(self, gradient_scale: float = 1.0) -> dict[Layer, Moments]:
        """The moments collected since the last call, which are then forgotten; see also `rows`.

        Args:
            gradient_scale: The user's gradients are those of so many times the loss.
        """
        with torch.autocast(self._weights[0].device.type, enabled=False):
            self._add_empirical(gradient_scale)
        for moments in self._moments.values():
            moments.output_rows = self._rows
        if self._entries and self._rows:
            self.variance = self._residual_variance(gradient_scale)
        taken, maps, self.rows = self._moments, self._maps, self._rows
        self.forget()
        self._maps = maps
        return taken

    def _residual_variance(self, gradient_scale: float) -> float:
        """Mean of (z − y)², from gradients of `MSELoss` or, with several outputs, of ½ Σ (z − y)².

        The latter is the smaller of the two, which a gradient alone does not tell apart.
        """
        rows = self._rows if self._fisher.reduction == "mean" else 1
        of_residual = max(1.0, 2 / self.outputs) * gradient_scale
        return (rows / of_residual) ** 2 * self._squares / self._entries

    def drop(self, layers: Iterable[Layer]) -> None:
        """Collect nothing of these layers in passes from now on, but of all others."""
        self._dropped = frozenset(layers)

    def take_exposed(self) -> list[Layer]:
        """Layers whose weights a pass used besides their modules, since the last call."""
        taken, self._exposed = list(self._exposed), {}
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
        self._pass = None
        self._compiling.close()  # still open if the last pass raised an error
        if self._paused or not (torch.is_grad_enabled() and self._watched()):
            return
        self._compiling.enter_context(reusable())
        if self._moments or self._maps or self._passes:
            if weight_versions(self._weights) != self._versions:  # no step of this optimizer
                self.forget()
        asked = self._layers.values() if self._due() else self._missing()
        wanted = frozenset(x for x in asked if x.weight.requires_grad) - self._dropped
        linear = self._linearised()
        if wanted or linear:
            self._pass = _Pass(wanted, linear)
        self._attending = bool(wanted)  # after the pass too: checkpointed parts run once more

    def _record(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> Tensor | None:
        if self._pass is None:
            return None
        layer = self._layer(module)
        if layer not in self._pass.wanted or not output.requires_grad:
            return None
        if output._is_view():  # an in-place activation would cut the edge of a view
            output = output.clone()
        inputs = args[0] if args else kwargs["input"]
        self._add_call(layer, module, inputs, (inputs,), output)
        return output

    def _add_call(
        self,
        layer: Layer,
        module: nn.Module,
        inputs: Tensor,
        sources: Sequence[Tensor],
        output: Tensor,
    ) -> None:
        assert self._pass is not None
        edge = get_gradient_edge(output)
        call = _Call(layer, module, inputs.detach(), edge, nodes_of(sources))
        self._pass.calls.append(call)
        if self._fisher.kind == "empirical":
            output.register_hook(call.gradient.add)

    def _is_attention(self, module: nn.Module) -> bool:
        """Whether it has a covered part, which it computes without calling it."""
        attention = isinstance(module, nn.MultiheadAttention)
        return attention and not self._layers.keys().isdisjoint((module, module.out_proj))

    def _before_attention(self, module: nn.MultiheadAttention, _args: object) -> None:
        if self._attending and torch.is_grad_enabled() and module in self._attentions:
            self._attentions[module] = random_state(module)

    def _attend(
        self,
        module: nn.MultiheadAttention,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        _output: object,
    ) -> tuple[Tensor, Tensor | None] | None:
        if not (self._attending and torch.is_grad_enabled()):
            return None
        if module not in self._attentions:
            self._layer(module)
        found = attended(module, args, kwargs, self._attentions[module])
        layer = self._layers.get(module)
        if layer is not None and self._pass is not None and layer in self._pass.wanted:
            self._add_call(layer, module, found.inputs, found.sources, found.projected)
        return found.outputs

    def _layer(self, module: nn.Module) -> Layer:
        if module not in self._layers:
            raise InvalidInputError(
                "K-FAC watches the modules of one model, got a pass through a replica of them (by "
                "torch.nn.DataParallel?); use DistributedDataParallel"
            )
        return self._layers[module]

    def _finish(self, _model: nn.Module, _args: object, outputs: object) -> Tensor | None:
        self._compiling.close()
        current, self._pass = self._pass, None
        if current is None:
            return None
        outputs = single_tensor(outputs)
        if not outputs.requires_grad:
            return None
        if current.calls:
            self._find_exposed(current, outputs)
        if self._fisher.kind == "type2" and any(map(mixes_rows, self._mixing)):
            raise InvalidInputError(
                "fisher='type2' needs rows that do not depend on each other, got a BatchNorm in "
                "training mode; use fisher='mc', or eval() the BatchNorm modules"
            )
        if self._when == "forward":
            self._collect(current, outputs, None)
            return None
        return when_reached(outputs, self._collect, current)

    def _find_exposed(self, current: _Pass, outputs: Tensor) -> None:
        """Note the layers whose weights the pass used besides their modules."""
        layers = {p: call.layer for call in current.calls for p in call.layer.parameters}
        regions = {call.edge.node: call.sources for call in current.calls if call.edge is not None}
        self._exposed |= dict.fromkeys(layers[p] for p in used_outside(outputs, regions, layers))
        for call in current.calls:
            call.sources = frozenset()
            if self._fisher.kind == "empirical":
                call.edge = None

    def _collect(self, current: _Pass, outputs: Tensor, gradient: Tensor | None) -> None:
        """Collect from a pass whose graph is alive; later backward passes add to empirical ones.

        Args:
            current: The pass.
            outputs: The model's.
            gradient: Of the user's loss with respect to them; ``None``: all rows are used.
        """
        if not self._handles:
            return
        first = current.used is None
        if not first and self._fisher.kind != "empirical":
            return
        likelihood = self._fisher.likelihood
        dim = self._dimension.of(outputs, gradient)
        z = events(outputs.detach(), likelihood, dim)
        self.outputs = z.shape[-1]
        if gradient is None:
            used = torch.ones_like(z[..., :1], dtype=torch.bool)
        else:
            g = events(gradient.detach(), likelihood, dim)
            used = used_entries(z, g, likelihood)
            if likelihood == "normal":
                self._squares += float(g.double().square().sum())
                self._entries += int(used.expand_as(g).sum())
        current.used = used if current.used is None else current.used | used
        if not first:
            return
        self._versions = weight_versions(self._weights)
        with torch.autocast(outputs.device.type, enabled=False):
            if current.linear:
                layers = [x for x in dict.fromkeys(self._layers.values()) if x not in self._dropped]
                weights = [p for layer in layers for p in layer.parameters]
                self._maps.append(linearise(outputs, used, weights, likelihood, dim))
            if self._fisher.kind == "empirical":
                self._passes.append(current)
            elif current.wanted:
                self._add_columns(current, outputs, z, dim)
                current.release()

    def _add_columns(self, current: _Pass, outputs: Tensor, z: Tensor, dim: int) -> None:
        """Add the gradients of one pass at labels drawn from the model, or the exact ones."""
        used, rows = current.used, current.rows
        assert used is not None
        partial = rows < z.shape[0] * z.shape[1]
        entries = partial or not bool(used.all())
        self._rows += rows
        edges = [call.edge for call in current.calls if call.edge is not None]
        if not edges:
            return
        seen: dict[Layer, _Rows] = {}
        for column in self._fisher.columns(z):
            seed = torch.where(used, column, 0.0) if entries else column
            with reusable():
                gradients = torch.autograd.grad(
                    outputs,
                    edges,
                    grad_outputs=as_outputs(seed, outputs, dim),
                    retain_graph=True,
                    allow_unused=True,
                )
            self._add(current, gradients, seen, partial)
        self._add_rows(seen)

    @torch.no_grad()
    def _add(
        self,
        current: _Pass,
        gradients: Sequence[Tensor | None],
        seen: dict[Layer, _Rows],
        partial: bool,
    ) -> None:
        """Add one gradient for each call of a pass.

        Args:
            current: The pass.
            gradients: Of the outputs of its calls; ``None`` where there is none.
            seen: The inputs of the pass, filled at its first gradients.
            partial: Whether the loss leaves out rows.
        """
        by_layer: dict[Layer, list[tuple[_Call, Tensor]]] = {}
        for call, gradient in zip(current.calls, gradients, strict=True):
            if gradient is not None:
                by_layer.setdefault(call.layer, []).append((call, gradient))
        for layer, pairs in by_layer.items():
            if layer not in self._moments:
                self._moments[layer] = empty_moments(layer)
            parts = [gradient_rows(call.module, g) for call, g in pairs]
            if layer not in seen:
                thin = layer.kind == "matrix" and not (partial or self._keep)
                rows = [
                    input_rows(call.module, thinned(call.inputs, part) if thin else call.inputs)
                    for (call, _), part in zip(pairs, parts, strict=True)
                ]
                inputs = joined(rows, 1 if layer.kind == "embedding" else -2)
                seen[layer] = _Rows(inputs)
            found = joined(parts, -2)
            if partial and layer.kind != "units":
                seen[layer].add(found)
            inputs = seen[layer].inputs
            add_gradients(self._moments[layer], layer, inputs, found, self._sharing, self._keep)

    @torch.no_grad()
    def _add_rows(self, seen: Mapping[Layer, _Rows]) -> None:
        """Add the inputs of one pass."""
        for layer, rows in seen.items():
            add_inputs(self._moments[layer], layer, rows.inputs, self._sharing, rows.used)

    def _add_empirical(self, gradient_scale: float) -> None:
        """Add the gradients of the user's backward passes, scaled to a sum over rows."""
        if not self._passes:
            return
        counts = [current.rows for current in self._passes]
        self._rows = sum(counts)
        scale = (self._rows if self._fisher.reduction == "mean" else 1) / gradient_scale
        for current, rows in zip(self._passes, counts, strict=True):
            sums = [call.gradient.value for call in current.calls]
            gradients = [None if value is None else value * scale for value in sums]
            assert current.used is not None
            seen: dict[Layer, _Rows] = {}
            self._add(current, gradients, seen, rows < current.used[..., 0].numel())
            self._add_rows(seen)


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
