"""What a user tells the sampler beside the study, in one record."""

from __future__ import annotations

from dataclasses import dataclass, field

from fisherbo.sampler.categories import Categories
from fisherbo.sampler.input_constraints import Rule
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions


@dataclass(frozen=True)
class UserSettings:
    """What a user tells the sampler beside the study.

    Attributes:
        rule: Which points may be evaluated; None if all.
        options: Of the algorithm.
        categories: Order and distances of the choices of categorical parameters, by name.
    """

    rule: Rule | None = None
    options: AlgorithmOptions = DEFAULTS
    categories: Categories = field(default_factory=dict)
