"""Where the next trial of a study goes, what is expected of it, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from scipy.special import ndtr

from fisherbo.acquisition.feasibility import Feasibility, Product, Restricted, unrestricted
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.acquisition.unwarped import unwarped_improvement
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.recommend import LEVEL, QUANTILE
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.space import Array

DESIGN = "Initial design: the first trials are spread evenly before the model is used."


def inspected(study: Study, sampler: FisherSampler | None) -> Inspection:
    """What a sampler believes of a study; the study's own if None, or one made for it."""
    if sampler is None:
        sampler = study.sampler if isinstance(study.sampler, FisherSampler) else None
    return (FisherSampler(seed=0) if sampler is None else sampler).inspect(study)


@dataclass(frozen=True)
class Expectation:
    """What the model expects of one objective at a point.

    Attributes:
        median: Of the noise-free value, in the objective's units.
        low: Lower end of its central 95% interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class NextTrial:
    """The next trial of a study.

    Attributes:
        params: Its parameters; empty where they are drawn when the trial begins.
        expected: What is expected of each objective; empty before the model is used.
        reason: Why it goes there, a sentence.
        probability_of_improvement: That its value is better than the best so far that meets all
            constraints; None of several objectives, before the model is used, and while no point
            meets them.
        expected_improvement: By how much it is better on average, where worse counts as 0, in the
            objective's units; None as above.
        probability_of_feasibility: That it meets all constraints; None without constraints.
        inactive: Those of the parameters that do not count, since a condition on others is not met.
    """

    params: Mapping[str, Any]
    expected: tuple[Expectation, ...]
    reason: str
    probability_of_improvement: float | None = None
    expected_improvement: float | None = None
    probability_of_feasibility: float | None = None
    inactive: tuple[str, ...] = ()

    @property
    def chosen(self) -> dict[str, Any]:
        """The parameters that count."""
        return {name: value for name, value in self.params.items() if name not in self.inactive}


def next_trial(study: Study, sampler: FisherSampler | None = None) -> NextTrial:
    """The next trial, as ``study.ask`` would begin it now, without beginning it.

    Args:
        study: A study of any sampler.
        sampler: Who chooses; the study's own, or a new `FisherSampler`, if None.

    Raises:
        InvalidInputError: The study has no value yet.
    """
    seen = inspected(study, sampler)
    if seen.next is None:
        return NextTrial({}, (), "The point is drawn at random by the independent sampler.")
    params, inactive = seen.params(seen.next), _inactive(seen, seen.next)
    if seen.designed:
        return NextTrial(params, (), DESIGN, inactive=inactive)
    expected = tuple(_expectation(seen, seen.next, j) for j in range(len(seen.objectives)))
    factors = _factors(seen.acquisition)
    improvement = next((f for f in factors if isinstance(f, ExpectedImprovement)), None)
    probability, gain, margin = None, None, False
    if improvement is not None:
        margin = improvement.margin > 0
        probability, gain = _improvement(seen, improvement, seen.next)
    constraints = [f.value(seen.next[None])[0] for f in factors if isinstance(f, Feasibility)]
    return NextTrial(
        params,
        expected,
        _reason(seen, len(expected), probability, margin=margin),
        probability,
        gain,
        math.exp(sum(constraints)) if constraints else None,
        inactive,
    )


def _inactive(seen: Inspection, x: Array) -> tuple[str, ...]:
    there = seen.space.exists(x).tolist()
    return tuple(name for name, here in zip(seen.search_space, there, strict=True) if not here)


def _expectation(seen: Inspection, x: Array, objective: int) -> Expectation:
    z = np.array([0.0, -QUANTILE, QUANTILE])
    median, one, other = seen.quantiles(x[None], z, objective)[:, 0].tolist()
    return Expectation(median, min(one, other), max(one, other))


def _factors(acquisition: Acquisition) -> tuple[Acquisition, ...]:
    inner = unrestricted(acquisition)
    return inner.factors if isinstance(inner, Product) else (inner,)


def _improvement(
    seen: Inspection, improvement: ExpectedImprovement, x: Array
) -> tuple[float, float]:
    """Probability and expectation of an improvement at ``(d,)``, as the acquisition sees them."""
    mean, sd = (float(part[0]) for part in improvement.surrogate.predict(x[None]))
    sd = max(math.hypot(sd, math.sqrt(improvement.noise)), 1e-12)
    observations = seen.observations
    values, warped = observations.y[:, 0], observations.warped[0]
    gain = unwarped_improvement(mean, sd, improvement.best, values, warped)
    return float(ndtr((mean - improvement.best) / sd)), gain


def _reason(seen: Inspection, objectives: int, probability: float | None, *, margin: bool) -> str:
    if objectives > 1:
        reason = "The point has the largest expected gain in hypervolume of the Pareto front"
    elif seen.quadratic and seen.constraints:
        return (
            "Convergence: splines of the objective and the constraints expect the point to be the "
            "best that meets all constraints."
        )
    elif probability is None:
        return (
            "No trial meets all constraints yet: the point has the largest probability that it "
            "does."
        )
    elif seen.quadratic:
        return (
            "Convergence: the best trials lie on a quadratic, and the point is where that is best."
        )
    elif probability >= 0.5:
        reason = "Exploitation: the model expects it to be better than the best value so far"
    elif probability >= 0.4:
        reason = "Refinement: the model expects it to be about as good as the best value so far"
    else:
        reason = (
            "Exploration: the model does not expect it to be better than the best value so far, "
            f"but is uncertain enough ({probability:.0%} probability of an improvement) for the "
            f"largest expected improvement{' beyond a margin' if margin else ''}"
        )
    if seen.constraints:
        reason += ", weighed by the probability that all constraints hold"
    if seen.cost is not None:
        reason += ", for what it costs"
    if isinstance(seen.acquisition, Restricted):
        reason += "; it is kept away from points that are known or that the model cannot judge"
    return reason + "."


def rows(found: NextTrial, names: list[str]) -> list[list[str]]:
    """A table for people: parameters, and what is expected of each objective.

    Args:
        found: The next trial.
        names: What the objectives are called.
    """
    params = [[name, shown(value)] for name, value in found.chosen.items()]
    return [["", "next trial"], *params, *expectations(found, names)]


def expectations(found: NextTrial, names: list[str]) -> list[list[str]]:
    """What is expected of each objective and of an improvement, as name and text."""
    lines = []
    for name, e in zip(names, found.expected, strict=False):
        interval = f"{shown(e.low, 4)} to {shown(e.high, 4)}"
        lines.append(
            [f"expected {name}", f"{shown(e.median, 4)} ({LEVEL:.0%} interval {interval})"]
        )
    if found.expected_improvement is not None:
        lines.append(["expected improvement", shown(found.expected_improvement, 2)])
    for name, probability in (
        ("probability of an improvement", found.probability_of_improvement),
        ("probability that all constraints hold", found.probability_of_feasibility),
    ):
        if probability is not None:
            lines.append([name, f"{probability:.0%}"])
    return lines


def shown(value: Any, digits: int = 6) -> str:
    """A value in six digits, or so many; a bool or a text as it is."""
    if isinstance(value, tuple):
        return f"({', '.join(shown(part, digits) for part in value)})"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
