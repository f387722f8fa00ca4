"""Where the next trial of a study goes, what is expected of it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study
from scipy.special import ndtr

from fisherbo.acquisition.feasibility import Restricted
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
        low: Lower end of its central 95 % interval.
        high: Upper end.
        probability_of_improvement: That it is better than that of the best point so far.
    """

    median: float
    low: float
    high: float
    probability_of_improvement: float


@dataclass(frozen=True)
class NextTrial:
    """The next trial of a study.

    Attributes:
        params: Its parameters; empty where they are drawn when the trial begins.
        expected: What is expected of each objective; empty before the model is used.
        reason: Why it goes there, a sentence.
    """

    params: Mapping[str, Any]
    expected: tuple[Expectation, ...]
    reason: str


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
    if seen.designed:
        return NextTrial(seen.params(seen.next), (), DESIGN)
    expected = tuple(_expectation(seen, seen.next, j) for j in range(len(seen.objectives)))
    return NextTrial(seen.params(seen.next), expected, _reason(seen, expected))


def _expectation(seen: Inspection, x: Array, objective: int) -> Expectation:
    z = np.array([0.0, -QUANTILE, QUANTILE])
    median, one, other = seen.quantiles(x[None], z, objective)[:, 0].tolist()
    surrogate = seen.surrogate(objective)
    mean, sd = surrogate.predict(np.stack([x, seen.best(objective)]))
    gain = float(ndtr((mean[0] - mean[1]) / max(float(sd[0]), 1e-12)))
    return Expectation(median, min(one, other), max(one, other), gain)


def _reason(seen: Inspection, expected: tuple[Expectation, ...]) -> str:
    if len(expected) > 1:
        reason = "The point has the largest expected gain in hypervolume of the Pareto front"
    elif expected[0].probability_of_improvement >= 0.5:
        reason = "Exploitation: the model expects it to be better than the best point so far"
    else:
        probability = f"{expected[0].probability_of_improvement:.0%}"
        reason = (
            "Exploration: the model does not expect it to be better than the best point so far, "
            f"but is uncertain enough ({probability} probability of an improvement) for the "
            "largest expected improvement"
        )
    if seen.constraints:
        reason += ", weighed by the probability that all constraints hold"
    if isinstance(seen.acquisition, Restricted):
        reason += "; it is kept away from points that are known or that the model cannot judge"
    return reason + "."


def rows(found: NextTrial, names: list[str]) -> list[list[str]]:
    """A table for people: parameters, and what is expected of each objective.

    Args:
        found: The next trial.
        names: What the objectives are called.
    """
    params = [[name, shown(value)] for name, value in found.params.items()]
    return [["", "next trial"], *params, *expectations(found, names)]


def expectations(found: NextTrial, names: list[str]) -> list[list[str]]:
    """What is expected of each objective, as name and text."""
    lines = []
    for name, e in zip(names, found.expected, strict=False):
        interval = f"{shown(e.median)} ({LEVEL:.0%} interval {shown(e.low)} to {shown(e.high)})"
        lines.append([f"expected {name}", interval])
        if len(found.expected) == 1:
            probability = f"{e.probability_of_improvement:.0%}"
            lines.append(["probability of an improvement", probability])
    return lines


def shown(value: Any) -> str:
    """A value in six digits; a bool or a text as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
