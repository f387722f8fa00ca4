"""Trust region policy optimisation: a natural-gradient step of bounded KL divergence, never worse.

Symbols: θ weights of the actor, L surrogate, g = ∇L, F Fisher of the policy at θ, λ damping,
H = F + λ I, x the direction, δ the radius in nats:

    x ≈ H⁻¹ g,    θ ← θ + 0.8^j √(2δ / xᵀHx) x,    j least with KL <= δ and L > L_old

(Schulman et al. 2015, appendix C).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.geometry.metric import MatrixFreeMetric, fisher_vector_product
from fisherbo.geometry.trust_region import kl_step_length
from fisherbo.rl.batch import Batch, PolicyStep, compare, finite_outputs, surrogate
from fisherbo.rl.curvature import KroneckerCurvature
from fisherbo.rl.policy import Actor
from fisherbo.training.settings import check_choice

Direction = Literal["cg", "kfac", "kfac-preconditioned-cg"]


def trpo_update(
    actor: Actor,
    batch: Batch,
    *,
    max_kl: float = 0.01,
    damping: float = 0.1,
    direction: Direction = "cg",
    curvature: KroneckerCurvature | None = None,
    cg_iterations: int = 15,
    cg_tolerance: float = 1e-6,
    backtrack: float = 0.8,
    max_backtracks: int = 10,
) -> PolicyStep:
    """Move the actor by a step that raises the surrogate within the trust region, or not at all.

    An update that no step satisfies leaves the weights bit for bit as they were.

    Args:
        actor: The policy that took the batch's actions; changed in place.
        batch: Its steps.
        max_kl: δ.
        damping: λ.
        direction: ``"cg"``: conjugate gradients with exact Fisher-vector products; ``"kfac"``: the
            Kronecker-factored inverse (Wu et al. 2017); ``"kfac-preconditioned-cg"``: conjugate
            gradients in which that inverse is the preconditioner.
        curvature: The actor's factors, averaged over updates; takes in this batch. Default: those
            of this batch alone. Not used with ``"cg"``.
        cg_iterations: Largest number of products of conjugate gradients.
        cg_tolerance: Relative residual at which they stop.
        backtrack: Ratio of a step tried to the one before.
        max_backtracks: Further steps tried after the first.

    Raises:
        InvalidInputError: If a setting breaks its rule.
        DivergedError: If an output or the gradient is not finite; nothing is changed.
    """
    _check(max_kl, damping, direction, cg_iterations, backtrack, max_backtracks)
    parameters = list(actor.parameters())
    before, entropy, gradient = _gradient(actor, batch)
    fisher = fisher_vector_product(
        actor, batch.observations, actor.distribution, parameters=parameters
    )
    metric = MatrixFreeMetric(fisher, damping, cg_tolerance, cg_iterations)
    if direction == "cg":
        step = metric.natural(gradient)
    else:
        curvature = curvature or KroneckerCurvature(actor)
        curvature.update(batch.observations)
        kronecker = partial(curvature.natural, damping=damping)
        preconditioned = replace(metric, preconditioner=kronecker)
        step = kronecker(gradient) if direction == "kfac" else preconditioned.natural(gradient)
    quadratic = metric.squared_length(step)
    length = kl_step_length(quadratic, max_kl).item()
    if not math.isfinite(length):  # no direction changes the policy: the gradient is 0
        return PolicyStep(False, 0.0, 0.0, entropy, 0)
    return _search(actor, batch, before, step * length, entropy, max_kl, backtrack, max_backtracks)


def _gradient(actor: Actor, batch: Batch) -> tuple[Tensor, float, Tensor]:
    """Outputs z, mean entropy and gradient of L at the policy that took the actions."""
    with torch.enable_grad():
        outputs = finite_outputs(actor, batch.observations)
        log_probability = actor.log_probability(outputs, batch.actions)
        objective = surrogate(log_probability - log_probability.detach(), batch.advantages)
        parts = torch.autograd.grad(objective, list(actor.parameters()))
    gradient = torch.cat([part.flatten() for part in parts])
    if not gradient.isfinite().all():
        raise DivergedError(
            "the gradient of the surrogate is not finite; no parameter was changed; look for NaN "
            "in the advantages"
        )
    before = outputs.detach()
    return before, actor.entropy(before).mean().item(), gradient


def _search(
    actor: Actor,
    batch: Batch,
    before: Tensor,
    step: Tensor,
    entropy: float,
    max_kl: float,
    backtrack: float,
    max_backtracks: int,
) -> PolicyStep:
    """The longest step that satisfies both conditions; else the weights as they were."""
    parameters = list(actor.parameters())
    start = parameters_to_vector(parameters).detach().clone()
    for trial in range(max_backtracks + 1):
        _set(parameters, start + backtrack**trial * step)
        try:
            gain, divergence = compare(actor, batch, before)
        except DivergedError:
            continue
        if gain > 0 and divergence <= max_kl:
            return PolicyStep(True, divergence, gain, entropy, trial + 1)
    _set(parameters, start)
    return PolicyStep(False, 0.0, 0.0, entropy, max_backtracks + 1)


@torch.no_grad()
def _set(parameters: Sequence[Tensor], values: Tensor) -> None:
    pieces = values.split([p.numel() for p in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.copy_(piece.view_as(parameter))


def _check(
    max_kl: float,
    damping: float,
    direction: str,
    cg_iterations: int,
    backtrack: float,
    max_backtracks: int,
) -> None:
    check_choice("direction", direction, get_args(Direction))
    rules = {
        "max_kl": (max_kl, 0 < max_kl < math.inf, "> 0", "0.01 is usual"),
        "damping": (damping, 0 < damping < math.inf, "> 0", "1e-3 to 0.1 is usual"),
        "cg_iterations": (cg_iterations, cg_iterations >= 1, ">= 1", "10 to 15 is usual"),
        "backtrack": (backtrack, 0 < backtrack < 1, "in (0, 1)", "0.8 is usual"),
        "max_backtracks": (max_backtracks, max_backtracks >= 0, ">= 0", "10 is usual"),
    }
    for name, (value, holds, rule, remedy) in rules.items():
        if not holds:
            raise InvalidInputError(f"{name} must be {rule}, got {value!r}; {remedy}")
