"""An endless stream of batches that can be saved in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.training.checkpoint import generator_states, set_generator_states

Batch = tuple[Tensor, Tensor]


class Stream:
    """Batches one after the other, iterated again when exhausted.

    Its state is that of the generators at the beginning of the epoch and the number of batches
    taken since; going back repeats the epoch up to there. That is exact for data whose order and
    transforms depend on the global generators and on ``batches.generator``, as those of a
    `torch.utils.data.DataLoader` without workers do.

    Args:
        batches: Pairs (x, y); can be iterated again and again.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        own = getattr(batches, "generator", None)
        self._own = own if isinstance(own, torch.Generator) else None
        self._iterator: Iterator[Batch] | None = None
        self._start: dict[str, Any] | None = None
        self._taken = 0

    def next(self) -> Batch:
        """The next batch.

        Raises:
            InvalidInputError: If there is none in a whole epoch.
        """
        if self._iterator is not None:
            for batch in self._iterator:
                self._taken += 1
                return batch
        self._begin()
        assert self._iterator is not None
        for batch in self._iterator:
            self._taken += 1
            return batch
        raise InvalidInputError(
            "batches must yield (x, y) pairs each time it is iterated, got nothing; "
            "pass a list or a DataLoader, not a generator that ends"
        )

    def state(self) -> dict[str, Any]:
        """Where the stream is, and the state of all generators now."""
        return {
            "start": self._start,
            "taken": self._taken,
            "now": generator_states(self._own),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where another stream of the same batches was; sets the global generators."""
        if state["start"] is not None:
            set_generator_states(state["start"], self._own)
            self._begin()
            for _ in range(state["taken"]):
                self.next()
        set_generator_states(state["now"], self._own)

    def _begin(self) -> None:
        self._start, self._taken = generator_states(self._own), 0
        self._iterator = iter(self._batches)
