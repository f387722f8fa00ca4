"""Tasks: what is learned from a table, by which model, measured how.

- autoencoder: Bernoulli cross-entropy summed over columns scaled to [0, 1]; the metric is the
  excess over the entropy of the data, the least value that the loss can take.
- classification: cross-entropy on a held-out fifth, stratified.
- regression: half the squared error of the standardised target on a held-out fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.batches import Batch
from fisherbo.tuning.losses import LOSSES, Loss
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.table import Table

TASKS = ("autoencoder", "classification", "regression")
AUTOENCODER_HIDDEN = (128, 64, 32, 8)
NETWORK_HIDDEN = (64, 32)
DIGITS_TARGET = 3.0  # excess in nats; Adam's best run needs some 5000 steps to get there
MAX_CLASSES = 100
HELD_OUT = 0.2


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


def make_task(
    table: Table,
    task: str | None = None,
    *,
    hidden: Sequence[int] | None = None,
    target_loss: float | None = None,
    seed: int = 0,
) -> Task:
    """Task of the table; without a name the one that suits its target.

    Args:
        table: the rows.
        task: "autoencoder", "classification" or "regression".
        hidden: widths of the hidden layers; for the autoencoder down to the code.
        target_loss: value of the metric to reach.
        seed: seed of the weights and of the split.

    Raises:
        InvalidInputError: an unknown task, or a table that does not suit it.
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
    makers = {
        "autoencoder": _autoencoder,
        "classification": _classification,
        "regression": _regression,
    }
    return makers[chosen](table, hidden, target_loss, seed)


def default_task(table: Table) -> str:
    """Autoencoder for digits and tables without a target, else by the kind of the target."""
    if table.target is None or table.name == "digits":
        return "autoencoder"
    values = table.target.unique()
    few_integers = len(values) <= 10 and bool((values == values.round()).all())
    return "classification" if table.labels or few_integers else "regression"


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


def standardise(values: Tensor, by: Tensor) -> Tensor:
    """Values with the column means and standard deviations of `by` taken out, in float32.

    Of a column that is constant in `by` the mean alone is taken out.
    """
    mean, sd = by.double().mean(0), by.double().std(0, unbiased=False)
    varies = by.amax(0) > by.amin(0)
    return ((values.double() - mean) / torch.where(varies, sd, torch.ones_like(sd))).float()


def split(groups: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Row numbers (training, held out): a fifth of each group, at least one row of each in both."""
    generator = torch.Generator().manual_seed(seed)
    train, held = [], []
    for group in groups.unique():
        rows = (groups == group).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        count = min(max(1, round(HELD_OUT * len(rows))), len(rows) - 1)
        held.append(rows[:count])
        train.append(rows[count:])
    return torch.cat(train).sort().values, torch.cat(held).sort().values


def _autoencoder(
    table: Table, hidden: Sequence[int] | None, target_loss: float | None, seed: int
) -> Task:
    _require_variation(table)
    x = scale_to_unit(table.features)
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


def _classification(
    table: Table, hidden: Sequence[int] | None, target_loss: float | None, seed: int
) -> Task:
    target = _require_target(table, "classification")
    _require_variation(table)
    values, classes, counts = target.unique(return_inverse=True, return_counts=True)
    _require_classes(table, values, counts)
    return _supervised(table, classes, classes, len(values), hidden, target_loss, seed)


def _regression(
    table: Table, hidden: Sequence[int] | None, target_loss: float | None, seed: int
) -> Task:
    target = _require_target(table, "regression")
    _require_variation(table)
    if table.labels:
        raise InvalidInputError(
            f"{table.name}: the target of a regression must be numbers, got the classes "
            f"{', '.join(table.labels[:5])}; use --task classification or another --target"
        )
    if not torch.isfinite(target).all() or target.min() == target.max():
        raise InvalidInputError(
            f"{table.name}: the target of a regression must be finite and vary, got values from "
            f"{target.min():g} to {target.max():g}; choose another --target"
        )
    groups = torch.zeros_like(target)
    return _supervised(table, target[:, None], groups, 1, hidden, target_loss, seed)


def _supervised(
    table: Table,
    target: Tensor,
    groups: Tensor,
    n_out: int,
    hidden: Sequence[int] | None,
    target_loss: float | None,
    seed: int,
) -> Task:
    train, held = split(groups, seed)
    x = standardise(table.features, table.features[train])
    is_class = target.dtype == torch.int64
    y = target if is_class else standardise(target, target[train])
    widths = tuple(hidden or NETWORK_HIDDEN)
    name = "classification" if is_class else "regression"

    def build() -> nn.Module:
        from fisherbo.training import mlp

        return mlp(x.shape[1], widths, n_out, seed=seed)

    return Task(
        name=f"{table.name}-{name}",
        build_model=build,
        train=(x[train], y[train]),
        validation=(x[held], y[held]),
        loss=LOSSES["cross_entropy" if is_class else "squared_error"],
        offset=0.0,
        metric="validation loss",
        target=target_loss,
        config=_config(table, name, widths),
    )


def _config(table: Table, task: str, widths: tuple[int, ...]) -> dict[str, Any]:
    return {"data": table.name, "task": task, "hidden": list(widths)}


def _require_target(table: Table, task: str) -> Tensor:
    if table.target is None:
        names = ", ".join(table.feature_names[:12])
        raise InvalidInputError(
            f"{table.name}: {task} needs a target column, got none; "
            f"name it with --target, the columns are {names}"
        )
    return table.target


def _require_variation(table: Table) -> None:
    if not bool((table.features != table.features[0]).any()):
        raise InvalidInputError(
            f"{table.name}: no feature varies, all {len(table.features)} rows are equal; "
            "there is nothing to learn from them"
        )


def _require_classes(table: Table, values: Tensor, counts: Tensor) -> None:
    if not 2 <= len(values) <= MAX_CLASSES:
        raise InvalidInputError(
            f"{table.name}: classification needs a target of 2 to {MAX_CLASSES} classes, got "
            f"{len(values)} distinct values in {int(counts.sum())} rows; "
            "use --task regression or another --target"
        )
    if counts.min() < 2:
        rare = int(counts.argmin())
        label = table.labels[int(values[rare])] if table.labels else f"{values[rare]:g}"
        raise InvalidInputError(
            f"{table.name}: every class needs 2 rows, one to train and one held out, but class "
            f"{label!r} has {int(counts[rare])}; add rows or drop the class"
        )
