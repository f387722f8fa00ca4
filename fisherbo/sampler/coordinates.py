"""Where trials lie in the space of the parameters that vary in their study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.kinds import Kinds
from fisherbo.sampler.search_space import SearchSpace, to_space
from fisherbo.sampler.trials import read
from fisherbo.space import Array, Space


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of trials in the parameters that vary; all at one point if none does.

    Attributes:
        search_space: The parameters.
    """

    search_space: SearchSpace

    def __call__(self, trials: Sequence[FrozenTrial]) -> Array:
        """Shape ``(n, d)``, a parameter that a trial does not have at the centre."""
        if self.space is None:
            return np.zeros((len(trials), 1))
        return read(self.space, self.search_space, trials).points(self.space)

    @property
    def kinds(self) -> Kinds:
        """What the coordinates are."""
        return Kinds(np.zeros(1, dtype=np.int64)) if self.space is None else self.space.kinds

    @cached_property
    def space(self) -> Space | None:
        """The unit cube of the parameters; None if there is none."""
        return to_space(self.search_space) if self.search_space else None
