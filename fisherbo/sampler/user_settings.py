"""What a user tells the sampler beside the study, in one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from fisherbo.sampler.candidates import Candidates
from fisherbo.sampler.categories import Categories
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.input_constraints import Rule, draw_value
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.priors import Priors, check_priors, drawn_values


@dataclass(frozen=True)
class UserSettings:
    """What a user tells the sampler beside the study.

    Attributes:
        rule: Which points may be evaluated; None if all.
        options: Of the algorithm.
        categories: Order and distances of the choices of categorical parameters, by name.
        cost: What a trial costs; None if that does not matter.
        priors: Where the optimum is believed to be; None if nowhere.
        candidates: The only points that may be evaluated; None if all.

    Raises:
        InvalidInputError: If priors are no distributions or weights.
    """

    rule: Rule | None = None
    options: AlgorithmOptions = DEFAULTS
    categories: Categories = field(default_factory=dict)
    cost: CostSettings | None = None
    priors: Priors | None = None
    candidates: Candidates | None = None

    def __post_init__(self) -> None:
        check_priors(self.priors)

    def drawn(
        self,
        number: int,
        known: Mapping[str, Any],
        name: str,
        distribution: BaseDistribution,
        rng: np.random.Generator,
    ) -> Any:
        """A value of one parameter, before there is a model, that the rule may allow.

        Args:
            number: Of the trial.
            known: Parameters that have a value already.
            name: Of the parameter.
            distribution: Its distribution.
            rng: Source of randomness.

        Raises:
            InvalidInputError: If there is none, or the prior does not suit the parameter.
        """
        points = drawn_values(self.priors, number, name, distribution, rng)
        return draw_value(self.rule, known, name, distribution, points)
