"""Charts: which numbers are the coordinates of a distribution, and the way back.

Symbols:
    θ        coordinates, shape (*b, k), of a batch of distributions of batch shape (*b,)
    s        score ∇_θ log p(x; θ)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints

from fisherbo.errors import InvalidInputError

_DEPENDENT = (
    constraints.simplex,
    constraints.positive_definite,
    constraints.positive_semidefinite,
    constraints.lower_cholesky,
    constraints.corr_cholesky,
)
_ALTERNATIVES = (("probs", "logits"), ("scale_tril", "covariance_matrix", "precision_matrix"))


@dataclass(frozen=True)
class Chart:
    """Coordinates of a family of distributions.

    Attributes:
        names: The parameters that the coordinates are made of.
        values: A distribution to its coordinates, shape ``(*b, k)``.
        build: A member of the family and coordinates ``(*b, k)`` to the distribution there; what
            is no coordinate (a number of trials) is the member's.
        fisher: A distribution to its Fisher information ``(*b, k, k)``, where known.
    """

    names: tuple[str, ...]
    values: Callable[[Any], Tensor]
    build: Callable[[Any, Tensor], Distribution]
    fisher: Callable[[Any], Tensor] | None = None


def independent_chart(base: Chart) -> Chart:
    """Chart of `torch.distributions.Independent` over a base family with the chart ``base``.

    The coordinates of the components follow each other; the Fisher information is block diagonal.
    """

    def values(member: Independent[Any]) -> Tensor:
        return base.values(member.base_dist).flatten(-1 - member.reinterpreted_batch_ndims)

    def build(member: Independent[Any], theta: Tensor) -> Distribution:
        sizes = _component_shape(member)
        blocks = theta.unflatten(-1, (*sizes, theta.shape[-1] // math.prod(sizes)))
        return Independent(base.build(member.base_dist, blocks), len(sizes))

    def fisher(member: Independent[Any]) -> Tensor:
        assert base.fisher is not None
        blocks, sizes = base.fisher(member.base_dist), _component_shape(member)
        return _block_diagonal(blocks.flatten(-2 - len(sizes), -3)) if sizes else blocks

    return Chart(base.names, values, build, fisher if base.fisher else None)


def _component_shape(member: Independent[Any]) -> tuple[int, ...]:
    shape = member.base_dist.batch_shape
    return tuple(shape[len(shape) - member.reinterpreted_batch_ndims :])


def _block_diagonal(blocks: Tensor) -> Tensor:
    """Matrices ``(*b, c·k, c·k)`` from blocks ``(*b, c, k, k)``."""
    identity = torch.eye(blocks.shape[-3], dtype=blocks.dtype, device=blocks.device)
    full = torch.einsum("...cij,cd->...cidj", blocks, identity)
    return full.flatten(-4, -3).flatten(-2, -1)


def constructor_chart(member: Distribution, names: tuple[str, ...] | None) -> Chart:
    """Chart whose coordinates are arguments of the distribution's own constructor.

    Args:
        member: A distribution of any family.
        names: The arguments. Default: all that are real numbers without a tie between them.

    Raises:
        InvalidInputError: If there are none, or an argument's entries are tied to each other.
    """
    names = _free_arguments(member) if names is None else names
    _check_free(member, names)

    def values(like: Distribution) -> Tensor:
        return torch.cat([_flat(like, name, getattr(like, name)) for name in names], -1)

    def build(like: Distribution, theta: Tensor) -> Distribution:
        sizes = [math.prod(_event(like, name)) for name in names]
        pieces = theta.split(sizes, -1)
        chosen = {
            name: piece.reshape(*piece.shape[:-1], *_event(like, name))
            for name, piece in zip(names, pieces, strict=True)
        }
        return type(like)(**chosen, **_fixed_arguments(like, names), validate_args=False)

    return Chart(names, values, build)


def _flat(member: Distribution, name: str, value: Tensor) -> Tensor:
    """One argument's entries in a row for each member of the batch, shape ``(*b, entries)``."""
    event = _event(member, name)
    return value.expand(member.batch_shape + event).reshape(*member.batch_shape, math.prod(event))


def _event(member: Distribution, name: str) -> torch.Size:
    """Shape of one argument for one member of the batch."""
    value = getattr(member, name)
    rank = member.arg_constraints[name].event_dim
    return value.shape[value.ndim - rank :]


def _arguments(member: Distribution) -> list[str]:
    names = inspect.signature(type(member).__init__).parameters
    return [name for name in names if name not in ("self", "validate_args")]


def _is_free(member: Distribution, name: str) -> bool:
    constraint = member.arg_constraints[name]
    return constraint not in _DEPENDENT and not constraint.is_discrete


def _free_arguments(member: Distribution) -> tuple[str, ...]:
    """Real constructor arguments; ``probs`` where free, else ``logits``."""
    names = [n for n in _arguments(member) if n in member.arg_constraints]
    if "probs" in names and "logits" in names:
        names.remove("logits" if _is_free(member, "probs") else "probs")
    return tuple(n for n in names if not member.arg_constraints[n].is_discrete)


def _check_free(member: Distribution, names: Iterable[str]) -> None:
    family = type(member).__name__
    known = [n for n in _arguments(member) if n in member.arg_constraints and _is_free(member, n)]
    bad = [name for name in names if name not in known]
    if bad or not tuple(names):
        raise InvalidInputError(
            f"{bad or 'the parameters'} of {family} cannot be coordinates; those that can: "
            f"{known or 'none'}. For others use score_covariance with a chart of your own"
        )


def _fixed_arguments(member: Distribution, names: tuple[str, ...]) -> dict[str, Any]:
    """Constructor arguments that are no coordinates, one of each set of alternatives."""
    skipped = set(names)
    for group in _ALTERNATIVES:
        present = [n for n in group if n in names] or [n for n in group if n in _arguments(member)]
        skipped |= set(group) - set(present[:1])
    return {n: getattr(member, n) for n in _arguments(member) if n not in skipped}


def score_covariance(
    build: Callable[[Tensor], Distribution],
    coordinates: Tensor,
    *,
    samples: int = 20_000,
    seed: int = 0,
) -> Tensor:
    """Monte-Carlo Fisher information ``mean s sᵀ`` in any chart, shape ``(*b, k, k)``.

    Positive semi-definite by construction, with a relative error near √(2/samples) or more. Global
    random states are left as they were, and no gradient flows through.

    Args:
        build: Coordinates ``(*c, k)`` to a distribution of batch shape ``(*c,)``, for any ``*c``.
        coordinates: θ, shape ``(*b, k)``.
        samples: Draws for each member of the batch.
        seed: Seed of the draws; the same seed gives the same estimate.

    Raises:
        InvalidInputError: If ``samples`` < 1, or ``build`` does not keep the batch shape.
    """
    if samples < 1:
        raise InvalidInputError(f"samples must be >= 1, got {samples!r}; 20000 give 2 to 3 %")
    theta = coordinates.detach().expand(samples, *coordinates.shape).clone().requires_grad_()
    with torch.enable_grad():
        distribution = build(theta)
        if distribution.batch_shape != theta.shape[:-1]:
            raise InvalidInputError(
                f"build must give batch shape {tuple(theta.shape[:-1])} for coordinates of shape "
                f"{tuple(theta.shape)}, got {tuple(distribution.batch_shape)}"
            )
        drawn = _draw(distribution, theta.device, seed)
        (score,) = torch.autograd.grad(distribution.log_prob(drawn).sum(), theta)
    return torch.einsum("s...i,s...j->...ij", score, score) / samples


def _draw(distribution: Distribution, device: torch.device, seed: int) -> Tensor:
    """One sample of each member, from a seeded copy of the device's generator."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        return distribution.sample()
