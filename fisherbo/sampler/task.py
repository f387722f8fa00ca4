"""What one suggestion is about: a trial, the others, their parameters, and where it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.sampler.convert import SearchSpace
from fisherbo.sampler.evidence import Evidence
from fisherbo.space import Array, Space


@dataclass(frozen=True)
class Task:
    """One suggestion.

    Attributes:
        study: The study.
        trial: The trial to suggest for.
        trials: The other trials.
        search_space: Parameters, by name.
        space: Their coordinates, with the conditions that the trials obey.
        target: The same with the coordinates held that are not to be chosen.
        evidence: What the trials say.
        rivals: Earlier trials that are being suggested for at this moment.
        remembers: Whether fits are kept with the trial.
    """

    study: Study
    trial: FrozenTrial
    trials: Sequence[FrozenTrial]
    search_space: SearchSpace
    space: Space
    target: Space
    evidence: Evidence
    rivals: int = 0
    remembers: bool = True

    def expecting(self, x: Array) -> Task:
        """The task where a rival is believed to be at ``x`` ``(d,)``."""
        return replace(self, evidence=self.evidence.expecting(x))


def count_rivals(trial: FrozenTrial, running: Sequence[FrozenTrial]) -> int:
    """Running trials begun before this one whose parameters are not known yet."""
    return sum(t.number < trial.number and not t.params for t in running)
