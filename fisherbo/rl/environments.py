"""Gymnasium environments as policies see them: several at once, episodes with seeds of their own.

The seed of an episode depends on the run's seed, the environment's place and the episode's number
alone. An environment in the middle of an episode is therefore known by that number and the actions
since its beginning, and a run goes on from them without a copy of the environment.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.rl.actions import box_spec
from fisherbo.rl.checks import CheckedAnswers
from fisherbo.rl.gymnasium_extra import gymnasium, spaces
from fisherbo.rl.policy import Spec

DependencyNotInstalled = gymnasium.error.DependencyNotInstalled

Env: TypeAlias = "gymnasium.Env[Any, Any]"
EnvironmentLike: TypeAlias = str | Callable[[], Env]
"""A Gymnasium id such as ``"CartPole-v1"``, or a function that makes an environment."""


class SeededEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose episodes begin with seeds of their own, and that knows where it is.

    Args:
        env: The environment; its course depends on the seed and the actions of an episode alone.
        seed: Of the run.
        place: Number of this environment among those of the run.
    """

    def __init__(self, env: Env, seed: int, place: int) -> None:
        super().__init__(env)
        self._seed = (seed, place)
        self.episode = 0
        self.actions: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode with its own seed; ``seed`` is not used."""
        own = int(np.random.SeedSequence([*self._seed, self.episode]).generate_state(1)[0])
        self.episode += 1
        self.actions = []
        return self.env.reset(seed=own, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step, and remember the action."""
        self.actions.append(action)
        return self.env.step(action)

    def replay(self, episode: int, actions: list[Any]) -> Any:
        """Go to where an environment of the same seed was; returns the observation there."""
        self.episode = episode - 1
        observation, _ = self.reset()
        for action in actions:
            observation = self.step(action)[0]
        return observation


def make(environment: EnvironmentLike, *, render_mode: str | None = None) -> Env:
    """A new environment with a flat observation and actions that a policy can have.

    Args:
        environment: A Gymnasium id, or a function that makes an environment.
        render_mode: ``"rgb_array"`` to draw it; a function decides by itself.

    Raises:
        InvalidInputError: If the id is not known, the environment cannot be made, or a space is not
            supported.
        MissingExtraError: If a package that it needs is not installed.
    """
    env = _made(environment, render_mode)
    if not isinstance(env, gymnasium.Env):
        raise InvalidInputError(
            f"environment must be a Gymnasium id or make a gymnasium.Env, got "
            f"{type(env).__name__}; pass for example 'CartPole-v1'"
        )
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), spaces.Space):
            raise InvalidInputError(
                f"an environment must have an {name}, {type(env.unwrapped).__name__} has none"
            )
    env = CheckedAnswers(env)
    if not (
        isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) == 1
    ):
        if not env.observation_space.is_np_flattenable:
            raise InvalidInputError(
                "the observation space must be one that flattens to an array, got "
                f"{env.observation_space}; wrap the environment"
            )
        env = gymnasium.wrappers.FlattenObservation(env)
    return env


def _made(environment: EnvironmentLike, render_mode: str | None) -> Env:
    if not isinstance(environment, str):
        return environment()
    drawn: dict[str, Any] = {}
    if render_mode is not None:  # not every environment takes the word
        drawn["render_mode"] = render_mode
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that are out of date
            return gymnasium.make(environment, disable_env_checker=True, **drawn)
    except DependencyNotInstalled as error:
        raise InvalidInputError(
            f"environment {environment!r} needs a package that is not installed: {_line(error)}"
        ) from error
    except (gymnasium.error.Error, ImportError, AttributeError, TypeError) as error:
        if drawn and "unexpected keyword argument 'render_mode'" in str(error):
            raise InvalidInputError(
                f"environment {environment!r} cannot be drawn: it has no render mode {render_mode}"
            ) from error
        raise InvalidInputError(
            f"environment {environment!r} cannot be made{_near(environment)}: {_line(error)}"
        ) from error


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, list(gymnasium.registry), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near and near[0] != name else ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def spec_of(env: Env, hidden: tuple[int, ...] = (64, 64)) -> Spec:
    """What a policy of the environment sees and does.

    Raises:
        InvalidInputError: If the action space is neither Discrete nor a Box of floats.
    """
    observed, acted = env.observation_space, env.action_space
    assert isinstance(observed, spaces.Box)
    width = math.prod(observed.shape)
    for name, space, numbers in (
        ("observation", observed, width),
        ("action", acted, math.prod(acted.shape or ())),
    ):
        if numbers == 0:
            raise InvalidInputError(f"the {name} space must hold numbers, got {space}")
    if isinstance(acted, spaces.Discrete):
        return Spec(width, int(acted.n), "categorical", hidden, start=int(acted.start))
    if isinstance(acted, spaces.Box) and np.issubdtype(acted.dtype, np.floating):
        return box_spec(acted, width, hidden)
    raise InvalidInputError(
        f"the action space must be Discrete or a Box of floats, got {acted}; "
        "wrap the environment so that it has one of them"
    )


def vectorised(
    environment: EnvironmentLike, count: int, seed: int
) -> gymnasium.vector.SyncVectorEnv:
    """So many environments, stepped together; one that ends an episode begins the next at once.

    The observation that an episode ended with is in ``info["final_obs"]``.

    Raises:
        InvalidInputError: As `make`.
    """
    makers = [_maker(environment, seed, place) for place in range(count)]
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)


def _maker(environment: EnvironmentLike, seed: int, place: int) -> Callable[[], Env]:
    return lambda: SeededEpisodes(make(environment), seed, place)


@contextlib.contextmanager
def opened(environment: EnvironmentLike, *, render_mode: str | None = None) -> Iterator[Env]:
    """As `make`, closed at the end."""
    env = make(environment, render_mode=render_mode)
    try:
        yield env
    finally:
        env.close()
