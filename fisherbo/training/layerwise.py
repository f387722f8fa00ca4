"""What an optimizer of a model's layers keeps from step to step, and saves: groups and state.

Layers may be frozen, trained later, or left to AdamW after all; `fisherbo.training.layer_state`
tells which state each then has.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.training.blocks import Scheme, State, owned
from fisherbo.training.capture import Capture
from fisherbo.training.checkpoint import continue_generator
from fisherbo.training.coverage import Coverage, Layer
from fisherbo.training.fallback import Fallback
from fisherbo.training.groups import parameter_groups
from fisherbo.training.layer_state import (
    COMMON,
    check_saved,
    common_of,
    initial_state,
    is_adamws,
    is_allocated,
    left_state,
    trained_state,
    without_common,
)
from fisherbo.training.parameters import ModelParameters

_USED_OUTSIDE = (
    "the model also uses its weight without calling the module, and the sum of both uses is no "
    "Kronecker product"
)


class LayerwiseOptimizer(torch.optim.Optimizer):
    """The groups and the state of the covered layers of a model, and AdamW for all else.

    Args:
        model: The network.
        examined: Its covered layers, and the report.
        scheme: How the blocks are approximated.
        keeps_weights: Whether the state has a copy of the weights before the last step.
        settings: Of the first group; see `parameter_groups`.
        groups: Further groups.
        fallback_lr: Learning rate of AdamW.
        usual_lr: What stands for an ``lr`` of 0, at which a warm-up may begin.
        seed: Of the generator that draws labels.
    """

    _capture: Capture  # set by the subclass, which knows what is to be collected

    def __init__(
        self,
        model: nn.Module,
        examined: tuple[tuple[Layer, ...], Coverage],
        scheme: Scheme,
        *,
        keeps_weights: bool,
        settings: Mapping[str, Any],
        groups: Sequence[Mapping[str, Any]],
        fallback_lr: float,
        usual_lr: float,
        seed: int,
    ) -> None:
        self._examined = examined
        self._layers, self._coverage = self._examined
        self._first = next((x for x in self._layers if x.weight.requires_grad), self._layers[0])
        self._scheme, self._keeps_weights = scheme, keeps_weights
        self._model = model
        self._model_parameters = ModelParameters(model)
        self._weight_of = {layer: layer.weight for layer in self._layers}
        self._closed = False
        found, self._group_of = parameter_groups(self._layers, settings, groups)
        for group in found:
            group["reference_lr"] = group["lr"] or usual_lr
        lr, weight_decay = float(settings["lr"]), settings["weight_decay"]
        defaults = {"lr": lr, "momentum": settings["momentum"], "weight_decay": weight_decay}
        super().__init__(found, defaults)
        self._fallback = Fallback(
            model, self._parameters(), fallback_lr, weight_decay, lr, usual_lr
        )
        for group in self._fallback.groups:
            self.add_param_group(group)
        self._own_groups = len(found)
        self._closed = True
        self._initialise(seed)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue bit by bit after the last step that was taken before ``state_dict()``.

        torch casts floating state to the parameter's precision; the factors keep at least float32.

        Raises:
            InvalidInputError: If the state is of a KFAC with other options or another model.
        """
        self._fallback.check(state_dict["param_groups"][-1])
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        index_of = dict(zip(self._parameters(), saved, strict=False))
        of = state_dict["state"]
        found = {x: of.get(index_of.get(weight), {}) for x, weight in self._weight_of.items()}
        first = check_saved(found, self._scheme, self._keeps_weights)
        self._leave([layer for layer, state in found.items() if is_adamws(state)])
        fresh = {layer: without_common(self._state(layer)) for layer in found}
        super().load_state_dict(state_dict)
        for layer, state in found.items():  # torch may have cast what is not AdamW's
            weight = self._weight_of[layer]
            if is_adamws(state):
                self._state(layer).update(owned(common_of(state), weight))
            else:
                self.state[weight] = owned(state, weight) if state else fresh[layer]
        self._first = first
        continue_generator(self._generator, self._common["generator"])
        self._capture.forget()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the groups follow from the model."""
        if getattr(self, "_closed", False):
            raise InvalidInputError(
                "the parameter groups of KFAC follow from its model, got a further group; "
                "pass groups=[...] to a new KFAC"
            )
        super().add_param_group(param_group)

    @property
    def _settings(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _common(self) -> State:
        """State that belongs to no layer (counter, generator), kept with one that was trained."""
        return self._state(self._first)

    def _state(self, layer: Layer) -> State:
        return cast(State, self.state[self._weight_of[layer]])

    def _group(self, layer: Layer) -> dict[str, Any]:
        return self.param_groups[self._group_of[layer]]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _initialise(self, seed: int) -> None:
        """All state that the trained layers will ever have: checkpoints are of one form."""
        self._generator = torch.Generator(self._layers[0].weight.device).manual_seed(seed)
        for layer in self._layers:
            self.state.update(initial_state(layer, self._scheme, self._keeps_weights))
        self._common.update(
            steps=0, setbacks=0, damping_factor=1.0, outputs=1, last_update=0, variance=1.0
        )
        self._common["generator"] = self._generator.get_state()
        self.state.update(self._fallback.initial_state())

    def _prepare(self, layers: Collection[Layer]) -> None:
        """Give state to layers that were frozen before; keep the common one with a trained layer.

        Distributed checkpoints leave out what is frozen.
        """
        for layer in layers:
            state = self._state(layer)
            if not is_allocated(state):
                empty = trained_state(layer, self._scheme, self._keeps_weights)
                state.update({key: empty[key] for key in empty.keys() - state.keys()})
        if not self._first.weight.requires_grad:
            common = {key: self._common.pop(key) for key in COMMON}
            trained = (layer for layer in self._layers if layer.weight.requires_grad)
            self._first = next(trained, self._first)
            self._common.update(common)

    def _leave(self, left: Collection[Layer]) -> None:
        """Leave layers to AdamW after all, and no others; they keep their groups."""
        first, coverage = self._examined
        kept = tuple(layer for layer in first if layer not in left)
        if not kept:
            raise InvalidInputError(
                "the model uses the weights of all covered modules without calling them, so that "
                "nothing is left to K-FAC; use torch.optim.AdamW for it"
            )
        self._layers = kept
        for layer in first:
            state = self._state(layer)
            if (layer in left) != is_adamws(state):
                fresh = left_state(layer)
                if layer not in left:
                    fresh = initial_state(layer, self._scheme, self._keeps_weights)
                self.state.update(fresh)
                self._state(layer).update(common_of(state))
            if layer in left:
                coverage = coverage.without(layer, _USED_OUTSIDE)
        self._coverage = coverage
        self._fallback.take([p for x in first if x in left for p in x.parameters])
        self._capture.drop(left)

    def _leave_exposed(self, exposed: Sequence[Layer]) -> None:
        """Leave the layers to AdamW whose weights the last passes used besides their modules."""
        if exposed:
            names = ", ".join(repr(layer.name) for layer in exposed)
            warnings.warn(f"AdamW trains {names}: {_USED_OUTSIDE}", stacklevel=5)
            self._leave({*self._weight_of} - {*self._layers} | {*exposed})

    def _missing(self) -> list[Layer]:
        """The trained layers without factors, which the first pass through them brings."""
        trained = (layer for layer in self._layers if layer.weight.requires_grad)
        return [layer for layer in trained if not self._has_factors(layer)]

    def _has_factors(self, layer: Layer) -> bool:
        return bool(self._state(layer)["factor_updates"])
