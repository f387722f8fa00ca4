"""Pictures of an episode: a GIF that plays it, or a PNG of six moments side by side."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.files import replacing
from fisherbo.rl.environments import DependencyNotInstalled, Env, EnvironmentLike, opened
from fisherbo.rl.evaluation import episode, step_limit

Frame = NDArray[np.uint8]


def require_drawable(environment: EnvironmentLike) -> None:
    """Draw one frame of an environment, so that what is missing is known before a training.

    Raises:
        InvalidInputError: If it cannot be drawn.
        MissingExtraError: If pygame or Pillow is not installed.
    """
    with _canvas(environment) as env:
        env.reset(seed=0)
        _image(_frame(env))


def frames(
    environment: EnvironmentLike,
    policy_of: Callable[[Env], Callable[[Any], Any]],
    *,
    seed: int,
    max_steps: int | None,
) -> list[Frame]:
    """A frame after each step of an episode.

    Args:
        environment: A Gymnasium id, or a function that makes an environment for ``"rgb_array"``.
        policy_of: The function from observations to actions, given the environment.
        seed: Of the episode.
        max_steps: Steps at most, as `step_limit` has them.

    Raises:
        InvalidInputError: As `require_drawable`.
        MissingExtraError: As `require_drawable`.
    """
    with _canvas(environment) as env:
        act, limit = policy_of(env), step_limit(env, max_steps)
        return [_frame(env) for _ in episode(env, act, seed, limit)]


def require_suffix(path: Path, name: str) -> None:
    """Pass if the path ends in .gif or .png.

    Raises:
        InvalidInputError: It ends otherwise.
    """
    if path.suffix.lower() not in (".gif", ".png"):
        raise InvalidInputError(f"{name} must end in .gif or .png, got {path}")


def write(drawn: list[Frame], path: Path, stride: int) -> None:
    """Write frames to a file of its suffix; a GIF of every ``stride``-th one."""
    if path.suffix.lower() == ".gif":
        first, *rest = [_image(frame) for frame in drawn[::stride]]
        options = {"save_all": True, "append_images": rest, "duration": 20 * stride, "loop": 0}
        with replacing(path) as file:
            first.save(file, format="GIF", **options)
        return
    moments = np.linspace(0, len(drawn) - 1, 6).round().astype(int)
    picture = _image(np.concatenate([drawn[k] for k in moments], 1))
    with replacing(path) as file:
        picture.save(file, format="PNG")


@contextlib.contextmanager
def _canvas(environment: EnvironmentLike) -> Iterator[Env]:
    """The environment with render mode rgb_array."""
    try:
        with _headless(), opened(environment, render_mode="rgb_array") as env:
            yield env
    except DependencyNotInstalled as error:
        if "pygame" in str(error):
            raise MissingExtraError("pygame", "rl") from error
        reason = " ".join(str(error).split())
        raise InvalidInputError(
            f"environment {environment!r} cannot be drawn, a package is not installed: {reason}"
        ) from error


def _frame(env: Env) -> Frame:
    try:
        frame: Any = env.render()
    except NotImplementedError:
        frame = None
    if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.dtype == np.uint8):
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        raise InvalidInputError(
            f"environment {name!r} cannot be drawn: it has no render mode rgb_array"
        )
    return frame


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


def _image(frame: Frame) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "rl") from error
    return Image.fromarray(frame)
