"""Steps of a policy in several environments at once.

Symbols: T steps of n environments; d length of an observation, A dimensions of an action.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.rl.actions import environment_actions
from fisherbo.rl.environments import EnvironmentLike, SeededEpisodes, spec_of, vectorised
from fisherbo.rl.normalisation import Moments
from fisherbo.rl.policy import Actor, Spec, drawn, noise


@dataclass(frozen=True)
class Episode:
    """A finished episode.

    Attributes:
        step: Steps of all environments when it ended.
        value: Its return: the sum of its rewards, not discounted.
        length: Its steps.
    """

    step: int
    value: float
    length: int


@dataclass(frozen=True, eq=False)
class Rollout:
    """Steps taken with one policy, time first.

    Attributes:
        observations: As the networks saw them, shape ``(T, n, d)``.
        actions: Shape ``(T, n)`` (numbers from 0) or ``(T, n, A)``.
        rewards: Scaled, if rewards are normalised, shape ``(T, n)``.
        terminated: Whether the environment ended the episode with the step, shape ``(T, n)``.
        truncated: Whether a limit cut it off and it did not end, shape ``(T, n)``.
        next_observations: After each step and before a reset, shape ``(T, n, d)``.
        episodes: Those that ended, in order.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    next_observations: Tensor
    episodes: tuple[Episode, ...]


@dataclass
class _Buffer:
    seen: list[Tensor] = field(default_factory=list)
    actions: list[Tensor] = field(default_factory=list)
    rewards: list[NDArray[Any]] = field(default_factory=list)
    terminated: list[NDArray[Any]] = field(default_factory=list)
    truncated: list[NDArray[Any]] = field(default_factory=list)
    following: list[Tensor] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)


class Collector:
    """Environments in the middle of their episodes, and the running moments.

    Args:
        environment: A Gymnasium id, or a function that makes an environment.
        count: n.
        seed: Of the episodes.
        hidden: Widths of the policy's hidden layers.
        gamma: Discount of the returns by which rewards are scaled.
        normalise_observations: Whether observations are standardised; ``None``: where actions are
            continuous.
        normalise_rewards: Whether rewards are divided by the deviation of the discounted return;
            ``None``: where actions are continuous.
    """

    def __init__(
        self,
        environment: EnvironmentLike,
        *,
        count: int,
        seed: int,
        hidden: tuple[int, ...],
        gamma: float,
        normalise_observations: bool | None = None,
        normalise_rewards: bool | None = None,
    ) -> None:
        self._envs = vectorised(environment, count, seed)
        self.spec: Spec = spec_of(self._envs.envs[0], hidden)
        self._gamma = gamma
        continuous = self.spec.family == "normal"
        standardise = continuous if normalise_observations is None else normalise_observations
        scale = continuous if normalise_rewards is None else normalise_rewards
        self.observed = Moments.of_width(self.spec.observations) if standardise else None
        self._rewarded = Moments.of_width(1) if scale else None
        self._discounted = np.zeros(count)
        self._value, self._length = np.zeros(count), np.zeros(count, int)
        self.steps = 0
        self._raw = self._envs.reset()[0]
        self._current = self._seen(self._raw, learn=True)

    @property
    def count(self) -> int:
        """Number of environments, n."""
        return len(self._value)

    @property
    def scales_rewards(self) -> bool:
        """Whether rewards are normalised."""
        return self._rewarded is not None

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    @torch.no_grad()
    def collect(self, actor: Actor, length: int, generator: torch.Generator) -> Rollout:
        """T further steps of each environment, with actions drawn from the policy.

        Raises:
            InvalidInputError: If the environment's answers break Gymnasium's protocol, or an
                observation or a reward is not finite.
        """
        buffer = _Buffer()
        draws = noise(actor, (length, self.count), self.spec.actions, generator)
        for draw in draws:
            actions = drawn(actor, actor(self._current), draw)
            buffer.seen.append(self._current)
            buffer.actions.append(actions)
            self._step(environment_actions(self.spec, actions.numpy()), buffer)
        return Rollout(
            observations=torch.stack(buffer.seen),
            actions=torch.stack(buffer.actions),
            rewards=torch.from_numpy(np.array(buffer.rewards, np.float32)),
            terminated=torch.from_numpy(np.array(buffer.terminated)),
            truncated=torch.from_numpy(np.array(buffer.truncated)),
            next_observations=torch.stack(buffer.following),
            episodes=tuple(buffer.episodes),
        )

    def _step(self, actions: NDArray[Any], buffer: _Buffer) -> None:
        self._raw, rewards, terminated, truncated, info = self._envs.step(actions)
        self.steps += self.count
        self._value += rewards
        self._length += 1
        over = terminated | truncated
        buffer.rewards.append(self._scaled(rewards))
        self._current = self._seen(self._raw, learn=True)
        following = self._current
        if over.any():
            following = self._before_reset(info["final_obs"], over)
            self._end(over, buffer)
        buffer.terminated.append(terminated)
        buffer.truncated.append(truncated & ~terminated)
        buffer.following.append(following)

    def _before_reset(self, final: NDArray[Any], over: NDArray[Any]) -> Tensor:
        """What the networks see after the step, where episodes ended their last observation."""
        following = self._current.clone()
        last = np.stack([final[place] for place in np.flatnonzero(over)])
        following[torch.from_numpy(over)] = self._seen(last, learn=False)
        return following

    def _end(self, over: NDArray[Any], buffer: _Buffer) -> None:
        for place in np.flatnonzero(over):
            value, length = float(self._value[place]), int(self._length[place])
            buffer.episodes.append(Episode(self.steps, value, length))
        self._value[over], self._length[over], self._discounted[over] = 0.0, 0, 0.0

    def _seen(self, raw: NDArray[Any], *, learn: bool) -> Tensor:
        """Observations as the networks see them."""
        if self.observed is None:
            return torch.from_numpy(raw.astype(np.float32))
        if learn:
            self.observed = self.observed.with_rows(raw.astype(np.float64))
        return torch.from_numpy(self.observed.standardised(raw).astype(np.float32))

    def _scaled(self, rewards: NDArray[Any]) -> NDArray[Any]:
        if self._rewarded is None:
            return rewards
        self._discounted = self._gamma * self._discounted + rewards
        self._rewarded = self._rewarded.with_rows(self._discounted[:, None])
        return self._rewarded.scaled(rewards[:, None])[:, 0]

    def state(self) -> dict[str, Any]:
        """Where the environments and the moments are, in what `torch.load` reads."""
        places = []
        for env in self._seeded():
            actions = torch.from_numpy(np.array(env.actions))
            places.append([env.episode, actions])
        return {
            "places": places,
            "raw": torch.from_numpy(self._raw.copy()),
            "current": self._current,
            "observed": None if self.observed is None else self.observed.state(),
            "rewarded": None if self._rewarded is None else self._rewarded.state(),
            "discounted": self._discounted.tolist(),
            "value": self._value.tolist(),
            "length": self._length.tolist(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`: episodes that were going on are played again up to there.

        Raises:
            InvalidInputError: If an environment is not at the same observation then.
        """
        self._raw = state["raw"].numpy()
        for place, (env, (episode, actions)) in enumerate(
            zip(self._seeded(), state["places"], strict=True)
        ):
            observation = env.replay(episode, list(actions.numpy()))
            if not np.array_equal(observation, self._raw[place]):
                raise InvalidInputError(
                    "the environment must depend on its seed and the actions alone for a run to "
                    "go on from a checkpoint, got another observation for the same; "
                    "remove the file or name another one"
                )
        self._current = state["current"]
        if self.observed is not None:
            self.observed = Moments.from_state(state["observed"])
        if self._rewarded is not None:
            self._rewarded = Moments.from_state(state["rewarded"])
        self._discounted = np.array(state["discounted"])
        self._value, self._length = np.array(state["value"]), np.array(state["length"])
        self.steps = state["steps"]

    def _seeded(self) -> list[SeededEpisodes]:
        found = []
        for env in self._envs.envs:
            assert isinstance(env, SeededEpisodes)
            found.append(env)
        return found
