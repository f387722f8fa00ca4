"""The inputs of one suggestion, before any model: steps 1 to 3 of the sampler's algorithm."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.acquisition.belief import Belief
from fisherbo.acquisition.propose import Effort
from fisherbo.sampler import checks
from fisherbo.sampler.candidate_rows import CandidateRows, rows_of
from fisherbo.sampler.categories import described, labels
from fisherbo.sampler.constraints import FAILURES
from fisherbo.sampler.costs import CostData, cost_data
from fisherbo.sampler.curve_ends import EndReader
from fisherbo.sampler.fixed import fixed_values, given_values, hold, no_longer_asked, widened
from fisherbo.sampler.input_constraints import InputConstraint
from fisherbo.sampler.observations import Observations, observe
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.priors import read_belief
from fisherbo.sampler.search_space import SearchSpace, to_params
from fisherbo.sampler.trials import StudyReader, TrialTable
from fisherbo.sampler.user_settings import UserSettings
from fisherbo.space import Array, Space


@dataclass(frozen=True)
class Request:
    """The inputs of one suggestion, before any model.

    Attributes:
        number: Of the trial to suggest for.
        search_space: Distributions of the parameters, by name.
        space: Their coordinates, with the conditions inferred from the trials.
        target: The same, with the coordinates held that are not to be chosen.
        table: The other trials.
        observations: Their values and constraints, as the models see them.
        rule: The user's input constraint.
        options: Of the algorithm.
        costs: What the trials cost; None if that does not matter.
        belief: The user's, about the optimum.
        candidates: Rows of the user's list that may be chosen; None where any point may.
    """

    number: int
    search_space: SearchSpace
    space: Space
    target: Space
    table: TrialTable
    observations: Observations
    rule: InputConstraint | None = None
    options: AlgorithmOptions = DEFAULTS
    costs: CostData | None = None
    belief: Belief | None = None
    candidates: CandidateRows | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users should know of the trials."""
        found = []
        if np.isfinite(self.table.value[self.observations.too_good]).any():
            found.append(checks.TOO_GOOD)
        if self.costs is not None and self.costs.warning is not None:
            found.append(self.costs.warning)
        return tuple(found)

    def chosen(self, x: Array, asked: Collection[str]) -> dict[str, Any]:
        """Parameters at coordinates ``(d,)`` that are asked for and not held."""
        params = to_params(self.target, self.search_space, x)
        free = zip(params.items(), self.target.free.tolist(), strict=True)
        return {name: value for (name, value), chosen in free if chosen and name in asked}

    @property
    def effort(self) -> Effort:
        """Of the search for the largest acquisition."""
        constraints = self.observations.constraints
        told = any(c.label != FAILURES for c in constraints)
        single = self.observations.objectives == 1
        return self.options.constrained if told and single else self.options.effort

    def with_pending(self, x: Array) -> Request:
        """The same with one more point ``(d,)`` under evaluation."""
        rows = None if self.candidates is None else self.candidates.without(x)
        return replace(self, observations=self.observations.with_pending(x), candidates=rows)


def read_request(
    study: Study,
    trial: FrozenTrial,
    trials: Sequence[FrozenTrial],
    search_space: SearchSpace,
    reader: StudyReader,
    settings: UserSettings,
    curves: EndReader | None = None,
) -> Request | None:
    """The request of a trial; None if every parameter is fixed.

    Its search space has the order and distances of choices that the settings tell.

    Args:
        study: The study.
        trial: The trial to suggest for.
        trials: The other trials.
        search_space: Parameters to suggest.
        reader: Of the study's trials.
        settings: What the user tells beside the study.
        curves: Of the study's learning curves.
    """
    rule, options = settings.rule, settings.options
    known = reader.parameters(trials)
    search_space = described(search_space, settings.categories)
    varying = {**described(known.varying, settings.categories), **search_space}
    fixed = fixed_values(study.sampler, trial, set(search_space), varying, trials)
    if search_space.keys() <= fixed.keys():
        return None
    parameters = widened(search_space, varying, fixed)
    space, table = reader.table(parameters, trials, len(study.directions))
    target = hold(space, parameters, fixed, no_longer_asked(space, table))
    rows = None
    if settings.candidates is not None:
        given = given_values(study.sampler, trial)
        table = settings.candidates.located(table, trials, parameters, known.constant)
        rows = rows_of(settings.candidates, target, table, trials, parameters, given)
    read = trials, table, space, labels(parameters), study.directions
    ends = curves.ends(*read) if curves is not None and options.curve_ends else ()
    observations = observe(space, table, study.directions, options=options, ends=ends)
    constraint = None
    if rule is not None and rows is None:  # rows obey it already
        constraint = InputConstraint(rule, target, parameters, known.constants)
    costs = (
        None if settings.cost is None else cost_data(trials, table.located, settings.cost, options)
    )
    belief = read_belief(settings.priors, target, parameters)
    found = (trial.number, parameters, space, target, table, observations)
    return Request(*found, constraint, options, costs, belief, rows)
