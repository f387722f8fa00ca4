"""What a tuning study found: a frozen reading of the study's trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from torch import nn
from torch.optim import Optimizer

from fisherbo.errors import InvalidInputError
from fisherbo.training import TracePoint
from fisherbo.tuning import record
from fisherbo.tuning.objective import Objective
from fisherbo.tuning.record import CONFIG as CONFIG
from fisherbo.tuning.search_spaces import OPTIMIZERS, Setting, TunableOptimizer, recorded


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
        config: the configuration that the study was made with.
        objective: what its trials run, if `tune_training` returned this.
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
    objective: Objective | None = None

    @property
    def best_params(self) -> dict[str, Any]:
        """Keyword arguments of the best trial's optimizer; empty without one.

        They are as the optimizer's own class takes them: ``fisherbo.KFAC(model, **best_params)``,
        ``torch.optim.Adam(model.parameters(), **best_params)``. The point that was searched, where
        1 - momentum stands for the momentum, is in ``best_trial.params``.
        """
        if self.best_trial is None:
            return {}
        return self._written(self.best_trial.params)

    @property
    def best_call(self) -> str:
        """The best trial's optimizer as a line of Python for a variable ``model``."""
        known = self.objective is not None or self.optimizer in OPTIMIZERS
        made_by = (self._tunable().made_by if known else "") or f"{self.optimizer}(model"
        values = ", ".join(f"{name}={_literal(v)}" for name, v in self.best_params.items())
        return f"{made_by}, {values})"

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record for each trial, in order: what it tried and how it ended.

        A pandas.DataFrame can be made of the list. Its keys are number, state, value, loss (at the
        end), steps, cpu_seconds, failure (why it failed, or None), and the keyword arguments of its
        optimizer.
        """
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            run = record.read(trial)
            found.append(
                {
                    "number": trial.number,
                    "state": trial.state.name,
                    "value": trial.value if trial.state == TrialState.COMPLETE else None,
                    "loss": run.final_loss if run else None,
                    "steps": run.steps if run else None,
                    "cpu_seconds": run.cpu_seconds if run else None,
                    "failure": record.failure(trial),
                    **(self._written(trial.params) if trial.params else {}),
                }
            )
        return found

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """The best trial's optimizer for the weights of a model.

        Raises:
            InvalidInputError: no trial is complete.
        """
        return self._tunable().make(model, self._best().params, self._setting())

    def best_model(self) -> nn.Module:
        """The best trial's model, in evaluation mode.

        It is trained again as in the trial: on the same data, with the same seed and as many steps.

        Raises:
            InvalidInputError: no trial is complete, or the result is of a study that was only read.
        """
        best = self._best()
        if self.objective is None:
            raise InvalidInputError(
                "best_model needs the data and the model of the study, which its storage does not "
                "hold; run tune_training with the same arguments, it only returns what is there"
            )
        return self.objective.model(best.params, self.run.steps if self.run else 1)

    def _best(self) -> FrozenTrial:
        if self.best_trial is None:
            raise InvalidInputError(
                f"study {self.study.study_name!r} has no complete trial; run more of them"
            )
        return self.best_trial

    def _written(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments at a point; the point itself of an optimizer that is not known here."""
        if self.objective is None and self.optimizer not in OPTIMIZERS:
            return dict(params)
        return self._tunable().written(params, self._setting())

    def _tunable(self) -> TunableOptimizer:
        """The optimizer; of a study that was only read the one of its name."""
        if self.objective is not None:
            return self.objective.optimizer
        return recorded(self.config)[0]

    def _setting(self) -> Setting:
        if self.objective is not None:
            return self.objective.setting
        return recorded(self.config)[1]

    @property
    def best_value(self) -> float | None:
        """Value of the best trial, as `fisherbo.tuning.objective` defines it."""
        return self.best_trial.value if self.best_trial else None

    @property
    def best_loss(self) -> float | None:
        """Least value of the metric in the best trial's run."""
        return self.run.best_loss if self.run else None

    @property
    def final_loss(self) -> float | None:
        """The metric at the end of the best trial's run."""
        return self.run.final_loss if self.run else None

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


def _literal(value: Any) -> str:
    """A value as Python writes it, numbers to four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))})"
    return repr(value)


def failures(study: optuna.Study) -> list[str]:
    """Why trials failed by themselves, the latest first."""
    reasons = [record.failure(trial) for trial in reversed(study.get_trials(deepcopy=False))]
    return [reason for reason in reasons if reason is not None]


def _best(trials: list[FrozenTrial]) -> FrozenTrial | None:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)
