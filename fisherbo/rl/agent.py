"""A trained policy by itself: it acts, is evaluated, drawn, saved and loaded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.rl import drawing
from fisherbo.rl.actions import environment_actions
from fisherbo.rl.environments import Env, EnvironmentLike, opened, spec_of
from fisherbo.rl.evaluation import Evaluation, evaluation, step_limit
from fisherbo.rl.normalisation import Moments
from fisherbo.rl.policy import Actor, Spec, drawn, mode, noise
from fisherbo.training.checkpoint import load_checkpoint, save_atomically

KIND = "policy"
MAKER = "fisherbo.rl.Agent.save"


@dataclass(frozen=True, eq=False)
class Agent:
    """A policy that is ready to act.

    Attributes:
        environment: Gymnasium id that it was trained on; empty if that was a function.
        spec: Its observations and actions.
        actor: Its network.
        observed: Moments by which observations are standardised, or ``None``.
    """

    environment: str
    spec: Spec
    actor: Actor
    observed: Moments | None

    def act(self, observation: NDArray[Any], generator: torch.Generator | None = None) -> Any:
        """The action at one observation: the most probable one, or one drawn by the generator.

        Raises:
            InvalidInputError: If the observation has another length or is not finite.
        """
        rows = np.asarray(observation).reshape(1, -1)
        if rows.shape[1] != self.spec.observations:
            raise InvalidInputError(
                f"an observation of this policy has {self.spec.observations} numbers, got "
                f"{rows.shape[1]}; give it the environment that it was trained on"
            )
        if not np.isfinite(rows).all():
            raise InvalidInputError(
                f"an observation must be finite, got {rows[0].tolist()}; mend the environment"
            )
        if self.observed is not None:
            rows = self.observed.standardised(rows)
        with torch.no_grad():
            outputs = self.actor(torch.from_numpy(rows.astype(np.float32)))
            actions = self._chosen(outputs, generator)
        return environment_actions(self.spec, actions.numpy())[0]

    def _chosen(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return mode(self.actor, outputs)
        return drawn(self.actor, outputs, noise(self.actor, (1,), self.spec.actions, generator))

    def evaluate(
        self,
        episodes: int = 20,
        *,
        seed: int = 0,
        environment: EnvironmentLike | None = None,
        deterministic: bool = True,
        max_episode_steps: int | None = None,
    ) -> tuple[float, ...]:
        """Undiscounted returns of whole episodes, one number for each.

        Args:
            episodes: Number of episodes.
            seed: Episode k begins with seed ``seed + k``.
            environment: Environment to evaluate in. Default: the one it was trained on.
            deterministic: Whether the most probable action is taken; if not, actions are drawn.
            max_episode_steps: Steps at which an episode is cut off. Default: the environment's own
                limit; without one 1,000, with a warning if an episode is cut off there.

        Raises:
            InvalidInputError: If ``episodes`` or ``max_episode_steps`` is not positive, or the
                environment does not fit.
        """
        found = self.evaluation(
            episodes,
            seed=seed,
            environment=environment,
            deterministic=deterministic,
            max_episode_steps=max_episode_steps,
        )
        if found.cut_off and max_episode_steps is None:
            warnings.warn(f"{found}; set max_episode_steps", UserWarning, stacklevel=2)
        return found.returns

    def evaluation(
        self,
        episodes: int = 20,
        *,
        seed: int = 0,
        environment: EnvironmentLike | None = None,
        deterministic: bool = True,
        max_episode_steps: int | None = None,
    ) -> Evaluation:
        """As `evaluate`, with the number of episodes that were cut off instead of a warning."""
        if episodes < 1:
            raise InvalidInputError(f"episodes must be >= 1, got {episodes!r}; 20 is usual")
        generator = None if deterministic else torch.Generator().manual_seed(seed)
        with opened(self._where(environment)) as env:
            act, limit = self._policy(env, generator), step_limit(env, max_episode_steps)
            return evaluation(env, act, episodes=episodes, seed=seed, limit=limit)

    def render(
        self,
        path: str | Path,
        *,
        seed: int = 0,
        environment: EnvironmentLike | None = None,
        stride: int = 2,
        max_episode_steps: int | None = None,
    ) -> Path:
        """Draw one episode: a GIF that plays it, or a PNG of six moments side by side.

        Args:
            path: File that ends in ``.gif`` or ``.png``; its folder is made.
            seed: Seed of the episode.
            environment: Gymnasium id, or a function that makes an environment with render mode
                rgb_array. Default: the one it was trained on.
            stride: Steps from one frame of the GIF to the next.
            max_episode_steps: Largest number of steps to draw. Default: the environment's own
                limit; without one 1,000.

        Raises:
            InvalidInputError: If the path has another ending, or the environment cannot be drawn.
            MissingExtraError: If pygame or Pillow is not installed.
            StorageError: If the file cannot be written.
        """
        path = Path(path)
        drawing.require_suffix(path, "a drawing's file")
        drawn = drawing.frames(
            self._where(environment),
            lambda env: self._policy(env, None),
            seed=seed,
            max_steps=max_episode_steps,
        )
        drawing.write(drawn, path, stride)
        return path

    def save(self, path: str | Path) -> None:
        """Write the policy to a file, completely or not at all.

        Raises:
            StorageError: If the file cannot be written.
        """
        save_atomically(self.state(), Path(path))

    def state(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {
            "kind": KIND,
            "environment": self.environment,
            "spec": asdict(self.spec),
            "actor": self.actor.state_dict(),
            "observed": None if self.observed is None else self.observed.state(),
        }

    @classmethod
    def load(cls, path: str | Path) -> Agent:
        """The policy of a file that `save` wrote.

        Raises:
            InvalidInputError: If the file holds no policy.
        """
        state = load_checkpoint(Path(path), MAKER)
        if state.get("kind") != KIND:
            raise InvalidInputError(f"{path} is no policy of {MAKER}; name another file")
        try:
            spec = Spec(**state["spec"])
        except TypeError as error:
            raise InvalidInputError(f"{path} is of a later version of fisherbo: {error}") from error
        actor = Actor(spec, torch.Generator())
        actor.load_state_dict(state["actor"])
        observed = state["observed"]
        moments = None if observed is None else Moments.from_state(observed)
        return cls(state["environment"], spec, actor, moments)

    def _where(self, environment: EnvironmentLike | None) -> EnvironmentLike:
        where = self.environment if environment is None else environment
        if where == "":
            raise InvalidInputError(
                "this policy was trained on an environment without an id; pass environment=..."
            )
        return where

    def _policy(self, env: Env, generator: torch.Generator | None) -> Callable[[Any], Any]:
        """The function from observations to actions in an environment.

        How actions are scaled is the policy's, their dtype the environment's.

        Raises:
            InvalidInputError: If the environment's spaces are not those of the policy.
        """
        there = spec_of(env, self.spec.hidden)
        there = replace(there, origin=self.spec.origin, scale=self.spec.scale)
        here = replace(self.spec, dtype=there.dtype)
        if there != here:
            raise InvalidInputError(
                f"the environment must be like the one that the policy was trained on, "
                f"{here}, got {there}"
            )
        agent = replace(self, spec=here)
        return lambda observation: agent.act(observation, generator)
