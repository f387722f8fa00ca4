"""The inputs of one suggestion, before any model: steps 1 to 3 of the sampler's algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.acquisition.propose import Effort
from fisherbo.sampler.constraints import FAILURES
from fisherbo.sampler.fixed import fixed_values, hold, no_longer_asked, widened
from fisherbo.sampler.input_constraints import InputConstraint, Rule
from fisherbo.sampler.observations import Observations, observe
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.search_space import SearchSpace
from fisherbo.sampler.trials import StudyReader, TrialTable
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
    """

    number: int
    search_space: SearchSpace
    space: Space
    target: Space
    table: TrialTable
    observations: Observations
    rule: InputConstraint | None = None
    options: AlgorithmOptions = DEFAULTS

    @property
    def effort(self) -> Effort:
        """Of the search for the largest acquisition."""
        constraints = self.observations.constraints
        told = any(c.label != FAILURES for c in constraints)
        single = self.observations.objectives == 1
        return self.options.constrained if told and single else self.options.effort

    def with_pending(self, x: Array) -> Request:
        """The same with one more point ``(d,)`` under evaluation."""
        return replace(self, observations=self.observations.with_pending(x))


def read_request(
    study: Study,
    trial: FrozenTrial,
    trials: Sequence[FrozenTrial],
    search_space: SearchSpace,
    reader: StudyReader,
    rule: Rule | None,
    options: AlgorithmOptions,
) -> Request | None:
    """The request of a trial; None if every parameter is fixed.

    Args:
        study: The study.
        trial: The trial to suggest for.
        trials: The other trials.
        search_space: Parameters to suggest.
        reader: Of the study's trials.
        rule: The user's input constraint.
        options: Of the algorithm.
    """
    known = reader.parameters(trials)
    varying = {**known.varying, **search_space}
    fixed = fixed_values(study.sampler, trial, set(search_space), varying, trials)
    if search_space.keys() <= fixed.keys():
        return None
    parameters = widened(search_space, varying, fixed)
    space, table = reader.table(parameters, trials, len(study.directions))
    target = hold(space, parameters, fixed, no_longer_asked(space, table))
    observations = observe(space, table, study.directions, options=options)
    constraint = None
    if rule is not None:
        constraint = InputConstraint(rule, target, parameters, known.constants)
    return Request(
        trial.number, parameters, space, target, table, observations, constraint, options
    )
