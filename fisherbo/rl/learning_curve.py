"""The learning curve of a run: returns of episodes, their moving mean, and when it is solved."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fisherbo.files import replacing
from fisherbo.rl.gymnasium_extra import gymnasium
from fisherbo.rl.rollout import Episode

WINDOW = 100
"""Episodes of the moving mean: those over which Gymnasium's reward thresholds are meant."""


def moving_mean(episodes: Sequence[Episode], window: int = WINDOW) -> NDArray[np.float64]:
    """Mean return of each episode and up to ``window - 1`` before it, shape ``(n,)``."""
    sums = np.cumsum([0.0, *(episode.value for episode in episodes)])
    last = np.arange(1, len(sums))
    first = np.maximum(last - window, 0)
    return (sums[last] - sums[first]) / (last - first)


def reward_threshold(environment: str) -> float | None:
    """Return at which Gymnasium calls an environment solved, ``None`` where it tells none."""
    spec = gymnasium.envs.registration.registry.get(environment.rpartition(":")[2])
    threshold = None if spec is None else spec.reward_threshold
    return None if threshold is None or not math.isfinite(threshold) else float(threshold)


def solved_at(episodes: Sequence[Episode], threshold: float | None) -> int | None:
    """Steps of all environments when the mean of `WINDOW` whole episodes first reached a threshold.

    ``None`` where it never did, or there is no threshold.
    """
    if threshold is None or len(episodes) < WINDOW:
        return None
    reached = np.flatnonzero(moving_mean(episodes)[WINDOW - 1 :] >= threshold)
    return None if len(reached) == 0 else episodes[WINDOW - 1 + reached[0]].step


def spread(returns: Sequence[float]) -> str:
    """Mean return with its 95% interval (normal approximation), least and largest, in words."""
    values = np.asarray(returns, dtype=np.float64)
    text = f"mean return {values.mean():.1f}"
    if len(values) > 1:
        half = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        text += f" ± {half:.1f}"
    return f"{text} of {len(values)} episodes, from {values.min():.1f} to {values.max():.1f}"


def solved(threshold: float | None, step: int | None) -> str:
    """Whether and when the environment was solved, in words."""
    if threshold is None:
        return "Gymnasium tells no threshold for this environment"
    goal = f"a mean return of {threshold:g} over {WINDOW} episodes of training"
    return f"no, {goal} was not reached" if step is None else f"at step {step}, by {goal}"


def write_csv(episodes: Sequence[Episode], path: Path) -> None:
    """Write a row for each episode: its number, steps when it ended, return, length, moving mean.

    Raises:
        StorageError: The file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["episode", "step", "return", "length", f"mean_return_of_{WINDOW}"])
    for number, (episode, mean) in enumerate(zip(episodes, moving_mean(episodes), strict=True)):
        table.writerow([number, episode.step, episode.value, episode.length, float(mean)])
    with replacing(path, "choose another place with --csv") as file:
        file.write(text.getvalue().encode())
