"""Tasks: what is learned from a table, by which model, measured how.

- autoencoder: Bernoulli cross-entropy summed over columns scaled to [0, 1]; the metric is the
  excess over the entropy of the data, the least value that the loss can take.
- classification: cross-entropy; the metric is the log loss of the validation rows.
- regression: half the squared error of the standardised target; the metric is the root mean square
  of the validation rows' errors, in the target's units.

Classification and regression keep a fifth of the rows for validation and a fifth for the test; the
learning rate falls to zero, and the weight decay is tuned too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.tuning.batches import FULL_BATCH_ROWS, Batch, as_source
from fisherbo.tuning.losses import LOSSES, Loss
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.objective import Fold
from fisherbo.tuning.search_spaces import TunableOptimizer, as_optimizer, of_table
from fisherbo.tuning.table import Table
from fisherbo.tuning.tables import encoder, supervised
from fisherbo.tuning.tables.columns import examine
from fisherbo.tuning.tables.supervised import Choices, Fitted, Supervised
from fisherbo.tuning.tables.values import Array

TASKS = ("autoencoder", "classification", "regression")
AUTOENCODER_HIDDEN = (128, 64, 32, 8)
NETWORK_HIDDEN = (64, 32)
DIGITS_TARGET = 3.0  # excess in nats; Adam's best run needs some 5000 steps to get there
EVERYTHING = Choices()  # as they come
BATCH_ROWS = 1024  # of a step on more than 4096 rows
EPOCHS = 10  # at least, where batches are smaller than the rows


@dataclass(frozen=True, eq=False)
class Task:
    """One learning problem, ready to be trained on.

    Attributes:
        name: name of the data and of the task, as in "digits-autoencoder".
        build_model: returns a new model, equal weights each time.
        train: all training rows (x, y).
        validation: rows held out, or None where the training loss is the metric.
        loss: the loss that is minimised.
        offset: subtracted from the loss to give the metric.
        metric: what the metric is called in tables and figures.
        target: value of the metric to reach, or None.
        config: what makes two studies of this task the same study.
        schedule: of the learning rate.
        measure: the metric, where it is not the loss.
        batch_size: rows of a step unless the user gives another number.
        min_steps: steps of a trial at least, unless the user gives another budget.
        folds: further training and validation rows of a small table.
        learned: the table with its split and preprocessing; None for an autoencoder.
    """

    name: str
    build_model: Callable[[], nn.Module]
    train: Batch
    validation: Batch | None
    loss: Loss
    offset: float
    metric: str
    target: float | None
    config: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    measure: Callable[[nn.Module], float] | None = None
    batch_size: int | None = None
    min_steps: int = 1
    folds: tuple[Fold, ...] = ()
    learned: Learned | None = None

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the table is read and learned; none of an autoencoder."""
        if self.learned is None:
            return []
        notes = list(self.learned.problem.notes)
        if self.folds:
            notes.append(f"few rows: settings are chosen by {1 + len(self.folds)}-fold validation")
        return notes

    def optimizer(self, name: str) -> TunableOptimizer:
        """The optimizer of that name as it is tuned on this task."""
        tunable = as_optimizer(name)
        return tunable if self.learned is None else of_table(tunable, len(self.train[0]))


@dataclass(frozen=True, eq=False)
class Learned:
    """A table as it is learned.

    Attributes:
        problem: the table, its target and its split.
        fitted: the preprocessing of the training rows.
        hidden: widths of the network's hidden layers.
    """

    problem: Supervised
    fitted: Fitted
    hidden: tuple[int, ...]


def make_task(
    table: Table,
    task: str | None = None,
    *,
    hidden: Sequence[int] | None = None,
    target_loss: float | None = None,
    seed: int = 0,
    choices: Choices = EVERYTHING,
) -> Task:
    """Task of the table; without a name the one that suits its target.

    Args:
        table: the rows.
        task: "autoencoder", "classification" or "regression".
        hidden: widths of the hidden layers; for the autoencoder down to the code.
        target_loss: value of the metric to reach.
        seed: seed of the weights and of the split.
        choices: what the user says of columns, rows and metric.

    Raises:
        InvalidInputError: an unknown task, or a table that does not suit it.
        MissingExtraError: scikit-learn is not installed.
    """
    chosen = task or default_task(table)
    if chosen not in TASKS:
        raise InvalidInputError(
            f"unknown task {chosen!r}{suggestion(chosen, TASKS)}; known are {', '.join(TASKS)}"
        )
    if hidden is not None and (not hidden or min(hidden) < 1):
        raise InvalidInputError(f"hidden layers must be widths of at least 1, got {list(hidden)}")
    if target_loss is not None and not target_loss > 0:
        raise InvalidInputError(f"the target loss must be > 0, got {target_loss}")
    if find_spec("sklearn") is None:
        raise MissingExtraError("scikit-learn", "sklearn")
    if chosen == "autoencoder":
        return _autoencoder(table, hidden, target_loss, seed, choices)
    return _supervised(table, chosen, hidden, target_loss, seed, choices)


def default_task(table: Table) -> str:
    """Autoencoder for digits and tables without a target, else by the kind of the target."""
    if table.target is None or table.name == "digits":
        return "autoencoder"
    return supervised.kind_of(table.target)


def entropy(probabilities: Tensor) -> float:
    """Bernoulli entropy in nats, summed over columns, mean over rows, in float64."""
    p = probabilities.double()
    return float((torch.special.entr(p) + torch.special.entr(1 - p)).sum(1).mean())


def scale_to_unit(features: Tensor) -> Tensor:
    """Features that lie in [0, 1] as they are; others by the least and greatest of a column.

    In float32.
    """
    if features.min() >= 0 and features.max() <= 1:
        return features.float()
    low, high = features.amin(0), features.amax(0)
    return ((features - low) / torch.where(high > low, high - low, torch.ones_like(high))).float()


def loss_of(learned: Learned) -> Loss:
    """What a network of the table minimises, classes weighted alike if the user says so."""
    if not learned.problem.classes:
        return LOSSES["squared_error"]
    weight = learned.fitted.weight
    if weight is None:
        return LOSSES["cross_entropy"]

    def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, weight=weight)

    return Loss("balanced_cross_entropy", balanced_cross_entropy, "categorical")


def network_of(learned: Learned, seed: int) -> Callable[[], nn.Module]:
    """Function that builds a network of the table's inputs and outputs."""

    def build() -> nn.Module:
        from fisherbo.training import mlp

        return mlp(learned.fitted.x.shape[1], learned.hidden, learned.problem.outputs, seed=seed)

    return build


def _autoencoder(
    table: Table,
    hidden: Sequence[int] | None,
    target_loss: float | None,
    seed: int,
    choices: Choices,
) -> Task:
    keep = [name for name in map(str, table.inputs.columns) if name not in choices.drop]
    every = keep if table.source == table.name else choices.keep  # bundled columns are no ids
    columns = examine(table.inputs, drop=choices.drop, keep=every)
    fitted, _ = encoder.fit(table.inputs, columns, None, classes=False, seed=seed)
    features = torch.tensor(fitted.filled(table.inputs))
    _require_variation(table, features)
    x = scale_to_unit(features)
    widths = tuple(hidden or AUTOENCODER_HIDDEN)
    if target_loss is None and table.name == "digits" and widths == AUTOENCODER_HIDDEN:
        target_loss = DIGITS_TARGET

    def build() -> nn.Module:
        from fisherbo.training import autoencoder

        return autoencoder(x.shape[1], hidden=widths, seed=seed)

    return Task(
        name=f"{table.name}-autoencoder",
        build_model=build,
        train=(x, x),
        validation=None,
        loss=LOSSES["bernoulli"],
        offset=entropy(x),
        metric="excess",
        target=target_loss,
        config=_config(table, "autoencoder", widths),
    )


def _supervised(
    table: Table,
    task: str,
    hidden: Sequence[int] | None,
    target_loss: float | None,
    seed: int,
    choices: Choices,
) -> Task:
    problem = supervised.prepare(table, task, choices, seed)
    split = problem.split
    fitted = supervised.fit(problem, split.train)
    learned = Learned(problem, fitted, tuple(hidden or NETWORK_HIDDEN))
    measure = supervised.measure(problem, fitted, split.validation)
    many = len(split.train) > FULL_BATCH_ROWS
    return Task(
        name=f"{table.name}-{task}",
        build_model=network_of(learned, seed),
        train=(fitted.x, fitted.y),
        validation=None,
        loss=loss_of(learned),
        offset=0.0,
        metric=supervised.metric_name(problem),
        target=target_loss,
        config={**_config(table, task, learned.hidden), "split": split.how},
        schedule="linear",
        measure=measure,
        batch_size=BATCH_ROWS if many else None,
        min_steps=math.ceil(EPOCHS * len(split.train) / BATCH_ROWS) if many else 1,
        folds=() if target_loss else tuple(_fold(learned, *f, seed) for f in split.folds()),
        learned=learned,
    )


def _fold(learned: Learned, training: Array, validation: Array, seed: int) -> Fold:
    fitted = supervised.fit(learned.problem, training)
    return Fold(
        build_model=network_of(replace(learned, fitted=fitted), seed),
        training=as_source((fitted.x, fitted.y), batch_size=None, seed=seed),
        measure=supervised.measure(learned.problem, fitted, validation),
    )


def _config(table: Table, task: str, widths: tuple[int, ...]) -> dict[str, Any]:
    return {"data": table.name, "task": task, "hidden": list(widths)}


def _require_variation(table: Table, features: Tensor) -> None:
    if not bool((features != features[0]).any()):
        raise InvalidInputError(
            f"{table.name}: no feature varies, all {len(features)} rows are equal; "
            "there is nothing to learn from them"
        )
