"""What a user tells the sampler beside the study, in one record."""

from __future__ import annotations

from dataclasses import dataclass

from fisherbo.sampler.candidates import Candidates
from fisherbo.sampler.input_constraints import Rule
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions


@dataclass(frozen=True)
class UserSettings:
    """What a user tells the sampler beside the study.

    Attributes:
        rule: Which points may be evaluated; None if all.
        options: Of the algorithm.
        candidates: The only points that may be evaluated; None if all.
    """

    rule: Rule | None = None
    options: AlgorithmOptions = DEFAULTS
    candidates: Candidates | None = None
