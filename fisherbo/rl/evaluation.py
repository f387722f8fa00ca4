"""Episodes of a policy that does not learn, and how long they may last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fisherbo.errors import InvalidInputError
from fisherbo.rl.gymnasium_extra import gymnasium

MAX_EPISODE_STEPS = 1_000
"""Steps of an episode where neither the environment nor the caller sets a limit: the limit of most
of Gymnasium's environments that have one."""


@dataclass(frozen=True)
class Evaluation:
    """Whole episodes of a policy.

    Attributes:
        returns: The sum of rewards of each episode, not discounted.
        cut_off: Number of episodes that did not end within `max_steps`.
        max_steps: Steps at which an episode was cut off; ``None`` where the environment has a limit
            of its own and the caller set none.
    """

    returns: tuple[float, ...]
    cut_off: int
    max_steps: int | None

    def __str__(self) -> str:
        """Of episodes that were cut off, in words."""
        return (
            f"{self.cut_off} of {len(self.returns)} episodes did not end and were cut off after "
            f"{self.max_steps} steps"
        )


def step_limit(env: gymnasium.Env[Any, Any], chosen: int | None) -> int | None:
    """Steps at which to cut off an episode; ``None`` where the environment does so itself.

    Raises:
        InvalidInputError: ``chosen`` is not positive.
    """
    if chosen is not None:
        if chosen < 1:
            raise InvalidInputError(
                f"max_episode_steps must be >= 1 or None, got {chosen!r}; "
                f"{MAX_EPISODE_STEPS} is usual"
            )
        return chosen
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return None
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit):
            return None
        layer = layer.env
    return MAX_EPISODE_STEPS


def episode(
    env: gymnasium.Env[Any, Any], act: Callable[[Any], Any], seed: int, limit: int | None
) -> Iterator[tuple[float, bool]]:
    """Rewards of an episode, each with whether the episode ended with it."""
    observation, _ = env.reset(seed=seed)
    steps, over = 0, False
    while not over and (limit is None or steps < limit):
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        steps, over = steps + 1, bool(terminated or truncated)
        yield float(reward), over


def evaluation(
    env: gymnasium.Env[Any, Any],
    act: Callable[[Any], Any],
    *,
    episodes: int,
    seed: int,
    limit: int | None,
) -> Evaluation:
    """Episodes with seeds from ``seed`` on, each cut off after ``limit`` steps."""
    returns, cut_off = [], 0
    for k in range(episodes):
        over, total = False, 0.0
        for reward, over in episode(env, act, seed + k, limit):  # noqa: B007  # the last one
            total += reward
        returns.append(total)
        cut_off += not over
    return Evaluation(tuple(returns), cut_off, limit)
