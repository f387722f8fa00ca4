"""Tune how a policy is trained: radius, damping and trace of TRPO, on a noisy objective.

Each trial trains with weights, actions and episodes of a seed of its own, so that a return is the
settings' worth plus noise; what to use in the end is the best posterior mean, not the luckiest run.
A trial reports the moving mean return of its first run's episodes after each update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.rl.environments import EnvironmentLike
from fisherbo.rl.learner import Update
from fisherbo.rl.learning_curve import WINDOW
from fisherbo.rl.rollout import Episode
from fisherbo.rl.run import TrainingResult, train
from fisherbo.rl.settings import described, settings_of
from fisherbo.sampler import FisherSampler
from fisherbo.sampler.recommend import Recommendation
from fisherbo.tuning.storage import answering, open_storage

SPACE: Mapping[str, BaseDistribution] = {
    "max_kl": FloatDistribution(1e-3, 0.1, log=True),
    "damping": FloatDistribution(1e-4, 1.0, log=True),
    "gae_lambda": FloatDistribution(0.8, 1.0),
}
"""What is tuned: δ in nats, λ added to the Fisher, and λ of the advantages."""

_CONFIG = "fisherbo:policy"


@dataclass(frozen=True, eq=False)
class PolicyTuning:
    """The result of `tune_policy`.

    Attributes:
        study: The Optuna study; its values are mean returns, larger is better.
        recommendation: The evaluated settings of the best posterior mean, with its interval.
    """

    study: optuna.Study
    recommendation: Recommendation

    @property
    def settings(self) -> dict[str, float]:
        """The recommended settings, for `fisherbo.rl.train`."""
        return dict(self.recommendation.params)


def tune_policy(
    environment: EnvironmentLike,
    *,
    steps: int = 30_000,
    n_trials: int = 30,
    episodes: int = 20,
    runs: int = 1,
    seed: int = 0,
    storage: str | BaseStorage | None = None,
    study_name: str | None = None,
    pruner: BasePruner | None = None,
    **settings: Any,
) -> PolicyTuning:
    """Tune TRPO's radius, damping and trace with `FisherSampler`.

    A trial's value is the mean return of whole episodes with the most probable actions after
    training, averaged over ``runs``. A run that diverges is a FAILED trial, and the study goes on.

    Args:
        environment: A Gymnasium id, or a function that makes an environment.
        steps: Steps of each run.
        n_trials: Total number of trials, including those that the study holds already.
        episodes: Episodes of each evaluation.
        runs: Runs of each trial, each with its own seed.
        seed: Seed of the sampler and of all runs.
        storage: Optuna storage, database URL or path of an SQLite file; ``None`` keeps it in
            memory.
        study_name: Name in the storage. Default: the environment's.
        pruner: Stops trials by the mean return of the last 100 episodes of their first run, such as
            a `fisherbo.FisherPruner`. The default is none. Returns while training need not go with
            what the policy is worth in the end: at as many steps every pruner that was tried
            recommends worse settings for short trainings on CartPole-v1, and none significantly
            better or worse ones on Acrobot-v1 (`experiments.policy_curves`).
        **settings: Settings that are the same in each run; see `fisherbo.rl.Settings`.

    Raises:
        InvalidInputError: If an argument breaks its rule, a tuned setting is given, the study was
            made with other arguments, or no trial is complete.
        StorageError: If the storage does not answer.
    """
    for name, value in (("n_trials", n_trials), ("episodes", episodes), ("runs", runs)):
        if value < 1:
            raise InvalidInputError(f"{name} must be >= 1, got {value!r}; 20 is usual")
    fixed = sorted(set(SPACE) & set(settings))
    if fixed:
        raise InvalidInputError(
            f"{', '.join(fixed)} must be left to the study, got a value; leave it out"
        )
    label = environment if isinstance(environment, str) else "environment"
    config = {
        **described("trpo", settings_of("trpo", settings)),
        **{"environment": label, "run_steps": steps, "episodes": episodes},
        **{"runs": runs, "seed": seed},
    }
    opened = open_storage(storage)
    sampler = FisherSampler(seed=seed)
    with answering(type(opened).__name__):
        study = optuna.create_study(
            storage=opened,
            study_name=study_name or f"policy-{label.replace('/', '-')}",
            direction="maximize",
            sampler=sampler,
            pruner=pruner or NopPruner(),
            load_if_exists=True,
        )
        _claim(study, config)

        def objective(trial: optuna.Trial) -> float:
            tuned: dict[str, Any] = {name: _asked(trial, name) for name in SPACE}
            seeds = np.random.SeedSequence([seed, trial.number]).generate_state(runs)
            results = [
                train(
                    environment,
                    steps=steps,
                    seed=int(one),
                    callback=_reporting(trial, steps) if run == 0 else None,
                    **settings,
                    **tuned,
                )
                for run, one in enumerate(seeds)
            ]
            return float(np.mean([_worth(result, environment, episodes) for result in results]))

        study.optimize(objective, n_trials=_missing(study, n_trials), catch=(DivergedError,))
        return PolicyTuning(study, sampler.recommend(study))


def _reporting(trial: optuna.Trial, steps: int) -> Callable[[Update, tuple[Episode, ...]], None]:
    """Reports a run's mean return after each update, and ends the run where the pruner says so."""
    episodes: list[Episode] = []

    def report(update: Update, finished: tuple[Episode, ...]) -> None:
        episodes.extend(finished)
        if not episodes:
            return
        trial.report(float(np.mean([e.value for e in episodes[-WINDOW:]])), update.step)
        if update.step < steps and trial.should_prune():
            raise optuna.TrialPruned(f"pruned at step {update.step}")

    return report


def _asked(trial: optuna.Trial, name: str) -> float:
    distribution = SPACE[name]
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _worth(result: TrainingResult, environment: EnvironmentLike, episodes: int) -> float:
    return float(np.mean(result.agent.evaluate(episodes, environment=environment)))


def _missing(study: optuna.Study, n_trials: int) -> int:
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return max(0, n_trials - len(study.get_trials(deepcopy=False, states=ended)))


def _claim(study: optuna.Study, config: dict[str, Any]) -> None:
    stored = study.user_attrs.get(_CONFIG)
    if stored is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_CONFIG, config)
        return
    stored = stored or {}
    other = [key for key in {**stored, **config} if stored.get(key) != config.get(key)]
    if other:
        changes = "; ".join(f"{k} was {stored.get(k)}, is {config.get(k)}" for k in other)
        raise InvalidInputError(
            f"study {study.study_name!r} was made otherwise: {changes}; "
            "run it as then or choose another study name"
        )
