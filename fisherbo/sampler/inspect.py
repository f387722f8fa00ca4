"""The models of a study and the acquisition of its next trial, for figures and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import StudyDirection

from fisherbo.acquisition.protocol import Acquisition
from fisherbo.gp.kernel import CURVATURE
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.warp import unwarp
from fisherbo.sampler.models import FittedModel
from fisherbo.sampler.observations import Observations
from fisherbo.sampler.request import Request
from fisherbo.sampler.search_space import SearchSpace, to_params
from fisherbo.sampler.trials import TrialTable
from fisherbo.space import Array, Space


@dataclass(frozen=True)
class Inspection:
    """Models of a study, and what follows for the next trial.

    Coordinates are those of `space`, the unit cube of the parameters that vary, in the order of
    `search_space`.

    Attributes:
        request: What the trials say.
        directions: Of the objectives.
        objectives: Models of each objective; warped values, larger is better.
        constraints: Models of each constraint, feasible where they are at least 0.
        acquisition: What the next trial maximises, in nats; −∞ where it does not go: near known
            points while the best value is old, for example.
        next: Coordinates of the next trial, shape ``(d,)``; None where an independent sampler is to
            draw it.
        designed: Whether the next trial is one of the initial design, so that the model has no say.
        quadratic: Whether it is the optimum of a quadratic through the best trials, or under
            constraints of splines, and not where the acquisition is largest.
        cost: Model of the standardised log cost (`fisherbo.sampler.costs`); None where costs are
            alike or do not matter.
    """

    request: Request
    directions: Sequence[StudyDirection]
    objectives: tuple[FittedModel, ...]
    constraints: tuple[FittedModel, ...]
    acquisition: Acquisition
    next: Array | None
    designed: bool = False
    quadratic: bool = False
    cost: FittedModel | None = None

    @property
    def space(self) -> Space:
        """The unit cube of the parameters."""
        return self.request.space

    @property
    def table(self) -> TrialTable:
        """The trials."""
        return self.request.table

    @property
    def observations(self) -> Observations:
        """What the trials say of the objectives and constraints."""
        return self.request.observations

    @property
    def search_space(self) -> SearchSpace:
        """Parameters that vary, by name."""
        return self.request.search_space

    @property
    def median_cost(self) -> float | None:
        """Median cost of the next trial; None if it is not known, or does not matter."""
        costs = self.request.costs
        if costs is None or not costs.largest or self.next is None:
            return None
        model = None if self.cost is None else self.cost.surrogate
        return float(costs.median(model, self.next[None])[0])

    def surrogate(self, objective: int = 0) -> Surrogate:
        """The model of an objective."""
        return self.objectives[objective].surrogate

    def lengthscale(self, objective: int = 0) -> Array:
        """Lengthscales in widths of the search space, shape ``(d,)``; of categories as if 0/1.

        Where the kernel is rotated, the lengthscale along a parameter is the one that gives f the
        prior variance of its slope there: ``1/ℓ_j² = Σ_i R_ij²/ℓ_i²``.
        """
        model = self.surrogate(objective)
        return np.sqrt(CURVATURE * model.variance / model.gradient_variance)

    def observed(self, objective: int = 0) -> tuple[Array, Array]:
        """Coordinates ``(n, d)`` and values ``(n,)`` of the trials that count, in its own units."""
        return self.observations.x, self._sign(objective) * self.observations.y[:, objective]

    def quantiles(self, points: Array, z: Array, objective: int = 0) -> Array:
        """Values of an objective ``z`` standard deviations from the mean, in its own units.

        By the inverse of the warp that the model sees values through. With a positive ``z`` the
        value is the better one, whether that is larger or smaller.

        Args:
            points: Coordinates, shape ``(b, d)``.
            z: Numbers of standard deviations, shape ``(q,)``.
            objective: Which objective.

        Returns:
            Shape ``(q, b)``.
        """
        y, warped = self.observations.y[:, objective], self.observations.warped[objective]
        mean, sd = self.surrogate(objective).predict(points)
        values = mean + z[:, None] * sd
        return self._sign(objective) * unwarp(values.ravel(), y, warped).reshape(values.shape)

    def best(self, objective: int = 0) -> Array:
        """Coordinates of the observation of the best posterior mean, shape ``(d,)``."""
        x = self.observations.x
        return x[int(np.argmax(self.surrogate(objective).mean(x)))]

    def params(self, x: Array) -> Mapping[str, Any]:
        """Parameters at coordinates ``(d,)``."""
        return to_params(self.space, self.search_space, x)

    def _sign(self, objective: int) -> float:
        return 1.0 if self.directions[objective] == StudyDirection.MAXIMIZE else -1.0
