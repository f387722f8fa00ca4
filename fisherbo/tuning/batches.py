"""Batches of (x, y) from tensors, a Dataset, a DataLoader or a list of batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.losses import LossFunction

Batch = tuple[Tensor, Tensor]
Batches = Iterable[Batch]
FULL_BATCH_ROWS = 4096
DEFAULT_BATCH_SIZE = 512


@dataclass(frozen=True, eq=False)
class Source:
    """Where a training run's batches come from.

    Attributes:
        fresh: returns batches that start anew, in the same order each time it is called.
        full: one batch holds all rows, so that the training loss is the loss of all rows.
        fingerprint: changes with the data; of Datasets and loaders only the type and length.
    """

    fresh: Callable[[], Batches]
    full: bool
    fingerprint: str


@dataclass(eq=False)
class Shuffled:
    """Batches of tensors; every pass is the next permutation of one seeded generator."""

    x: Tensor
    y: Tensor
    size: int
    generator: torch.Generator

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.x), generator=self.generator)
        for rows in order.split(self.size):
            yield self.x[rows], self.y[rows]


def as_source(data: Any, *, batch_size: int | None, seed: int) -> Source:
    """Source of batches of anything that holds pairs (x, y).

    Args:
        data: a pair of tensors, a Dataset, a DataLoader or a list of batches.
        batch_size: rows a batch of tensors and Datasets; None is all rows up to 4096, else 512.
        seed: seed of the order of the rows.

    Raises:
        InvalidInputError: `data` is none of these, is empty, or its lengths differ.
    """
    if isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], Tensor):
        return _of_tensors(data[0], data[1], batch_size, seed)
    if isinstance(data, Dataset) and not isinstance(data, DataLoader):
        return _of_dataset(data, batch_size, seed)
    if batch_size is not None:
        raise InvalidInputError(
            f"batch_size is for tensors and Datasets, got {batch_size} with a "
            f"{type(data).__name__}, which has batches already; leave batch_size out"
        )
    count = _count(data)
    return Source(lambda: data, count == 1, f"{type(data).__name__} of {count} batches")


def _of_tensors(x: Tensor, y: Any, batch_size: int | None, seed: int) -> Source:
    if not isinstance(y, Tensor) or len(x) != len(y) or len(x) == 0:
        got = f"{tuple(x.shape)} and {tuple(y.shape) if isinstance(y, Tensor) else type(y)}"
        raise InvalidInputError(
            f"data must be two tensors with equally many rows, at least one, got {got}"
        )
    size, digest = _size(len(x), batch_size), _digest(x, y)
    if size >= len(x):
        return Source(lambda: [(x, y)], True, digest)
    return Source(lambda: Shuffled(x, y, size, torch.Generator().manual_seed(seed)), False, digest)


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _of_dataset(data: Dataset[Any], batch_size: int | None, seed: int) -> Source:
    rows = len(data)  # type: ignore[arg-type]  # torch: only map-style data sets have it
    size = _size(rows, batch_size)
    return Source(
        lambda: DataLoader(
            data, batch_size=size, shuffle=True, generator=torch.Generator().manual_seed(seed)
        ),
        size >= rows,
        f"{type(data).__name__} of {rows} rows",
    )


def _size(rows: int, batch_size: int | None) -> int:
    if batch_size is None:
        return rows if rows <= FULL_BATCH_ROWS else DEFAULT_BATCH_SIZE
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
    return batch_size


def _count(data: Any) -> int:
    try:
        count = len(data)
    except TypeError:
        count = -1
    if count < 1 or iter(data) is data:
        raise InvalidInputError(
            f"data must hold batches (x, y) that can be gone through again, got "
            f"{type(data).__name__}; give (x, y) tensors, a Dataset, a DataLoader or a list"
        )
    return count


def mean_loss(batches: Batches, loss: LossFunction) -> Callable[[nn.Module], float]:
    """Function that returns a model's loss over all rows, in evaluation mode, without gradient."""

    def measure(model: nn.Module) -> float:
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                sums = [(float(loss(model(x), y)) * len(x), len(x)) for x, y in batches]
        finally:
            model.train(was_training)
        return sum(total for total, _ in sums) / sum(rows for _, rows in sums)

    return measure
