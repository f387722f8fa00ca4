"""Actor, critic and their optimizers: one update of each algorithm from one rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fisherbo.rl.batch import Batch, PolicyStep, standardised
from fisherbo.rl.critic import fit_critic
from fisherbo.rl.curvature import KroneckerCurvature
from fisherbo.rl.gae import advantages
from fisherbo.rl.policy import Actor, Spec, critic_network
from fisherbo.rl.ppo import policy_gradient_update, ppo_update
from fisherbo.rl.rollout import Rollout
from fisherbo.rl.settings import Settings
from fisherbo.rl.trpo import trpo_update
from fisherbo.training.kfac import KFAC


@dataclass(frozen=True)
class Update:
    """One update of a run.

    Attributes:
        step: Steps of the environments before it.
        policy: What the update did to the policy.
        explained_variance: Share of the variance of the critic's targets that V explained before
            the update.
    """

    step: int
    policy: PolicyStep
    explained_variance: float


class Learner:
    """The networks of a run and what updates them.

    Args:
        algorithm: ``"trpo"``, ``"ppo"``, ``"acktr"`` or ``"vanilla"``.
        spec: What the policy sees and does.
        settings: Of the run.
        generator: Draws the weights, and the order of minibatches.
        seed: Of K-FAC's labels.
    """

    def __init__(
        self,
        algorithm: str,
        spec: Spec,
        settings: Settings,
        generator: torch.Generator,
        seed: int,
    ) -> None:
        self._algorithm = algorithm
        self._settings = settings
        self._generator = generator
        self.actor = Actor(spec, generator, settings.log_std)
        self.critic = critic_network(spec, generator)
        self._parts: dict[str, Any] = {"actor": self.actor, "critic": self.critic}
        if algorithm in ("ppo", "vanilla"):
            own = [*self.actor.parameters(), *(self.critic.parameters() if self._joint else ())]
            self._parts["optimizer"] = torch.optim.Adam(own, settings.lr, eps=1e-5, fused=True)
        elif settings.direction != "cg":
            self._parts["curvature"] = KroneckerCurvature(self.actor, decay=settings.factor_decay)
        if not self._joint:
            self._parts["value_optimizer"] = _value_optimizer(self.critic, settings, seed)

    @property
    def _joint(self) -> bool:
        """Whether one optimizer has actor and critic."""
        return self._algorithm == "ppo"

    def update(self, rollout: Rollout, step: int, remaining: float) -> Update:
        """Update actor and critic.

        Args:
            rollout: Steps of the present policy.
            step: Steps of the run so far.
            remaining: Share of the run that remains, for annealing.

        Raises:
            DivergedError: If an output or a loss is not finite.
        """
        batch, explained = self._batch(rollout)
        share = remaining if self._settings.anneal else 1.0
        policy = self._improve(batch, share)
        if not self._joint:
            fit_critic(
                self.critic,
                self._parts["value_optimizer"],
                batch,
                epochs=self._settings.value_epochs,
                batch_size=self._settings.value_batch,
                generator=self._generator,
            )
        return Update(step, policy, explained)

    def _improve(self, batch: Batch, share: float) -> PolicyStep:
        s = self._settings
        if "optimizer" in self._parts:
            for group in self._parts["optimizer"].param_groups:
                group["lr"] = s.lr * share
        if self._algorithm == "ppo":
            return ppo_update(
                self.actor,
                self.critic,
                self._parts["optimizer"],
                batch,
                clip=s.clip * share,
                epochs=s.epochs,
                batch_size=s.batch_size,
                target_kl=s.target_kl,
                entropy=s.entropy,
                max_grad_norm=s.max_grad_norm,
                generator=self._generator,
            )
        if self._algorithm == "vanilla":
            return policy_gradient_update(
                self.actor, self._parts["optimizer"], batch, max_grad_norm=s.max_grad_norm
            )
        return trpo_update(
            self.actor,
            batch,
            max_kl=s.max_kl,
            damping=s.damping,
            direction=s.direction,
            curvature=self._parts.get("curvature"),
            cg_iterations=s.cg_iterations,
            backtrack=s.backtrack,
            max_backtracks=s.max_backtracks,
        )

    @torch.no_grad()
    def _batch(self, rollout: Rollout) -> tuple[Batch, float]:
        """The rollout with its advantages, and how much of the targets V explained."""
        values = self.critic(rollout.observations).squeeze(-1)
        found = advantages(
            rollout.rewards,
            values,
            self.critic(rollout.next_observations).squeeze(-1),
            rollout.terminated,
            rollout.truncated,
            gamma=self._settings.gamma,
            gae_lambda=self._settings.gae_lambda,
        )
        targets = found + values
        batch = Batch(
            rollout.observations.flatten(0, 1),
            rollout.actions.flatten(0, 1),
            standardised(found).flatten(),
            targets.flatten(),
        )
        spread = targets.var(correction=0)
        explained = 1 - found.var(correction=0) / spread if spread > 0 else torch.zeros(())
        return batch, explained.item()

    def state(self) -> dict[str, Any]:
        """Weights, optimizers and factors, for a checkpoint."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`, bit for bit."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def _value_optimizer(critic: nn.Module, settings: Settings, seed: int) -> torch.optim.Optimizer:
    if settings.value_optimizer == "adam":
        return torch.optim.Adam(critic.parameters(), settings.value_lr, fused=True)
    return KFAC(
        critic,
        likelihood="normal",
        lr=settings.value_lr,
        damping=settings.damping,
        momentum=0.0,
        factor_decay=settings.factor_decay,
        kl_clip=settings.max_kl,
        fisher="type2",  # one output: the exact Gauss–Newton matrix for one backward pass
        distributed=False,
        seed=seed,
    )
