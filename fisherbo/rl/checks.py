"""What an environment answers, checked at each step: shapes, numbers, and Gymnasium's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.rl.gymnasium_extra import gymnasium, spaces

_LARGEST = float(np.finfo(np.float32).max)  # what networks and advantages are computed in


class CheckedAnswers(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that raises `InvalidInputError` where its answers break the protocol."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self._name = f"environment {name!r}"
        self._seen, self._box = env.observation_space, isinstance(env.action_space, spaces.Box)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        answer: Any = self.env.reset(seed=seed, options=options)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
            self._refuse(f"reset must return an observation and a dict, got {_brief(answer)}")
        self._steps = 0
        self._check_observation(answer[0])
        return answer

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step; the reward is a float, the ends of the episode are truth values."""
        if self._box:
            action = np.asarray(action)  # a vector environment gives a bare number of shape ()
        answer: Any = self.env.step(action)
        self._steps += 1
        if not (isinstance(answer, tuple) and len(answer) == 5 and isinstance(answer[4], dict)):
            self._refuse(
                "step must return observation, reward, terminated, truncated and a dict, got "
                f"{_brief(answer)}"
            )
        observation, reward, terminated, truncated, info = answer
        self._check_observation(observation)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(value, bool | np.bool_) and (value is None or np.ndim(value) != 0):
                self._refuse(f"{name} must be true or false, got {_brief(value)}")
        return observation, self._reward(reward), bool(terminated), bool(truncated), info

    def _reward(self, value: Any) -> float:
        try:
            if not isinstance(value, float | int) and np.ndim(value) != 0:
                raise TypeError
            reward = float(value)
        except (TypeError, ValueError):
            self._refuse(f"a reward must be one number, got {_brief(value)}")
        if not abs(reward) <= _LARGEST:
            self._refuse_infinite("reward", value)
        return reward

    def _check_observation(self, value: Any) -> None:
        problem = _misfit(self._seen, value)
        if problem is not None:
            self._refuse(f"an observation must fit the observation space, got {problem}")
        if not _finite(value):
            self._refuse_infinite("observation", value)

    def _refuse_infinite(self, name: str, value: Any) -> None:
        self._refuse(
            "it must give finite observations and rewards, got "
            f"{name} {_brief(value)} (float32 holds up to 3.4e38)"
        )

    def _refuse(self, words: str) -> None:
        raise InvalidInputError(
            f"{self._name}: {words} after {self._steps} steps of an episode; mend it, or wrap it"
        )


def _misfit(space: spaces.Space[Any], value: Any) -> str | None:
    """Why an observation does not fit a space, or None; bounds of a Box are not looked at."""
    if isinstance(space, spaces.Box):
        return _misfit_of_box(space, value)
    if isinstance(space, spaces.Dict):
        if not (isinstance(value, Mapping) and set(value) == set(space.spaces)):
            return f"{_brief(value)} for the keys {', '.join(map(str, space.spaces))}"
        parts = [(inner, value[key]) for key, inner in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        if not (isinstance(value, tuple | list) and len(value) == len(space.spaces)):
            return f"{_brief(value)} for {len(space.spaces)} parts"
        parts = list(zip(space.spaces, value, strict=True))
    else:
        return None if space.contains(value) else f"{_brief(value)} for {space}"
    return next((found for part in parts if (found := _misfit(*part)) is not None), None)


def _misfit_of_box(box: spaces.Box, value: Any) -> str | None:
    if isinstance(value, np.ndarray) and value.shape == box.shape and value.dtype == box.dtype:
        return None  # as it mostly is
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return f"{_brief(value)} for shape {box.shape}"
    if array.shape != box.shape:
        return f"shape {array.shape} for {box.shape}"
    if array.dtype.kind in "fiub" and np.can_cast(array.dtype, box.dtype, "same_kind"):
        return None
    return f"values of type {array.dtype} for {box.dtype}"


def _finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, tuple):
        return all(map(_finite, value))
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return True
    if array.itemsize >= 4 and np.vdot(array, array) <= _LARGEST:  # quicker, and mostly so
        return True
    return bool((np.abs(array) <= _LARGEST).all())


def _brief(value: Any) -> str:
    """The value on one line of some hundred characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
