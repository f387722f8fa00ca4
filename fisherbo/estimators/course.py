"""The course of a training: rounds in which the learning rate falls to zero, and their end.

A round is as long as all before it together; in each the learning rate falls linearly from its full
value to zero. So the loss at the end of a round is what a training of this length reaches, without
the noise of a large learning rate. ρ = g₂/g₁, the ratio of the gains of two rounds, tells what
further rounds would gain. Where every step has all rows, what is left to gain shrinks by about the
same factor in each, so that ρ is squared from one round to the next, which is twice as long: they
gain less than g₂ρ²/(1 − ρ²). With minibatches gains shrink as a power of time and ρ stays: they
gain g₂ρ/(1 − ρ). Training has converged where that is less than the tolerance, a share of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from fisherbo.estimators import evidence
from fisherbo.estimators.learning import Recipe, Rows, Scorer
from fisherbo.training import Report, fit
from fisherbo.tuning.batches import Batch, Shuffled

FIRST_STEPS = 25  # of the first round, which lasts for an epoch at least
LEAST_RATIO = 1 / 3  # of gains: one round that happens to gain little ends nothing
LEAST_LOSS = 0.02  # that the tolerance is a share of: loss below it matters little
UPDATES = 5  # of the weight decay in a round
UPDATE_STEPS = 10  # from one of them to the next, at least


class _StoppedError(Exception):
    """A callback ends the run."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """The end of an epoch: its number from 1, its mean loss, and whether it is the last one."""

    number: int
    loss: float
    model: nn.Module
    last: bool


@dataclass(eq=False)
class Course:
    """What happens from epoch to epoch.

    Attributes:
        rows: training rows.
        recipe: how it is trained.
        validation: inputs of the validation rows and their scorer, for early stopping.
        on_epoch: called after each epoch; whether to stop.
        annealed: whether the learning rate falls, or stays at its full value.
        alpha: weight decay, as it now is.
        losses: mean training loss of each epoch.
        scores: validation score of each epoch.
        converged: whether further rounds would gain less than the tolerance, or a callback stopped.
    """

    rows: Rows
    recipe: Recipe
    validation: tuple[Tensor, Scorer] | None = None
    on_epoch: Callable[[Epoch], bool] = lambda epoch: False
    annealed: bool = True
    alpha: float = field(init=False)
    losses: list[float] = field(init=False, default_factory=list)
    scores: list[float] = field(init=False, default_factory=list)
    converged: bool = field(init=False, default=False)
    _evaluated: list[float] = field(init=False, default_factory=list)
    _since_update: int = field(init=False, default=0)
    _record: float = field(init=False, default=-math.inf)
    _end_of_round: tuple[float, float] | None = field(init=False, default=None)
    _gained: float = field(init=False, default=math.inf)
    _best: dict[str, Tensor] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.alpha = self.recipe.alpha

    def run(self, model: nn.Sequential, optimizer: torch.optim.Optimizer, seed: int) -> None:
        """Train the model until a round gains nothing, or for as many epochs as there may be.

        Raises:
            DivergedError: the loss left the finite numbers and did not come back.
        """
        rows = self.rows
        size = even_size(len(rows.x), self.recipe.batch_size)
        every = math.ceil(len(rows.x) / size)
        batches: Iterable[Batch] = [(rows.x, rows.y)]
        if every > 1:
            batches = Shuffled(rows.x, rows.y, size, torch.Generator().manual_seed(seed))
        self._draws = torch.Generator().manual_seed(seed)
        length = self.recipe.patience or math.ceil(FIRST_STEPS / every)
        try:
            while not self.converged and len(self.losses) < self.recipe.max_iter:
                epochs = min(length, self.recipe.max_iter - len(self.losses))
                self._round(model, optimizer, batches, epochs * every, every)
                length = len(self.losses)
        except _StoppedError:
            self.converged = True
        if self._best is not None:
            model.load_state_dict(self._best)

    def _round(
        self,
        model: nn.Sequential,
        optimizer: torch.optim.Optimizer,
        batches: Iterable[Batch],
        steps: int,
        every: int,
    ) -> None:
        fit(
            model,
            optimizer,
            self._loss,
            _endless(batches),
            max_steps=steps,
            report_every=every,
            callbacks=[lambda report: self._epoch(report, model, every)],
            scheduler=LambdaLR(optimizer, lambda t: 1 - t / steps) if self.annealed else None,
        )

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        loss = self.rows.loss(output, y)
        if loss.requires_grad:
            self._evaluated.append(float(loss.detach()) * len(y))
        return loss

    def _epoch(self, report: Report, model: nn.Sequential, every: int) -> None:
        """After an epoch; the first batch of the next one is evaluated already in its round."""
        if report.point.step == 0:
            return
        ended = report.point.step == report.max_steps
        done = self._evaluated if ended else self._evaluated[:-1]
        self.losses.append(math.fsum(done) / len(self.rows.x))
        self._evaluated = [] if ended else self._evaluated[-1:]
        if self.validation is not None:
            self._validate(model)
        self._since_update += every
        if self._since_update >= max(UPDATE_STEPS, report.max_steps / UPDATES):
            self._update_decay(model, report.optimizer)
        if ended:
            gain, value = self._gain(model)
            left = self._left(gain, minibatches=every > 1)
            self.converged = left < self.recipe.tol * max(value, LEAST_LOSS)
        last = ended and (self.converged or len(self.losses) == self.recipe.max_iter)
        if self.on_epoch(Epoch(len(self.losses), self.losses[-1], model, last)):
            raise _StoppedError

    def _update_decay(self, model: nn.Sequential, optimizer: torch.optim.Optimizer) -> None:
        self._since_update = 0
        if not self.recipe.by_evidence:
            return
        self.alpha = evidence.updated(self.alpha, model, self.rows, self._draws)
        for group in optimizer.param_groups:
            group["weight_decay"] = self.alpha

    def _gain(self, model: nn.Sequential) -> tuple[float, float]:
        """What the round gained, and of how much: training loss with its penalty as it is now.

        With early stopping it is the error, one less the score. The better end of the two rounds is
        kept.
        """
        if self.validation is not None:
            before, self._record = self._record, max(self.scores)
            return self._record - before, 1 - self._record
        end = self._mean_loss(model), evidence.squared_norm(model)
        value = self._objective(*end)
        before = math.inf if self._end_of_round is None else self._objective(*self._end_of_round)
        if value < before:
            self._end_of_round = end
            self._best = _weights(model)
        return before - value, value

    def _left(self, gain: float, *, minibatches: bool) -> float:
        """What further rounds would gain; infinite before the third."""
        before, self._gained = self._gained, gain
        if math.isinf(before):
            return math.inf
        if gain <= 0:
            return gain
        ratio = max(gain / before, LEAST_RATIO) if before > 0 else math.inf
        if not minibatches:
            ratio = ratio**2
        return gain * ratio / (1 - ratio) if ratio < 1 else math.inf

    def _mean_loss(self, model: nn.Module) -> float:
        """Over all training rows, which an epoch's mean is not: weights change during it."""
        rows, size = self.rows, self.recipe.batch_size
        model.eval()
        with torch.no_grad():
            parts = zip(rows.x.split(size), rows.y.split(size), strict=True)
            total = math.fsum(float(rows.loss(model(x), y)) * len(x) for x, y in parts)
        model.train()
        return total / len(rows.x)

    def _objective(self, loss: float, squared_norm: float) -> float:
        return loss + self.alpha / 2 * squared_norm

    def _validate(self, model: nn.Module) -> None:
        assert self.validation is not None
        x, score = self.validation
        model.eval()
        with torch.no_grad():
            output = model(x)
        model.train()
        value = score(output.numpy().astype(np.float64))
        if not self.scores or value > max(self.scores):
            self._best = _weights(model)
        self.scores.append(value)


def even_size(count: int, most: int) -> int:
    """Rows of a batch, about `most`, so that an epoch's batches are as equal as they can be."""
    return math.ceil(count / max(1, round(count / most)))


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: w.clone() for name, w in model.state_dict().items()}
