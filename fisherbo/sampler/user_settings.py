"""What a user tells the sampler beside the study, in one record."""

from __future__ import annotations

from dataclasses import dataclass

from fisherbo.sampler.input_constraints import Rule
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.priors import Priors


@dataclass(frozen=True)
class UserSettings:
    """What a user tells the sampler beside the study.

    Attributes:
        rule: Which points may be evaluated; None if all.
        options: Of the algorithm.
        priors: Where the optimum is believed to be; None if nowhere.
    """

    rule: Rule | None = None
    options: AlgorithmOptions = DEFAULTS
    priors: Priors | None = None
