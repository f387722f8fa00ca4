"""What a user tells the sampler beside the study, in one record."""

from __future__ import annotations

from dataclasses import dataclass, field

from fisherbo.sampler.categories import Categories
from fisherbo.sampler.input_constraints import Rule
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions


@dataclass(frozen=True)
class CostSettings:
    """What a trial costs, and how much may be spent.

    Attributes:
        name: User attribute of a trial with its cost; "seconds" also stands for its duration.
        budget: What all trials may cost together; None if there is no limit.
    """

    name: str
    budget: float | None = None


@dataclass(frozen=True)
class UserSettings:
    """What a user tells the sampler beside the study.

    Attributes:
        rule: Which points may be evaluated; None if all.
        options: Of the algorithm.
        categories: Order and distances of the choices of categorical parameters, by name.
        cost: What a trial costs; None if that does not matter.
    """

    rule: Rule | None = None
    options: AlgorithmOptions = DEFAULTS
    categories: Categories = field(default_factory=dict)
    cost: CostSettings | None = None
