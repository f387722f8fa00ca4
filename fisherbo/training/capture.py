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
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from fisherbo.errors import InvalidInputError
from fisherbo.training.attention import attended, random_state
from fisherbo.training.compiled import reusable
from fisherbo.training.coverage import Layer
from fisherbo.training.graph import nodes_of, used_outside
from fisherbo.training.hooks import Hook, single_tensor
from fisherbo.training.moments import Moments, Sharing
from fisherbo.training.output_fisher import OutputFisher
from fisherbo.training.pass_moments import Call, Pass, PassMoments
from fisherbo.training.passes import when_reached
from fisherbo.training.quadratic import Linearised
from fisherbo.training.rows import mixes_rows


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
        self._due = due
        self._missing = missing
        self._watched = watched
        self._linearised = linearised
        self._when = when
        self._layers = {module: x for x in layers for module in (x.module, *x.aliases)}
        self._weights = [p for x in layers for p in x.parameters]
        self._found = PassMoments(fisher, self._weights, sharing, keep)
        self._mixing = [module for module in model.modules() if _is_batch_norm(module)]
        self._attentions: dict[nn.Module, Tensor | None] = {
            module: None for module in model.modules() if self._is_attention(module)
        }
        self._attending = False
        self._exposed: dict[Layer, None] = {}
        self._dropped: frozenset[Layer] = frozenset()
        self._pass: Pass | None = None
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
        self._pass = None
        self._found.forget()

    def take(self, gradient_scale: float = 1.0) -> dict[Layer, Moments]:
        """The moments collected since the last call, which are then forgotten; see also `rows`.

        Args:
            gradient_scale: The user's gradients are those of so many times the loss.
        """
        self._pass = None
        return self._found.take(gradient_scale)

    @property
    def rows(self) -> int:
        """Number of distributions that the loss used in the passes of the last `take`."""
        return self._found.rows

    @property
    def outputs(self) -> int:
        """Number of entries of z that one distribution is over; 0 before any pass."""
        return self._found.outputs

    @property
    def variance(self) -> float:
        """Of the residuals of a normal likelihood in the passes of the last `take`, else 1."""
        return self._found.variance

    def drop(self, layers: Iterable[Layer]) -> None:
        """Collect nothing of these layers in passes from now on, but of all others."""
        self._dropped = frozenset(layers)

    def take_exposed(self) -> list[Layer]:
        """Layers whose weights a pass used besides their modules, since the last call."""
        taken, self._exposed = list(self._exposed), {}
        return taken

    def take_linearised(self) -> list[Linearised]:
        """The linear maps kept since the last call, which are then forgotten."""
        taken, self._found.maps = self._found.maps, []
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
        if self._found.stale:  # the weights changed, and by no step of this optimizer
            self.forget()
        asked = self._layers.values() if self._due() else self._missing()
        wanted = frozenset(x for x in asked if x.weight.requires_grad) - self._dropped
        linear = self._trained_weights() if self._linearised() else []
        if wanted or linear:
            self._pass = Pass(wanted, linear)
        self._attending = bool(wanted)  # after the pass too: checkpointed parts run once more

    def _trained_weights(self) -> list[Tensor]:
        layers = [x for x in dict.fromkeys(self._layers.values()) if x not in self._dropped]
        return [p for layer in layers for p in layer.parameters]

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
        call = Call(layer, module, inputs.detach(), edge, nodes_of(sources))
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

    def _find_exposed(self, current: Pass, outputs: Tensor) -> None:
        """Note the layers whose weights the pass used besides their modules."""
        layers = {p: call.layer for call in current.calls for p in call.layer.parameters}
        regions = {call.edge.node: call.sources for call in current.calls if call.edge is not None}
        self._exposed |= dict.fromkeys(layers[p] for p in used_outside(outputs, regions, layers))
        for call in current.calls:
            call.sources = frozenset()
            if self._fisher.kind == "empirical":
                call.edge = None

    def _collect(self, current: Pass, outputs: Tensor, gradient: Tensor | None) -> None:
        """Collect from a pass whose graph is alive, if the hooks still are."""
        if self._handles:
            self._found.add(current, outputs, gradient)


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
