"""The sums that Kronecker factors are averages of, collected from passes as a backward pass comes.

Of each pass it is known which calls of layers led to the outputs; see `fisherbo.training.capture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from fisherbo.training.compiled import reusable
from fisherbo.training.coverage import Layer
from fisherbo.training.events import ClassDimension, as_outputs, events, used_entries
from fisherbo.training.moments import Moments, Sharing, add_gradients, add_inputs, empty_moments
from fisherbo.training.output_fisher import OutputFisher
from fisherbo.training.passes import weight_versions
from fisherbo.training.quadratic import Linearised, linearise
from fisherbo.training.rows import gradient_rows, input_rows, joined, thinned


@dataclass
class _Sum:
    """The gradient of the user's backward passes, for the empirical Fisher."""

    value: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        self.value = gradient if self.value is None else self.value + gradient


@dataclass
class Call:
    """A layer's call in a pass."""

    layer: Layer
    module: nn.Module
    inputs: Tensor
    edge: GradientEdge | None
    sources: frozenset[Node]  # of the inputs, until the pass ends
    gradient: _Sum = field(default_factory=_Sum)  # known to a hook, which must not know the edge


@dataclass
class Pass:
    """One forward pass of the model.

    Attributes:
        wanted: The layers to collect from.
        linear: The weights that the outputs are wanted as a linear map of, if any.
        calls: Of the wanted layers, in order.
        used: Which entries of the outputs the loss uses, once that is known.
    """

    wanted: frozenset[Layer]
    linear: Sequence[Tensor]
    calls: list[Call] = field(default_factory=list)
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


class PassMoments:
    """The moments of layers over the passes between two steps.

    Args:
        fisher: How the Fisher of the outputs is estimated.
        weights: Of the covered layers; sums of a pass are stale once one of them has changed.
        sharing: How the shared positions of a row are treated.
        keep: Whether the rows are kept beside their sums.

    Attributes:
        rows: Number of distributions that the loss used in the passes of the last `take`.
        outputs: Number of entries of z that one distribution is over; 0 before any pass.
        variance: Of the residuals of a normal likelihood in the passes of the last `take`, else 1.
        maps: The passes as linear maps of the weights, where they are wanted.

    Raises:
        InvalidInputError: If the dimension of the classes is not a whole number.
    """

    def __init__(
        self, fisher: OutputFisher, weights: Sequence[Tensor], sharing: Sharing, keep: bool
    ) -> None:
        self._fisher = fisher
        self._dimension = ClassDimension(fisher.likelihood, fisher.class_dim)
        self._weights = weights
        self._versions: tuple[int, ...] = ()
        self._sharing, self._keep = sharing, keep
        self.rows, self.outputs, self.variance = 0, 0, 1.0
        self._passes: list[Pass] = []
        self.forget()

    @property
    def stale(self) -> bool:
        """Whether there are sums of passes through weights that have changed since."""
        some = self._moments or self.maps or self._passes
        return bool(some) and weight_versions(self._weights) != self._versions

    def forget(self) -> None:
        """Forget all that was collected since the last `take`."""
        for one in self._passes:
            one.release()
        self._moments: dict[Layer, Moments] = {}
        self._rows = 0
        self.maps: list[Linearised] = []
        self._passes = []
        self._squares, self._entries = 0.0, 0

    def take(self, gradient_scale: float) -> dict[Layer, Moments]:
        """The moments collected since the last call, which are then forgotten; the maps stay.

        Args:
            gradient_scale: The user's gradients are those of so many times the loss.
        """
        with torch.autocast(self._weights[0].device.type, enabled=False):
            self._add_empirical(gradient_scale)
        for moments in self._moments.values():
            moments.output_rows = self._rows
        if self._entries and self._rows:
            self.variance = self._residual_variance(gradient_scale)
        taken, maps, self.rows = self._moments, self.maps, self._rows
        self.forget()
        self.maps = maps
        return taken

    def add(self, current: Pass, outputs: Tensor, gradient: Tensor | None) -> None:
        """Collect from a pass whose graph is alive; later backward passes add to empirical ones.

        Args:
            current: The pass.
            outputs: The model's.
            gradient: Of the user's loss with respect to them; ``None``: all rows are used.
        """
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
                self.maps.append(linearise(outputs, used, current.linear, likelihood, dim))
            if self._fisher.kind == "empirical":
                self._passes.append(current)
            elif current.wanted:
                self._add_columns(current, outputs, z, dim)
                current.release()

    def _add_columns(self, current: Pass, outputs: Tensor, z: Tensor, dim: int) -> None:
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
        current: Pass,
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
        by_layer: dict[Layer, list[tuple[Call, Tensor]]] = {}
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

    def _residual_variance(self, gradient_scale: float) -> float:
        """Mean of (z − y)², from gradients of `MSELoss` or, with several outputs, of ½ Σ (z − y)².

        The latter is the smaller of the two, which a gradient alone does not tell apart.
        """
        rows = self._rows if self._fisher.reduction == "mean" else 1
        of_residual = max(1.0, 2 / self.outputs) * gradient_scale
        return (rows / of_residual) ** 2 * self._squares / self._entries
