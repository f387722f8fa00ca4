"""What a tuning study found: a frozen reading of the study's trials."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.training import TracePoint
from fisherbo.tuning import record

CONFIG = "fisherbo"  # user attribute of the study: what makes it the same study


@dataclass(frozen=True)
class Counts:
    """Numbers of trials by how they ended; interrupted ones are not counted."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    reached: int = 0

    @property
    def done(self) -> int:
        """Trials that count towards the study's total."""
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True, eq=False)
class TuningResult:
    """Outcome of `tune_training`.

    Attributes:
        study: the Optuna study.
        optimizer: name of the tuned optimizer.
        metric: what the loss is called: "excess", "validation loss", "training loss".
        target: value of the metric to reach, or None.
        max_steps: step budget of a trial.
        counts: trials by how they ended, and how many reached the target.
        best_trial: complete trial of the least value, or None.
        run: the record of that trial's training run, or None.
        config: what the study was made with.
    """

    study: optuna.Study
    optimizer: str
    metric: str
    target: float | None
    max_steps: int
    counts: Counts
    best_trial: FrozenTrial | None
    run: record.Run | None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of the best trial; empty without one."""
        return dict(self.best_trial.params) if self.best_trial else {}

    @property
    def best_value(self) -> float | None:
        """Value of the best trial, as `fisherbo.tuning.objective` defines it."""
        return self.best_trial.value if self.best_trial else None

    @property
    def best_loss(self) -> float | None:
        """Least value of the metric in the best trial's run."""
        return self.run.best_loss if self.run else None

    @property
    def steps_to_target(self) -> int | None:
        """Steps to the target of the best trial's run."""
        return self.run.steps_to_target if self.run else None

    @property
    def cpu_seconds_to_target(self) -> float | None:
        """CPU seconds to the target of the best trial's run."""
        return self.run.cpu_seconds_to_target if self.run else None

    @property
    def trace(self) -> tuple[TracePoint, ...]:
        """The metric against steps and CPU seconds in the best trial's run."""
        return self.run.trace if self.run else ()


def result_of(study: optuna.Study) -> TuningResult:
    """Result of a study that `tune_training` made.

    Raises:
        InvalidInputError: the study was not made by `tune_training`.
    """
    config = study.user_attrs.get(CONFIG)
    if config is None:
        raise InvalidInputError(
            f"study {study.study_name!r} was not made by tune_training; give one that was"
        )
    trials = study.get_trials(deepcopy=False)
    best = _best(trials)
    return TuningResult(
        study=study,
        optimizer=config["optimizer"],
        metric=config["metric"],
        target=config["target"],
        max_steps=config["max_steps"],
        counts=count(trials),
        best_trial=best,
        run=record.read(best) if best else None,
        config=config,
    )


def count(trials: list[FrozenTrial]) -> Counts:
    """Numbers of trials by how they ended."""
    states = Counter(trial.state for trial in trials if record.is_done(trial))
    return Counts(
        complete=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        running=sum(trial.state == TrialState.RUNNING for trial in trials),
        reached=sum(trial.user_attrs.get("steps_to_target") is not None for trial in trials),
    )


def failures(study: optuna.Study) -> list[str]:
    """Why trials failed by themselves, the latest first."""
    reasons = [record.failure(trial) for trial in reversed(study.get_trials(deepcopy=False))]
    return [reason for reason in reasons if reason is not None]


def _best(trials: list[FrozenTrial]) -> FrozenTrial | None:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)
