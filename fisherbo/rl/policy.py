"""Actor and critic: networks; the actor's outputs are parameters of a distribution of actions.

Symbols: z outputs of the actor, (N, C): logits of a categorical, or means and log σ of a normal;
π(a|s) the policy, V(s) the critic. log σ does not depend on the state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal

Family = Literal["categorical", "normal"]


@dataclass(frozen=True)
class Spec:
    """What a policy sees and does.

    Attributes:
        observations: Length of an observation, flattened.
        actions: Number of actions, or dimensions of a continuous one.
        family: Of the distribution of actions.
        hidden: Widths of the hidden layers of actor and critic.
        low: Least continuous action, one number a dimension; empty for the categorical.
        high: Greatest continuous action.
        shape: Of a continuous action.
        start: Number of the first action of the categorical.
        origin: Continuous action that the policy's 0 stands for; empty: 0.
        scale: Continuous action beyond the origin that the policy's 1 stands for; empty: 1.
        dtype: Of a continuous action.
    """

    observations: int
    actions: int
    family: Family
    hidden: tuple[int, ...] = (64, 64)
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    start: int = 0
    origin: tuple[float, ...] = ()  # without origin and scale, as policies of earlier files are
    scale: tuple[float, ...] = ()
    dtype: str = "float32"


class Actor(nn.Module):
    """Observations to the parameters z of ``π(·|s)``.

    Args:
        spec: Its observations and actions.
        generator: Draws the weights.
        log_std: Initial log σ of the normal.
    """

    def __init__(self, spec: Spec, generator: torch.Generator, log_std: float = 0.0) -> None:
        super().__init__()
        widths = (spec.observations, *spec.hidden, spec.actions)
        self.family = spec.family
        self.body = tanh_network(widths, 0.01, generator)  # nearly the same action everywhere
        first = torch.full((spec.actions,), log_std) if spec.family == "normal" else None
        self.log_std = None if first is None else nn.Parameter(first)

    def forward(self, observations: Tensor) -> Tensor:
        """z, shape ``(N, A)`` of the categorical, ``(N, 2A)`` of the normal."""
        means: Tensor = self.body(observations)
        if self.log_std is None:
            return means
        return torch.cat([means, self.log_std.expand_as(means)], -1)

    def distribution(self, outputs: Tensor) -> Distribution:
        """π of the outputs z; the dimensions of a continuous action are independent."""
        if self.family == "categorical":
            return Categorical(logits=outputs, validate_args=False)
        means, log_std = outputs.chunk(2, -1)
        return Normal(means, log_std.exp(), validate_args=False)

    def log_probability(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """Log-probability, shape ``(N,)``, of actions ``(N,)`` (categorical) or ``(N, A)``."""
        log_probability = self.distribution(outputs).log_prob(actions)
        return log_probability if self.family == "categorical" else log_probability.sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Entropy of π in nats, shape ``(N,)``."""
        entropy = self.distribution(outputs).entropy()
        return entropy if self.family == "categorical" else entropy.sum(-1)


def critic_network(spec: Spec, generator: torch.Generator) -> nn.Sequential:
    """V: observations ``(N, d)`` to values ``(N, 1)``."""
    return tanh_network((spec.observations, *spec.hidden, 1), 1.0, generator)


def noise(actor: Actor, shape: Sequence[int], actions: int, generator: torch.Generator) -> Tensor:
    """What `drawn` needs to draw actions: Gumbel or normal noise, shape ``(*shape, actions)``."""
    if actor.family == "normal":
        return torch.randn(*shape, actions, generator=generator)
    uniform = torch.rand(*shape, actions, generator=generator)
    return -(-uniform.clamp_min(torch.finfo(uniform.dtype).tiny).log()).log()


def drawn(actor: Actor, outputs: Tensor, noise: Tensor) -> Tensor:
    """Actions of π with outputs z: argmax(z + Gumbel), or mean + σ·normal."""
    if actor.family == "categorical":
        return (outputs + noise).argmax(-1)
    means, log_std = outputs.chunk(2, -1)
    return means + log_std.exp() * noise


def mode(actor: Actor, outputs: Tensor) -> Tensor:
    """The most probable actions."""
    if actor.family == "categorical":
        return outputs.argmax(-1)
    return outputs.chunk(2, -1)[0]


def tanh_network(
    widths: Sequence[int], last_gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers with tanh between them, orthogonal weights (gain √2, last one as given)."""
    modules: list[nn.Module] = []
    for index, (inp, out) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, inp, out)
        nn.init.orthogonal_(layer.weight, last_gain if last else math.sqrt(2), generator)
        nn.init.zeros_(layer.bias)
        modules += [layer] if last else [layer, nn.Tanh()]
    return nn.Sequential(*modules)
