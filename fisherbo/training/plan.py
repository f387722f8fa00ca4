"""What one step will do: updates and their lengths, before any weight moves.

Symbols: v natural gradient, μ momentum, ν KL clip, δ = −Σ c_i v_i the step, M its quadratic model,
ρ reduction ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.trust_region import kl_share
from fisherbo.training.blocks import Scheme
from fisherbo.training.quadratic import Linearised, change, minimiser
from fisherbo.training.second_moments import allowed_share, directions, length, noise_shares
from fisherbo.training.update import (
    Block,
    along,
    clip_scale,
    natural_gradients,
    slope,
    with_momentum,
)


@dataclass(frozen=True)
class StepReport:
    """What the last step did.

    Attributes:
        damping: λ of the first group, as the step used it.
        lr: Learning rate of the first group, or that of the quadratic model.
        momentum: Likewise.
        slope: ``v·g``, natural gradient times gradient.
        kl: KL divergence of the step in nats: ½ lr² ν² v·g, or exact to second order (½ δᵀFδ)
            where the quadratic model chose it.
        clip: ν, what the KL clip left of the step.
        ratio: ρ; ``None`` if this step measured none.
        rejected: Whether the step was taken back.
    """

    damping: float
    lr: float
    momentum: float
    slope: float
    kl: float
    clip: float = 1.0
    ratio: float | None = None
    rejected: bool = False


@dataclass(frozen=True)
class Plan:
    """A step that is about to be taken.

    Attributes:
        updates: One matrix a block; θ ← θ − rate·update.
        rates: One a block.
        report: Its lengths.
        predicted: M(δ) − M(0); NaN where no forward pass was linearised.
    """

    updates: Sequence[Tensor]
    rates: Sequence[float]
    report: StepReport
    predicted: float


def fixed_plan(
    blocks: Sequence[Block],
    scheme: Scheme,
    clip: float | None,
    maps: Sequence[Linearised],
    processes: int,
) -> Plan:
    """The step by the learning rates and momenta of the groups; takes the momentum further."""
    directions = natural_gradients(blocks, scheme)
    total = slope(blocks, directions)
    scale = clip_scale(clip, blocks, total)
    updates = [with_momentum(b, v, scale) for b, v in zip(blocks, directions, strict=True)]
    rates = [float(block.group["lr"]) for block in blocks]
    predicted = math.nan
    if maps and blocks:
        scaled = [lr * u for lr, u in zip(rates, updates, strict=True)]
        model = along(blocks, [scaled], maps, processes)
        predicted = change(model.curvature, model.slopes, torch.ones_like(model.slopes))
    group, kept = blocks[0].group if blocks else {}, float(total)
    lr, momentum = float(group.get("lr", 0.0)), float(group.get("momentum", 0.0))
    kl = 0.5 * (lr * scale) * (lr * scale) * kept  # inf where ** would raise
    report = StepReport(float(group.get("damping", 0.0)), lr, momentum, kept, kl, scale)
    return Plan(updates, rates, report, predicted)


def moment_plan(blocks: Sequence[Block], decay: float, limit: float | None) -> Plan:
    """The step along the gradient's moments in the eigenbasis; takes the moments further.

    Args:
        blocks: The layers that move.
        decay: Weight of the old second moments.
        limit: Twice the KL divergence in nats of a step along one batch's gradient, at the learning
            rates that the groups were built with. Lower ones shorten the step in proportion, as a
            schedule means it; higher ones do not lengthen it beyond the limit.
    """
    if not blocks:
        return Plan([], [], StepReport(0.0, 0.0, 0.0, 0.0, 0.0), math.nan)
    found = directions(blocks, decay)
    noise = noise_shares(blocks, found.coherence)
    now = [alpha * float(b.group["lr"]) for alpha, b in zip(noise, blocks, strict=True)]
    built = [
        max(rate, alpha * float(b.group["reference_lr"]))
        for rate, alpha, b in zip(now, noise, blocks, strict=True)
    ]
    share = allowed_share(found, built, limit)
    rates = [share * rate for rate in now]
    group = blocks[0].group
    report = StepReport(
        damping=0.0,
        lr=share * float(group["lr"]),
        momentum=float(group["momentum"]),
        slope=float(found.slopes.sum()),
        kl=0.5 * length(found, rates),
        clip=share,
    )
    return Plan(found.updates, rates, report, math.nan)


def model_plan(
    blocks: Sequence[Block],
    scheme: Scheme,
    clip: float | None,
    maps: Sequence[Linearised],
    processes: int,
) -> Plan:
    """The step α v + μ (last update) that minimises the exact quadratic model (M&G 2015, § 7)."""
    directions = natural_gradients(blocks, scheme)
    last = [block.state["momentum_buffer"] for block in blocks]
    model = along(blocks, [directions, last], maps, processes)
    rounding = 16 * torch.finfo(directions[0].dtype).eps
    best = minimiser(model.curvature, model.slopes, rounding)
    length = float(best @ model.fisher @ best)
    scale = 1.0 if clip is None else kl_share(length, clip)
    best = scale * best
    rate, momentum = best.tolist()
    updates = [
        old.mul_(momentum).add_(v, alpha=rate) for old, v in zip(last, directions, strict=True)
    ]
    report = StepReport(
        damping=float(blocks[0].group["damping"]),
        lr=rate,
        momentum=momentum,
        slope=float(model.slopes[0]),
        kl=0.5 * scale**2 * length,
        clip=scale,
    )
    predicted = change(model.curvature, model.slopes, best)
    return Plan(updates, [1.0] * len(blocks), report, predicted)


def require_maps(maps: Sequence[Linearised]) -> None:
    """Refuse to evaluate the quadratic model without a forward pass.

    Raises:
        InvalidInputError: If there is none.
    """
    if not maps:
        raise InvalidInputError(
            "the quadratic model needs the forward pass of this step, got none; call the model "
            "between two steps, and loss.backward()"
        )
