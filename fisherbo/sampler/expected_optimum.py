"""Where the optimum is expected by a quadratic, or under constraints by splines."""

from __future__ import annotations

import numpy as np

from fisherbo.acquisition.constrained_optimum import constrained_optimum
from fisherbo.acquisition.quadratic import quadratic_optimum
from fisherbo.sampler.models import Models
from fisherbo.sampler.request import Request
from fisherbo.space import Array


def expected_optimum(request: Request, models: Models) -> Array | None:
    """Where a quadratic, or under constraints splines, expect the optimum, shape ``(d,)``.

    Every other trial asks for it, once there are enough observations, for a single objective, and
    while no other trial is under evaluation; None in the others. A quadratic is for spaces without
    discrete or conditional parameters. With splines integers stay as they are at the best point,
    and all trials must have told all constraints, without noise.
    """
    target, observations = request.target, request.observations
    if request.number % 2 or len(models.objectives) != 1 or request.candidates is not None:
        return None
    if request.rule is not None or len(observations.pending):
        return None
    own, options = observations.own, request.options
    if not models.constraints:
        late = len(observations) >= options.quadratic_from * target.dimension
        if not late or not target.continuous.all():
            return None
        x = quadratic_optimum(observations.x[own], observations.y[own, 0])
    else:
        late = own.sum() >= options.splines_from * target.dimension
        ordered = not (target.conditions or target.listed.any() or target.simplices)
        if not late or not ordered or not target.free.all() or observations.noisy:
            return None
        told = observations.told
        if told is None or not np.isfinite(told[own]).all():
            return None
        y = observations.y[own, 0]
        x = constrained_optimum(observations.x[own], y, told[own], target)
    return None if x is None or _exceeds_budget(request, models, x) else x


def _exceeds_budget(request: Request, models: Models, x: Array) -> bool:
    """Whether the median cost of a trial at ``(d,)`` is above what is left of the budget."""
    costs, pending = request.costs, request.observations.pending
    if costs is None:
        return False
    model = None if models.cost is None else models.cost.surrogate
    return float(costs.median(model, x[None])[0]) > costs.left(model, pending)
