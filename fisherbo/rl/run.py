"""Train a policy: rollouts and updates until the steps are taken, with checkpoints that resume."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fisherbo.errors import InvalidInputError
from fisherbo.files import require_writable
from fisherbo.rl.agent import KIND as POLICY_KIND
from fisherbo.rl.agent import MAKER as POLICY_MAKER
from fisherbo.rl.agent import Agent
from fisherbo.rl.batch import PolicyStep
from fisherbo.rl.environments import EnvironmentLike
from fisherbo.rl.learner import Learner, Update
from fisherbo.rl.policy import Spec
from fisherbo.rl.progress import progress_bar
from fisherbo.rl.rollout import Collector, Episode
from fisherbo.rl.settings import Algorithm, Settings, described, settings_of
from fisherbo.training.checkpoint import load_checkpoint, save_atomically

_KIND = "training run"
_MAKER = "fisherbo.rl.train"


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """The result of a run.

    Attributes:
        episodes: Finished episodes, in order.
        updates: Updates, in order.
        agent: The policy at the end.
        steps: Steps of all environments together.
        cpu_seconds: CPU seconds of the process, without checkpoints.
        settings: Settings of the run.
        state: State of the run, for `save`.
    """

    episodes: tuple[Episode, ...]
    updates: tuple[Update, ...]
    agent: Agent
    steps: int
    cpu_seconds: float
    settings: Settings
    state: dict[str, Any] = field(default_factory=dict, repr=False)

    def save(self, path: str | Path) -> None:
        """Write the policy and its run, for `Agent.load` and for `train` to continue.

        Raises:
            StorageError: If the file cannot be written.
        """
        save_atomically({**self.agent.state(), "run": self.state}, Path(path))

    @property
    def returns(self) -> tuple[float, ...]:
        """Sum of rewards of each finished episode, in the order in which they ended."""
        return tuple(episode.value for episode in self.episodes)


def train(
    environment: EnvironmentLike,
    *,
    algorithm: Algorithm = "trpo",
    steps: int = 100_000,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    start: str | Path | None = None,
    progress: bool = False,
    callback: Callable[[Update, tuple[Episode, ...]], None] | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a policy on an environment.

    All random numbers follow from the seed: on one machine, with the same number of threads, a run
    gives the same result every time, interrupted or not.

    Args:
        environment: A Gymnasium id such as ``"CartPole-v1"``, or a function that makes an
            environment. Actions must be Discrete or Box, and observations must flatten to numbers.
        algorithm: ``"trpo"``, ``"ppo"``, ``"acktr"`` (TRPO's step along the Kronecker-factored
            natural gradient, critic by K-FAC) or ``"vanilla"`` (policy gradient with Adam).
        steps: Total steps of all environments, including those of a run that is continued; rounded
            up to a multiple of ``n_envs``.
        seed: Seed of the weights, actions and episodes.
        checkpoint: File that is written every ``checkpoint_every`` updates and at the end. If it
            exists, the run continues from it.
        checkpoint_every: Updates from one checkpoint to the next.
        start: File that `TrainingResult.save` wrote. Its run is continued if it has fewer steps; a
            checkpoint takes precedence. From there on, ``anneal`` follows the new number of steps.
        progress: Whether to draw a bar on standard error.
        callback: Called after each update with the episodes that ended in its rollout; may raise an
            exception to end the run.
        **settings: Changes to the algorithm's `Settings`.

    Raises:
        InvalidInputError: If an argument breaks its rule, the environment is not known or not
            supported, gives an observation or reward that is not finite, a file cannot be written,
            or the run to continue is a different one.
        DivergedError: If the policy or the critic becomes infinite or NaN.
        MissingExtraError: If gymnasium is not installed.

    Example:
        >>> import fisherbo.rl
        >>> result = fisherbo.rl.train("CartPole-v1", algorithm="trpo", steps=4096)
        >>> len(result.returns) > 50
        True
    """
    chosen = settings_of(algorithm, settings)
    _check(steps, seed, checkpoint_every)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        require_writable(path, "checkpoint")
    with (
        _running(environment, algorithm, chosen, steps, seed) as run,
        progress_bar(run.name, steps, shown=progress) as shown,
    ):
        if start is not None:
            run.require_same(run_in_policy(Path(start)), Path(start))
        if path is not None and path.exists():
            run.restore(load_checkpoint(path, _MAKER), path)
        elif start is not None:
            run.restore(run_in_policy(Path(start)), Path(start))
        shown(run.collector.steps, run.episodes)
        while run.collector.steps < steps:
            finished = run.advance()
            if path is not None and len(run.updates) % checkpoint_every == 0:
                save_atomically(run.state(), path)
            shown(run.collector.steps, run.episodes)
            if callback is not None:
                callback(run.updates[-1], finished)
        if path is not None:
            save_atomically(run.state(), path)
        return run.result()


@contextlib.contextmanager
def _running(
    environment: EnvironmentLike, algorithm: str, settings: Settings, steps: int, seed: int
) -> Iterator[_Run]:
    run = _Run(environment, algorithm, settings, steps, seed)
    try:
        yield run
    finally:
        run.collector.close()


class _Run:
    """A run between two updates: all that a checkpoint holds."""

    def __init__(
        self,
        environment: EnvironmentLike,
        algorithm: str,
        settings: Settings,
        steps: int,
        seed: int,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._id = environment if isinstance(environment, str) else ""
        self.name = f"{algorithm} on {self._id or 'the environment'}"
        self._steps = steps
        self.collector, self._settings = _collector(environment, settings, seed)
        self._learner = Learner(
            algorithm, self.collector.spec, self._settings, self._generator, seed
        )
        self._config = {
            **described(algorithm, self._settings),
            "environment": self._id,
            "spec": asdict(self.collector.spec),
            "seed": seed,
        }
        self.episodes: list[Episode] = []
        self.updates: list[Update] = []
        self._seconds = 0.0

    def advance(self) -> tuple[Episode, ...]:
        """One rollout and one update; the episodes that ended."""
        begin = time.process_time()
        left = self._steps - self.collector.steps
        length = min(self._settings.rollout, -(-left // self.collector.count))
        rollout = self.collector.collect(self._learner.actor, length, self._generator)
        self.episodes += rollout.episodes
        self.updates.append(self._learner.update(rollout, self.collector.steps, left / self._steps))
        self._seconds += time.process_time() - begin
        return rollout.episodes

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {
            "kind": _KIND,
            "config": self._config,
            "generator": self._generator.get_state(),
            "learner": self._learner.state(),
            "collector": self.collector.state(),
            "episodes": [list(asdict(episode).values()) for episode in self.episodes],
            "updates": [
                [u.step, u.explained_variance, *asdict(u.policy).values()] for u in self.updates
            ],
            "seconds": self._seconds,
        }

    def require_same(self, state: dict[str, Any], path: Path) -> None:
        """Pass if `state` is of a run with the same environment and settings.

        Raises:
            InvalidInputError: It is not.
        """
        if state.get("kind") != _KIND:
            raise InvalidInputError(
                f"{path} is not a checkpoint of {_MAKER}; remove it or name another file"
            )
        stored = state["config"]
        stored["spec"] = asdict(Spec(**stored["spec"]))  # with what earlier versions do not have
        stored.pop("steps", None)
        other = [k for k in {**stored, **self._config} if stored.get(k) != self._config.get(k)]
        if other:
            changes = "; ".join(f"{k} was {stored.get(k)}, is {self._config.get(k)}" for k in other)
            raise InvalidInputError(
                f"{path} is of another run: {changes}; run as then or name another file"
            )

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from `state`.

        Raises:
            InvalidInputError: As `require_same`.
        """
        self.require_same(state, path)
        self.collector.restore(state["collector"])
        self._learner.restore(state["learner"])
        self._generator.set_state(state["generator"])
        self.episodes = [Episode(*values) for values in state["episodes"]]
        self.updates = [
            Update(step, PolicyStep(*policy), explained)
            for step, explained, *policy in state["updates"]
        ]
        self._seconds = state["seconds"]

    def result(self) -> TrainingResult:
        """What was reached so far."""
        return TrainingResult(
            episodes=tuple(self.episodes),
            updates=tuple(self.updates),
            agent=Agent(
                self._id, self.collector.spec, self._learner.actor, self.collector.observed
            ),
            steps=self.collector.steps,
            cpu_seconds=self._seconds,
            settings=self._settings,
            state=self.state(),
        )


def run_in_policy(path: Path) -> dict[str, Any]:
    """The run in a file of `TrainingResult.save`.

    Raises:
        InvalidInputError: If it is no policy, or one without its run.
    """
    state = load_checkpoint(path, POLICY_MAKER)
    if state.get("kind") != POLICY_KIND:
        raise InvalidInputError(f"{path} is no policy of {POLICY_MAKER}; name another file")
    if "run" not in state:
        raise InvalidInputError(
            f"{path} is a policy without the run that trained it, which cannot go on; "
            "name another file"
        )
    run: dict[str, Any] = state["run"]
    return run


def _collector(
    environment: EnvironmentLike, settings: Settings, seed: int
) -> tuple[Collector, Settings]:
    """The environments; settings that depend on the kind of action are settled."""
    collector = Collector(
        environment,
        count=settings.n_envs,
        seed=seed,
        hidden=settings.hidden,
        gamma=settings.gamma,
        normalise_observations=settings.normalise_observations,
        normalise_rewards=settings.normalise_rewards,
    )
    return collector, replace(
        settings,
        normalise_observations=collector.observed is not None,
        normalise_rewards=collector.scales_rewards,
    )


def _check(steps: int, seed: int, checkpoint_every: int) -> None:
    rules = {
        "steps": (steps, 1, "100000 is usual"),
        "seed": (seed, 0, "0 is usual"),
        "checkpoint_every": (checkpoint_every, 1, "1 is usual"),
    }
    for name, (value, least, remedy) in rules.items():
        if not isinstance(value, int) or value < least:
            raise InvalidInputError(
                f"{name} must be a whole number >= {least}, got {value!r}; {remedy}"
            )
