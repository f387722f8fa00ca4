"""Training rows with weights, and the optimizers that networks are trained by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.training import KFAC
from fisherbo.tuning.losses import Likelihood

Array = NDArray[Any]
Scorer = Callable[[Array], float]
"""Outputs of the validation rows to their score, larger is better."""

SOLVERS = ("kfac", "ekfac", "adam", "sgd")
KL_CLIP = 0.03  # twice the KL divergence that one natural gradient may move the predictions by
MOST_REPEATS = 20  # rows, by the number of rows given, that whole weights may repeat to
FACTOR_INTERVAL = 10  # steps; updates of the factors cost more than the steps between them
INTERVAL_WIDTH = 40  # inputs of a layer for a step of the interval, where that is longer

SPACES: Mapping[str, Mapping[str, FloatDistribution]] = {
    "kfac": {
        "learning_rate": FloatDistribution(0.1, 1.0, log=True),
        "damping": FloatDistribution(5e-4, 5e-2, log=True),
    },
    "ekfac": {
        "learning_rate": FloatDistribution(0.1, 1.0, log=True),
        "damping": FloatDistribution(5e-4, 5e-2, log=True),
    },
    "adam": {"learning_rate": FloatDistribution(1e-3, 3e-2, log=True)},
    "sgd": {"learning_rate": FloatDistribution(3e-3, 0.3, log=True)},
}
"""What "auto" is the middle of, or searches with trials, in scaled units."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        alpha: weight decay; with `by_evidence` where it begins.
        by_evidence: whether the weight decay follows the evidence.
        patience: epochs of the first round; None is a number of steps.
    """

    solver: str
    learning_rate: float
    damping: float
    momentum: float
    alpha: float
    by_evidence: bool
    batch_size: int
    max_iter: int
    tol: float
    patience: int | None
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
    interval = max(w.shape[-1] for w in model.parameters()) // INTERVAL_WIDTH
    return KFAC(
        model,
        likelihood=likelihood,
        lr=lr,
        damping=recipe.damping,
        momentum=recipe.momentum,
        weight_decay=alpha,
        kl_clip=KL_CLIP,
        factor_interval=max(FACTOR_INTERVAL, interval),
        inverse_interval=interval or None,
        eigen_correction=recipe.solver == "ekfac",
        recover=True,
        distributed=False,
        seed=recipe.seed,
    )
