"""Training of a network on arrays: solvers, weighted rows, epochs, and the end of it.

An epoch goes once through all rows in a random order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.training import KFAC, Report, fit
from fisherbo.tuning.batches import Shuffled
from fisherbo.tuning.losses import Likelihood

Array = NDArray[Any]
Scorer = Callable[[Array], float]
"""Outputs of the validation rows to their score, larger is better."""

SOLVERS = ("kfac", "ekfac", "adam", "sgd")
KL_CLIP = 1.0  # twice the KL divergence that one natural gradient may move the predictions by
LOST = 0.05  # share of what the loss has gained that may be lost again at the end
LEAST_STEPS = 40  # that patience lasts: momentum swings for as long where an epoch is one step
MOST_REPEATS = 20  # rows, by the number of rows given, that whole weights may repeat to

SPACES: Mapping[str, Mapping[str, FloatDistribution]] = {
    "kfac": {
        "learning_rate": FloatDistribution(0.03, 0.3, log=True),
        "damping": FloatDistribution(0.03, 1.0, log=True),
    },
    "ekfac": {
        "learning_rate": FloatDistribution(0.03, 0.3, log=True),
        "damping": FloatDistribution(0.03, 1.0, log=True),
    },
    "adam": {"learning_rate": FloatDistribution(1e-3, 3e-2, log=True)},
    "sgd": {"learning_rate": FloatDistribution(3e-3, 0.3, log=True)},
}
"""What "auto" searches, in scaled units. The middle is what is used where rows are too few."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    solver: str
    learning_rate: float
    damping: float
    momentum: float
    alpha: float
    batch_size: int
    max_iter: int
    tol: float
    patience: int
    seed: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows.

    Attributes:
        x: scaled inputs (n, inputs).
        y: class numbers (n,), labels (n, outputs) or scaled targets (n, outputs); with weights the
            last column of a float tensor (n, 1 + ...) holds them, of mean 1.
        likelihood: whose negative logarithm the loss is.
        weighted: whether `y` has weights.
    """

    x: Tensor
    y: Tensor
    likelihood: Likelihood
    weighted: bool

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Mean negative log likelihood, summed over outputs."""
        weight = None
        if self.weighted:
            y, weight = y[:, :-1], y[:, -1]
            y = y[:, 0].long() if self.likelihood == "categorical" else y
        rows = _losses(output, y, self.likelihood)
        return rows.mean() if weight is None else (weight * rows).mean()

    def take(self, rows: Array) -> Rows:
        """Some of the rows."""
        index = torch.from_numpy(np.asarray(rows))
        return Rows(self.x[index], self.y[index], self.likelihood, self.weighted)


def _losses(output: Tensor, y: Tensor, likelihood: Likelihood) -> Tensor:
    if likelihood == "categorical":
        return functional.cross_entropy(output, y, reduction="none")
    if likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(output, y, reduction="none").sum(1)
    return 0.5 * (output - y).square().sum(1)


def as_rows(x: Array, y: Array, likelihood: Likelihood, weight: Array | None) -> Rows:
    """Rows of scaled inputs and of targets, with weights unless they are None."""
    inputs = torch.from_numpy(x)
    if weight is None:
        kind = torch.int64 if likelihood == "categorical" else torch.float32
        return Rows(inputs, torch.tensor(y, dtype=kind), likelihood, False)
    columns = np.column_stack([y, weight / weight.mean()])
    return Rows(inputs, torch.tensor(columns, dtype=torch.float32), likelihood, True)


def repeats(weight: Array) -> tuple[Array, Array | None]:
    """Row numbers, and weights of them: whole weights repeat rows, others weigh their losses.

    Repeating leaves nothing to approximate, the Fisher information included. Rows of weight 0 are
    left out in any case.
    """
    whole = weight == np.round(weight)
    if whole.all() and weight.sum() <= MOST_REPEATS * len(weight):
        return np.repeat(np.arange(len(weight)), weight.astype(np.int64)), None
    kept = np.flatnonzero(weight)
    if np.ptp(weight[kept]) == 0:
        return kept, None
    return kept, weight[kept]


def canonical_order(x: Array, y: Array, weight: Array | None) -> Array:
    """Order that does not depend on the one that rows come in: by their bytes."""
    columns = [x, y] if weight is None else [x, y, weight]
    table = np.ascontiguousarray(np.column_stack(columns), dtype=np.float64)
    words = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1])))
    return words.ravel().argsort(kind="stable")


def held_out(count: int, classes: Array | None, fraction: float, seed: int) -> tuple[Array, Array]:
    """Training and validation rows, by class where there are validation rows for each.

    The only row of a class is trained on: held out, the network would never see the class.
    """
    rows = np.arange(count)
    if classes is None:
        return train_test_split(rows, random_state=seed, test_size=fraction)
    only = np.bincount(classes)[classes] == 1
    if count - only.sum() < 2:
        only[:] = False
    rest = classes[~only]
    several = np.bincount(rest)[rest].min() > 1
    enough = several and math.ceil(fraction * len(rest)) >= len(np.unique(rest))
    training, held = train_test_split(
        rows[~only],
        random_state=seed,
        test_size=fraction,
        stratify=rest if enough else None,
    )
    return np.concatenate([training, rows[only]]), held


def make_optimizer(
    model: nn.Module, recipe: Recipe, likelihood: Likelihood
) -> torch.optim.Optimizer:
    """The recipe's optimizer of a model's weights."""
    lr, alpha = recipe.learning_rate, recipe.alpha
    if recipe.solver == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=alpha)
    if recipe.solver == "sgd":
        momentum = recipe.momentum
        return torch.optim.SGD(
            model.parameters(), lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=alpha
        )
    return KFAC(
        model,
        likelihood=likelihood,
        lr=lr,
        damping=recipe.damping,
        momentum=recipe.momentum,
        weight_decay=alpha,
        kl_clip=KL_CLIP,
        eigen_correction=recipe.solver == "ekfac",
        recover=True,
        distributed=False,
        seed=recipe.seed,
    )


class _EndedError(Exception):
    """The run is over before its last epoch."""


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
        losses: mean training loss of each epoch.
        scores: validation score of each epoch.
        converged: whether it ended before the last epoch.
        best: weights after the epoch of the best validation score, or else of the least loss.
    """

    rows: Rows
    recipe: Recipe
    validation: tuple[Tensor, Scorer] | None
    on_epoch: Callable[[Epoch], bool]
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    converged: bool = False
    best: dict[str, Tensor] | None = None
    _evaluated: list[float] = field(default_factory=list)
    _record: float = -math.inf
    _stale: int = 0
    _patience: int = 1

    def run(self, model: nn.Module, optimizer: torch.optim.Optimizer, shuffle_seed: int) -> None:
        """Train the model until the end.

        Raises:
            DivergedError: the loss left the finite numbers and did not come back.
        """
        rows, recipe = self.rows, self.recipe
        size = min(recipe.batch_size, len(rows.x))
        generator = torch.Generator().manual_seed(shuffle_seed)
        every = math.ceil(len(rows.x) / size)
        self._patience = max(recipe.patience, math.ceil(LEAST_STEPS / every))
        try:
            fit(
                model,
                optimizer,
                self._loss,
                Shuffled(rows.x, rows.y, size, generator),
                max_steps=recipe.max_iter * every,
                report_every=every,
                callbacks=[self._epoch],
            )
        except _EndedError:
            self.converged = True
        if self.best is not None and (self.validation is not None or self._went_astray()):
            model.load_state_dict(self.best)

    def _went_astray(self) -> bool:
        """Whether the loss ends far above its least; a rise within the noise of batches is none."""
        least = min(self.losses)
        return self.losses[-1] - least > LOST * (self.losses[0] - least)

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        loss = self.rows.loss(output, y)
        if loss.requires_grad:
            self._evaluated.append(float(loss.detach()) * len(y))
        return loss

    def _epoch(self, report: Report) -> None:
        """After an epoch; the first batch of the next one is evaluated already, unless it ended."""
        if report.point.step == 0:
            return
        last = report.point.step == report.max_steps
        done = self._evaluated if last else self._evaluated[:-1]
        self.losses.append(math.fsum(done) / len(self.rows.x))
        self._evaluated = [] if last else self._evaluated[-1:]
        value = -self.losses[-1]
        if self.validation is not None:
            value = self._validate(report.model)
        if value > self._record:
            self.best = {name: w.clone() for name, w in report.model.state_dict().items()}
        improved = value >= self._record + self.recipe.tol
        self._stale = 0 if improved or not math.isfinite(self._record) else self._stale + 1
        self._record = max(self._record, value)
        ended = self._stale >= self._patience
        epoch = Epoch(len(self.losses), self.losses[-1], report.model, last or ended)
        if self.on_epoch(epoch) or ended:
            raise _EndedError

    def _validate(self, model: nn.Module) -> float:
        assert self.validation is not None
        x, score = self.validation
        model.eval()
        with torch.no_grad():
            output = model(x)
        model.train()
        self.scores.append(score(output.numpy().astype(np.float64)))
        return self.scores[-1]
