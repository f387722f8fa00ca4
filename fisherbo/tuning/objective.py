"""One trial is one training run with a budget of steps and of CPU seconds.

The value of a trial, which the study minimises:

    target reached        log10(steps to the target)
    target not reached    log10(step budget) + log10(best loss / target)
    no target             best loss

The second line continues the first: it is equal where the target is reached at the last step. A run
that ends by its CPU seconds is scored by the step budget like one that ends by its steps.
Intermediate values are the best loss so far at a step, so that trials compare at equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import optuna
import torch
from torch import nn

from fisherbo.errors import InvalidInputError, NumericalError
from fisherbo.training import Report, TracePoint, TrainingResult, fit
from fisherbo.tuning import record
from fisherbo.tuning.batches import Source, mean_loss
from fisherbo.tuning.interrupt import check
from fisherbo.tuning.losses import Loss
from fisherbo.tuning.search_spaces import Setting, TunableOptimizer

REPORTS = 60  # reports of a run that uses up its steps
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

    def __call__(self, trial: optuna.Trial) -> float:
        """Value of the trial after one training run, whose record is stored in the trial.

        Raises:
            TrialPruned: the study's pruner ended the run.
            NumericalError: the run left the finite numbers; the reason is stored in the trial.
        """
        trace: list[TracePoint] = []
        parameters = self.optimizer.suggest(trial)
        try:
            with seeded(self.setting.seed):
                result = self._train(trial, parameters, trace)
        except (optuna.TrialPruned, *FAILURES) as error:
            failed = not isinstance(error, optuna.TrialPruned)
            record.write(trial, _cut_short(trace, "failed" if failed else "pruned"))
            if failed:
                record.write_failure(trial, error)
            raise
        run = _run(result, trace, self.offset)
        record.write(trial, run)
        return score(run, self.target, self.budget.max_steps)

    def _train(
        self, trial: optuna.Trial, parameters: dict[str, float], trace: list[TracePoint]
    ) -> TrainingResult:
        model = self.build_model()
        optimizer = self.optimizer.build(model, parameters, self.setting)
        return fit(
            model,
            optimizer,
            self.loss.function,
            self.training.fresh(),
            max_steps=self.budget.max_steps,
            max_seconds=self.budget.max_seconds,
            target=None if self.target is None else self.target + self.offset,
            measure=self._measure(),
            report_every=self.budget.report_every,
            callbacks=[lambda report: self._report(trial, report, trace)],
        )

    def _measure(self) -> Callable[[nn.Module], float] | None:
        """Loss over all rows that the metric is about; None where the batch loss is just that."""
        if self.validation is not None:
            return mean_loss(self.validation.fresh(), self.loss.function)
        if self.training.full:
            return None
        return mean_loss(self.training.fresh(), self.loss.function)

    def _report(self, trial: optuna.Trial, report: Report, trace: list[TracePoint]) -> None:
        point = replace(report.point, loss=report.point.loss - self.offset)
        trace.append(point)
        check()
        trial.report(min(point.loss for point in trace), point.step)
        reached = self.target is not None and point.loss <= self.target
        if not reached and point.step < self.budget.max_steps and trial.should_prune():
            raise optuna.TrialPruned(f"pruned at step {point.step}")


def score(run: record.Run, target: float | None, max_steps: int) -> float:
    """Value of a run, as the head of this module defines it."""
    if target is None:
        return run.best_loss
    if run.steps_to_target is not None:
        return math.log10(max(1, run.steps_to_target))
    return math.log10(max_steps) + math.log10(max(run.best_loss / target, 1.0))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's CPU generator at `seed`, and set it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _run(result: TrainingResult, trace: list[TracePoint], offset: float) -> record.Run:
    return record.Run(
        trace=tuple(trace),
        best_loss=result.best_loss - offset,
        steps=result.steps,
        cpu_seconds=result.cpu_seconds,
        stopped=result.stopped,
        steps_to_target=result.steps_to_target,
        cpu_seconds_to_target=result.cpu_seconds_to_target,
    )


def _cut_short(trace: list[TracePoint], stopped: str) -> record.Run:
    last = trace[-1] if trace else TracePoint(0, math.inf, 0.0)
    best = min((point.loss for point in trace), default=math.inf)
    return record.Run(tuple(trace), best, last.step, last.cpu_seconds, stopped)
