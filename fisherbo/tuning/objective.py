"""One trial is one training run with a budget of steps and of CPU seconds.

The value of a trial, which the study minimises:

    target reached        log10(steps to the target)
    target not reached    log10(step budget) + log10(best loss / target)
    no target             loss at the end: mean of the last tenth of the reports; with further folds
                          the mean of it and of their last losses

The second line continues the first: it is equal where the target is reached at the last step. A run
that ends by its CPU seconds is scored by the step budget like one that ends by its steps.
Intermediate values are, with a target, the best loss so far at a step, else the mean of the last
reports, so that trials compare at equal steps. The loss at the end is that of the model which the
run leaves; a run that was good once, by chance or before it became unstable, is not.

A run explodes where, after the first tenth of its steps, its loss is above the first one by ten
times that or more. It has diverged and fails, whatever its least loss was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from fisherbo.errors import DivergedError, InvalidInputError, NumericalError
from fisherbo.training import Report, StepReport, TracePoint, TrainingResult, fit
from fisherbo.training.checkpoint import generator_states, set_generator_states
from fisherbo.tuning import record
from fisherbo.tuning.batches import Source, mean_loss
from fisherbo.tuning.interrupt import check
from fisherbo.tuning.losses import Loss
from fisherbo.tuning.resume import Checkpoints
from fisherbo.tuning.search_spaces import Setting, TunableOptimizer

REPORTS = 60  # reports of a run that uses up its steps
CHECKPOINTS = 20  # checkpoints of such a run
EXPLOSION = 10.0  # times the first loss
SCHEDULES = ("constant", "linear")
FAILURES = (NumericalError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]  # not in stubs


@dataclass(frozen=True)
class Budget:
    """Limits of one training run; CPU seconds are those of all threads of the process."""

    max_steps: int
    max_seconds: float

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InvalidInputError(f"max_steps must be at least 1, got {self.max_steps}")
        if not self.max_seconds > 0:
            raise InvalidInputError(f"max_seconds must be > 0, got {self.max_seconds}")

    @property
    def report_every(self) -> int:
        """Steps from one report to the next."""
        return max(1, self.max_steps // REPORTS)

    @property
    def window(self) -> int:
        """Reports, of a run that uses up its steps, whose mean is the loss at the end."""
        return max(1, self.max_steps // self.report_every // 10)

    @property
    def checkpoint_every(self) -> int:
        """Steps from one checkpoint to the next."""
        return max(1, self.max_steps // CHECKPOINTS)


@dataclass(frozen=True, eq=False)
class Fold:
    """Other training rows and what is measured after them, for cross-validation.

    Attributes:
        build_model: returns a new model of these rows.
        training: their batches.
        measure: the metric on the rows that they leave out.
    """

    build_model: Callable[[], nn.Module]
    training: Source
    measure: Callable[[nn.Module], float]


@dataclass(frozen=True, eq=False)
class Objective:
    """Function from a trial to its value; everything about the problem but the tuned parameters."""

    build_model: Callable[[], nn.Module]
    optimizer: TunableOptimizer
    setting: Setting
    loss: Loss
    training: Source
    validation: Source | None
    budget: Budget
    offset: float
    target: float | None
    checkpoints: Checkpoints | None = None
    measured: Callable[[nn.Module], float] | None = None
    schedule: str = "constant"
    folds: Sequence[Fold] = ()

    def __call__(self, trial: optuna.Trial) -> float:
        """Value of the trial after one training run, whose record is stored in the trial.

        Raises:
            TrialPruned: the study's pruner ended the run.
            NumericalError: the run left the finite numbers; the reason is stored in the trial.
        """
        journal = _Journal(trial, self.offset, self.target, self.budget)
        parameters = self.optimizer.suggest(trial)
        path = None if self.checkpoints is None else self.checkpoints.begin(trial)
        try:
            with seeded(self.setting.seed):
                _, result = self._train(parameters, [journal], path)
            further = [self._last_loss(fold, parameters) for fold in self.folds]
        except (optuna.TrialPruned, *FAILURES) as error:
            failed = not isinstance(error, optuna.TrialPruned)
            record.write(trial, journal.cut_short("failed" if failed else "pruned"))
            if failed:
                record.write_failure(trial, error)
            self._end(trial, pruned=not failed)
            raise
        run = journal.complete(result, further)
        record.write(trial, run)
        self._end(trial)
        return score(run, self.target, self.budget.max_steps)

    def model(self, parameters: Mapping[str, Any], steps: int) -> nn.Module:
        """The model that a run of so many steps leaves, in evaluation mode.

        On the same data it is, to the bit, the model of the trial that took these steps.

        Raises:
            NumericalError: the run left the finite numbers.
        """
        unlimited = replace(self, target=None, budget=replace(self.budget, max_seconds=math.inf))
        with seeded(self.setting.seed):
            model, _ = unlimited._train(parameters, [], None, max(1, steps))
        return model.eval()

    def _last_loss(self, fold: Fold, parameters: Mapping[str, Any]) -> float:
        """The metric after a run on another fold."""
        of_fold = replace(
            self, build_model=fold.build_model, training=fold.training, measured=fold.measure
        )
        with seeded(self.setting.seed):
            _, result = of_fold._train(parameters, [], None, report_every=self.budget.max_steps)
        return result.trace[-1].loss - self.offset

    def _train(
        self,
        parameters: Mapping[str, Any],
        callbacks: Sequence[Callable[[Report], object]],
        path: Path | None,
        steps: int | None = None,
        report_every: int | None = None,
    ) -> tuple[nn.Module, TrainingResult]:
        """The model after a run, which ends early where `steps` are given."""
        model = self.build_model()
        optimizer = self.optimizer.make(model, parameters, self.setting)
        result = fit(
            model,
            optimizer,
            self.loss.function,
            self.training.fresh(),
            max_steps=steps or self.budget.max_steps,
            max_seconds=self.budget.max_seconds,
            target=None if self.target is None else self.target + self.offset,
            measure=self._measure(),
            report_every=report_every or self.budget.report_every,
            callbacks=callbacks,
            scheduler=self._scheduler(optimizer),
            checkpoint=path,
            checkpoint_every=self.budget.checkpoint_every,
        )
        return model, result

    def _scheduler(self, optimizer: torch.optim.Optimizer) -> LambdaLR | None:
        """Of the learning rate: none, or down to zero at the last step of the budget."""
        if self.schedule == "constant":
            return None
        return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / self.budget.max_steps))

    def _end(self, trial: optuna.Trial, *, pruned: bool = False) -> None:
        if self.checkpoints is not None:
            (self.checkpoints.freeze if pruned else self.checkpoints.end)(trial)

    def _measure(self) -> Callable[[nn.Module], float] | None:
        """Loss over all rows that the metric is about; None where the batch loss is just that."""
        if self.measured is not None:
            return self.measured
        if self.validation is not None:
            return mean_loss(self.validation.fresh(), self.loss.function)
        if self.training.full:
            return None
        return mean_loss(self.training.fresh(), self.loss.function)


class _Journal:
    """Tells a trial of its run as it goes on, and keeps what its record will hold."""

    def __init__(
        self, trial: optuna.Trial, offset: float, target: float | None, budget: Budget
    ) -> None:
        self._trial = trial
        self._offset, self._target, self._budget = offset, target, budget
        self._trace: list[TracePoint] = []
        self._curvature: dict[int, StepReport] = {}

    def __call__(self, report: Report) -> None:
        """One report of the run; the first one of a run that goes on tells of all before it."""
        if report.last_step is not None:
            self._curvature[report.point.step] = report.last_step
        for point in report.trace[len(self._trace) :]:
            self._trace.append(replace(point, loss=point.loss - self._offset))
            self._trial.report(self._so_far(), point.step)
        check()
        last = self._trace[-1]
        self._require_calm(last)
        reached = self._target is not None and last.loss <= self._target
        if not reached and last.step < self._budget.max_steps and self._trial.should_prune():
            raise optuna.TrialPruned(f"pruned at step {last.step}")

    def _so_far(self) -> float:
        """Intermediate value at the last report."""
        losses = [point.loss for point in self._trace]
        return min(losses) if self._target is not None else self._smoothed()

    def _smoothed(self) -> float:
        """Mean loss of the last reports."""
        last = self._trace[-self._budget.window :]
        return math.fsum(point.loss for point in last) / len(last)

    def _require_calm(self, last: TracePoint) -> None:
        """Pass unless the run exploded.

        Raises:
            DivergedError: it did.
        """
        first = self._trace[0].loss + self._offset
        risen = last.loss + self._offset - first
        if last.step > self._budget.max_steps / 10 and risen > EXPLOSION * abs(first):
            raise DivergedError(
                f"the run exploded: the loss was {first:.3g} at first and is "
                f"{last.loss + self._offset:.3g} after {last.step} steps; lower lr"
            )

    def complete(self, result: TrainingResult, further: Sequence[float]) -> record.Run:
        """The record of a run that came to its end, and of the last losses of further folds."""
        ends = [self._smoothed(), *further]
        return record.Run(
            trace=tuple(self._trace),
            best_loss=result.best_loss - self._offset,
            final_loss=math.fsum(ends) / len(ends),
            steps=result.steps,
            cpu_seconds=result.cpu_seconds,
            stopped=result.stopped,
            steps_to_target=result.steps_to_target,
            cpu_seconds_to_target=result.cpu_seconds_to_target,
            curvature=self._curvature,
        )

    def cut_short(self, stopped: str) -> record.Run:
        """The record of a run that was pruned or failed."""
        last = self._trace[-1] if self._trace else TracePoint(0, math.inf, 0.0)
        best = min((point.loss for point in self._trace), default=math.inf)
        return record.Run(
            trace=tuple(self._trace),
            best_loss=best,
            final_loss=self._smoothed() if self._trace else math.inf,
            steps=last.step,
            cpu_seconds=last.cpu_seconds,
            stopped=stopped,
            curvature=self._curvature,
        )


def score(run: record.Run, target: float | None, max_steps: int) -> float:
    """Value of a run, as the head of this module defines it."""
    if target is None:
        return run.final_loss
    if run.steps_to_target is not None:
        return math.log10(max(1, run.steps_to_target))
    return math.log10(max_steps) + math.log10(max(run.best_loss / target, 1.0))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's CPU generator at `seed`; after it, all global ones are set back."""
    before = generator_states(None)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        set_generator_states(before, None)
