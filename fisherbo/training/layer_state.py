"""Which state a layer has: all tensors while it is trained, none before.

A layer that was never trained has the numbers of `fisherbo.training.blocks.empty_state` alone, one
that is left to AdamW after all has AdamW's. One layer keeps the state that belongs to none beside
its own: counters and the generator.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.training.blocks import Scheme, State, empty_state
from fisherbo.training.coverage import Layer
from fisherbo.training.fallback import initial_moments
from fisherbo.training.guards import check_form
from fisherbo.training.update import weights_of

COMMON = ("steps", "setbacks", "damping_factor", "outputs", "variance", "last_update", "generator")


def initial_state(layer: Layer, scheme: Scheme, previous: bool) -> dict[Tensor, State]:
    """The state of the parameters of a layer that K-FAC trains, or will once it is not frozen."""
    trained = layer.weight.requires_grad
    own = trained_state(layer, scheme, previous) if trained else frozen_state(layer, scheme)
    biases = layer.parameters[1:]  # distributed checkpoints want state of each parameter
    return {layer.weight: own} | {bias: {"with_weight": True} for bias in biases}


def left_state(layer: Layer) -> dict[Tensor, State]:
    """The state of the parameters of a layer that is left to AdamW after all."""
    return initial_moments(layer.parameters)


def trained_state(layer: Layer, scheme: Scheme, previous: bool) -> State:
    """The state of a layer that is trained, before its first step.

    Args:
        layer: The layer.
        scheme: How its block is approximated.
        previous: Whether a copy of its weights is kept.
    """
    state = empty_state(layer, scheme)
    return {**state, "previous": weights_of(layer)} if previous else state


def frozen_state(layer: Layer, scheme: Scheme) -> State:
    """The state of a layer that was never trained."""
    state = empty_state(layer, scheme)
    return {key: value for key, value in state.items() if not isinstance(value, Tensor)}


def is_allocated(state: Mapping[str, object]) -> bool:
    """Whether a state is that of a layer that was trained."""
    return "momentum_buffer" in state or "first_moment" in state


def is_adamws(state: Mapping[str, object]) -> bool:
    """Whether a state is that of a layer that is left to AdamW."""
    return "exp_avg" in state


def common_of(state: Mapping[str, object]) -> State:
    """What a layer keeps that belongs to none."""
    return {key: value for key, value in state.items() if key in COMMON}


def without_common(state: Mapping[str, object]) -> State:
    """A layer's own state."""
    return {key: value for key, value in state.items() if key not in COMMON}


def check_saved(
    saved: Mapping[Layer, Mapping[str, object]], scheme: Scheme, previous: bool
) -> Layer:
    """Refuse saved states that are of another model or another kind of optimizer.

    Layers may have been frozen then and be trained now, or the other way round.

    Returns:
        The layer with the common state.

    Raises:
        InvalidInputError: If a state has another form, or none has the common state.
    """
    for layer, state in saved.items():
        if not state and not layer.weight.requires_grad:
            continue  # some checkpoints leave frozen layers out
        if is_adamws(state):
            form = left_state(layer)[layer.weight]
        elif state and not is_allocated(state):
            form = frozen_state(layer, scheme)
        else:
            form = trained_state(layer, scheme, previous)
        check_form(layer.name, form, without_common(state))
    holders = (x for x, state in saved.items() if all(key in state for key in COMMON))
    first = next(holders, None)
    if first is None:
        raise InvalidInputError(
            f"the state of one layer must have {', '.join(COMMON)}, got none that has them all; "
            "save it after a step, with the same layers frozen as in that step"
        )
    return first
