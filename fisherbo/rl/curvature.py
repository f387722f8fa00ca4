"""Kronecker-factored curvature of a policy: the natural gradient of an actor without products.

The Linear modules have the blocks of `fisherbo.training.KFAC`, the factors averaged over updates;
log σ of a normal has its exact block, 2 I (per row the Fisher of log σ is 2), for means and log σ
are orthogonal in the Fisher metric. Wu et al. (2017), ACKTR.

Symbols: F̂ the approximate Fisher, λ damping, σ standard deviation; the means' Fisher is 1/σ², so
that of means / σ it is 1, which the factors are of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.rl.policy import Actor
from fisherbo.training.blocks import Scheme, average, empty_state, factorise, natural, owned
from fisherbo.training.capture import Capture
from fisherbo.training.coverage import examine
from fisherbo.training.output_fisher import OutputFisher
from fisherbo.training.settings import check_settings

_SCHEME = Scheme()
_LOG_STD_FISHER = 2.0


class _UnitVariance(nn.Module):
    """The actor's network with outputs divided by σ: a normal of unit variance, or logits."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, observations: Tensor, scale: Tensor | None) -> Tensor:
        outputs: Tensor = self.body(observations)
        return outputs if scale is None else outputs / scale


class KroneckerCurvature:
    """Moving averages of an actor's Kronecker factors, one update of them for each batch.

    Args:
        actor: The policy's network.
        decay: Largest weight of the old factors in their moving average.

    Raises:
        InvalidInputError: If the decay is not in [0, 1).
    """

    def __init__(self, actor: Actor, *, decay: float = 0.95) -> None:
        check_settings({"factor_decay": decay})
        self._actor = actor
        self._decay = decay
        self._model = _UnitVariance(actor.body)
        self._layers = examine(self._model)[0]
        self._states = {layer.name: empty_state(layer, _SCHEME) for layer in self._layers}

    def update(self, observations: Tensor) -> None:
        """Take the factors of these observations into the averages.

        The Fisher of the outputs is exact: one backward pass for each action or dimension.
        """
        fisher = OutputFisher(self._actor.family, "type2", 1, torch.Generator())
        capture = Capture(self._model, self._layers, fisher, lambda: True, when="forward")
        log_std = self._actor.log_std
        try:
            with torch.enable_grad():
                self._model(observations, None if log_std is None else log_std.detach().exp())
            for layer, moments in capture.take().items():
                average(self._states[layer.name], moments, self._decay)
        finally:
            capture.remove()

    def natural(self, gradient: Tensor, damping: float) -> Tensor:
        """``(F̂ + λ I)⁻¹ gradient``, λ shared out to the factors, shape ``(n,)`` like the gradient.

        Args:
            gradient: Of the actor's parameters in order, flattened.
            damping: λ > 0.

        Raises:
            InvalidInputError: If no batch was seen, or λ is not positive.
            NumericalError: If a factor cannot be inverted.
        """
        check_settings({"damping": damping})
        parts = dict(_parts(self._actor, gradient))
        found: dict[Tensor, Tensor] = {}
        for layer in self._layers:
            state = self._states[layer.name]
            if state["factor_updates"] == 0:
                raise InvalidInputError(
                    "a natural gradient needs Kronecker factors, got none; call update first"
                )
            if (state["inverse_update"], state["inverse_damping"]) != (
                state["factor_updates"],
                damping,
            ):
                factorise(layer, _SCHEME, state, damping)
            matrix = layer.matrix([parts[p] for p in layer.parameters])
            solved = layer.split(natural(layer, _SCHEME, state, matrix, damping))
            found.update(zip(layer.parameters, solved, strict=True))
        if self._actor.log_std is not None:
            log_std = self._actor.log_std
            found[log_std] = parts[log_std] / (_LOG_STD_FISHER + damping)
        return torch.cat([found[p].flatten() for p in self._actor.parameters()])

    def state_dict(self) -> dict[str, Any]:
        """The averages, for a checkpoint."""
        return {name: dict(state) for name, state in self._states.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, bit for bit."""
        for layer in self._layers:
            self._states[layer.name] = owned(state[layer.name], layer.weight)


def _parts(actor: Actor, vector: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each parameter with its piece of a flat vector."""
    parameters = list(actor.parameters())
    pieces = vector.split([p.numel() for p in parameters])
    return [(p, piece.reshape(p.shape)) for p, piece in zip(parameters, pieces, strict=True)]
