"""A trained policy by itself: it acts, is evaluated, drawn, saved and loaded."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.rl.environments import (
    DependencyNotInstalled,
    Env,
    EnvironmentLike,
    environment_actions,
    opened,
    spec_of,
)
from fisherbo.rl.normalisation import Moments
from fisherbo.rl.policy import Actor, Spec, drawn, mode, noise
from fisherbo.training.checkpoint import load_checkpoint, save_atomically

_KIND = "policy"
_MAKER = "fisherbo.rl.Agent.save"


@dataclass(frozen=True, eq=False)
class Agent:
    """A policy with what it needs to act.

    Attributes:
        environment: Gymnasium id it was trained on; empty where that was a function.
        spec: What it sees and does.
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
    ) -> tuple[float, ...]:
        """Returns of whole episodes, one each, sums of rewards that are not discounted.

        Args:
            episodes: How many.
            seed: Episode k begins with seed ``seed + k``.
            environment: Where. Default: the one it was trained on.
            deterministic: Whether it takes the most probable action, else draws.

        Raises:
            InvalidInputError: If ``episodes`` is not positive or the environment does not fit.
        """
        if episodes < 1:
            raise InvalidInputError(f"episodes must be >= 1, got {episodes!r}; 20 is usual")
        generator = None if deterministic else torch.Generator().manual_seed(seed)
        with opened(self._where(environment)) as env:
            self._check(env)
            return tuple(
                sum(reward for reward, _ in self._episode(env, seed + k, generator))
                for k in range(episodes)
            )

    def render(
        self, path: str | Path, *, seed: int = 0, environment: str | None = None, stride: int = 2
    ) -> Path:
        """Draw one episode: a GIF that plays it, or a PNG of six moments side by side.

        Args:
            path: File that ends in ``.gif`` or ``.png``; its folder is made.
            seed: Of the episode.
            environment: Gymnasium id. Default: the one it was trained on.
            stride: Steps from one frame of the GIF to the next.

        Raises:
            InvalidInputError: If the path ends otherwise, or the environment cannot be drawn.
            MissingExtraError: If pygame or Pillow is not installed.
        """
        path = Path(path)
        if path.suffix.lower() not in (".gif", ".png"):
            raise InvalidInputError(f"a drawing's file must end in .gif or .png, got {path}")
        frames = self._frames(self._where(environment), seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".gif":
            _write_gif(frames[::stride], path, stride)
        else:
            moments = np.linspace(0, len(frames) - 1, 6).round().astype(int)
            _write_png([frames[k] for k in moments], path)
        return path

    def save(self, path: str | Path) -> None:
        """Write the policy to a file, whole or not at all."""
        observed = None if self.observed is None else self.observed.state()
        save_atomically(
            {
                "kind": _KIND,
                "environment": self.environment,
                "spec": asdict(self.spec),
                "actor": self.actor.state_dict(),
                "observed": observed,
            },
            Path(path),
        )

    @classmethod
    def load(cls, path: str | Path) -> Agent:
        """The policy of a file that `save` wrote.

        Raises:
            InvalidInputError: If it is none.
        """
        state = load_checkpoint(Path(path), _MAKER)
        if state.get("kind") != _KIND:
            raise InvalidInputError(f"{path} is no policy of {_MAKER}; name another file")
        spec = Spec(**state["spec"])
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

    def _check(self, env: Env) -> None:
        other = spec_of(env, self.spec.hidden)
        if other != self.spec:
            raise InvalidInputError(
                f"the environment must be like the one that the policy was trained on, "
                f"{self.spec}, got {other}"
            )

    def _episode(
        self, env: Env, seed: int, generator: torch.Generator | None
    ) -> Iterator[tuple[float, Env]]:
        """Rewards of an episode, one after the other, with the environment after each step."""
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            action = self.act(observation, generator)
            observation, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            yield float(reward), env

    def _frames(self, environment: EnvironmentLike, seed: int) -> list[NDArray[np.uint8]]:
        try:
            with _headless(), opened(environment, render_mode="rgb_array") as env:
                self._check(env)
                frames = [env.render() for _, env in self._episode(env, seed, None)]
        except DependencyNotInstalled as error:
            raise MissingExtraError("pygame", "rl") from error
        if not frames or frames[0] is None:
            raise InvalidInputError(
                f"environment {environment!r} cannot be drawn: it has no render mode rgb_array"
            )
        return frames  # type: ignore[return-value]  # what rgb_array gives


@contextlib.contextmanager
def _headless() -> Iterator[None]:
    """Pygame draws without a window, a sound card, a greeting or its imports' warnings."""
    wanted = {
        "PYGAME_HIDE_SUPPORT_PROMPT": "1",
        "SDL_VIDEODRIVER": "dummy",
        "SDL_AUDIODRIVER": "dummy",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in added:
            del os.environ[name]


def _write_gif(frames: list[NDArray[np.uint8]], path: Path, stride: int) -> None:
    first, *rest = [_image(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=20 * stride, loop=0)


def _write_png(frames: list[NDArray[np.uint8]], path: Path) -> None:
    _image(np.concatenate(frames, 1)).save(path)


def _image(frame: NDArray[np.uint8]) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "rl") from error
    return Image.fromarray(frame)
