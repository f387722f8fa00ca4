"""`FisherSampler`: the Optuna sampler, a thin shell around the pure steps below it."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from fisherbo.acquisition.propose import unvisited
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import memory
from fisherbo.sampler.belief import learn
from fisherbo.sampler.convert import SearchSpace, to_params, to_space
from fisherbo.sampler.evidence import gather
from fisherbo.sampler.fixed import fixed_values, hold, no_longer_asked, widened
from fisherbo.sampler.inspection import Inspection
from fisherbo.sampler.learner import Learner
from fisherbo.sampler.noise import typical_noise
from fisherbo.sampler.objectives import observed
from fisherbo.sampler.pending import without_abandoned
from fisherbo.sampler.reader import Readers
from fisherbo.sampler.recommend import Recommendation, is_candidate, recommended
from fisherbo.sampler.restriction import Restriction, Rule, may_have
from fisherbo.sampler.suggestion import best_point, design_point
from fisherbo.sampler.task import Task, count_rivals
from fisherbo.sampler.transfer import LEAST_TRIALS, Lesson, Teachers, read_sources
from fisherbo.space import Array, Space
from fisherbo.surrogate.warp import warp

if TYPE_CHECKING:
    from fisherbo.surrogate.autograd import Factory

_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_MOST_OBJECTIVES = 4
_DRAWS = 4096
_MOST_RIVALS = 2
_EXHAUSTED = (
    "Every point of the search space was evaluated: from here on points are repeated where that "
    "helps most. Stop the study if its objective is deterministic."
)
_TOO_GOOD = (
    "A value is better than all others by more than 15 orders of magnitude: the sampler takes it "
    "for a fault of the objective, as it does an infinitely good one. Raise an exception or return "
    "NaN where the objective has no value."
)
_usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""NumPy's default, whatever the caller's is: an underflow to 0 is meant in many places."""
_LOGGER = logging.getLogger("optuna.fisherbo")


class FisherSampler(BaseSampler):
    """Bayesian optimization by natural-gradient ascent in the Fisher metric of a Gaussian process.

    A Matérn-3/2 Gaussian process with a lengthscale for each parameter, or for each of rotated axes
    of the continuous ones where the data call for it, is fitted to the half-rank warped values of
    all finished trials; the next trial maximises log expected improvement over the
    best value, or over the best posterior mean where values are known to be noisy (a point has two,
    or :data:`NOISE_VARIANCE` is given) or trials are running. While the best value is more than
    two trials old, every other trial keeps away from all known points. Random numbers depend on
    the seed and the trial's number alone, and fitted hyperparameters are kept in the study: a
    resumed study goes on exactly as an uninterrupted one.

    Args:
        seed: Seed; drawn at random if None.
        n_startup_trials: Finished trials before the model is used; until then a Sobol design.
        independent_sampler: Sampler of the first trials and of parameters that no trial had yet, in
            place of the Sobol design.
        surrogate: Model in place of ours: a callable ``(train_X, train_Y) -> model`` that returns a
            BoTorch model with one output, such as ``botorch.models.SingleTaskGP`` itself. It is
            called in every trial; ``train_X`` are float64 coordinates in the unit cube, of shape
            ``(n, d)``, columns in the alphabetical order of the parameters that vary, a category as
            its index / (choices − 1); ``train_Y`` are warped, standardised values, larger is
            better, of shape ``(n, 1)``. An exact GP in training mode is fitted by its marginal
            likelihood; a model in evaluation mode is used as it is. The ascent is the same, its
            Fisher metric by autograd. A suggestion takes about a second, most of it BoTorch's fit;
            one runs at a time in a process, with torch's random state set from the seed and
            restored. Nothing is kept in the study.
        source_studies: Earlier studies with one objective, of the same or an overlapping space:
            their completed trials are read here once. Their best points take the place of three
            points of the design, and their models are the new one's prior mean as far as they rank
            its trials better than chance does. A head start, not a better end: no gain was found
            after 24 trials. Not with ``surrogate``, nor with several objectives.
        input_constraints: Rule that every suggestion obeys: a callable from the parameters that
            exist at a point, by name, to whether it may be evaluated. It should raise KeyError for
            a parameter that is missing: until a first trial tells them, only some are known.
        rotation: Whether the kernel of an objective may have its lengthscales along rotated axes of
            the continuous parameters, up to 20, that always exist (see
            :mod:`fisherbo.surrogate.rotation`). On functions with badly conditioned valleys along
            no parameter (BBOB 10 and 11) the regret after 100 trials is some forty times smaller
            in 5-D; in 10-D, where more evidence is needed, the gain is small. Elsewhere rotations
            are rarely kept. Without it a suggestion takes a tenth less time, a third less where the
            kernel is rotated.

    Several objectives (2 to 4) are improved by expected hypervolume. Constraints told by
    ``trial.set_constraint`` have a model each, by name; a complete trial that does not tell one is
    feasible, as it is for Optuna. Failures get a model too where more than a tenth of the trials
    failed, or returned a penalty: one worst value, again and again, far from all others. A value
    that exceeds all others by more than 15 orders of magnitude is taken for a fault. Pruned trials
    are ranked among all trials by their last report. Enqueued values, and those that
    ``optuna.samplers.PartialFixedSampler`` fixes, condition the search for the others; parameters
    that the latest trials no longer ask for are held as those trials have them.

    Raises:
        InvalidInputError: If ``n_startup_trials`` is negative or ``surrogate`` cannot be called; at
            a suggestion, if the study has more than 4 objectives, ``surrogate`` makes no such model
            or no point is found that ``input_constraints`` allows.

    Example:
        >>> import fisherbo, optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
        >>> study.optimize(lambda t: (t.suggest_float("x", -5, 5) - 2) ** 2, n_trials=25)
        >>> abs(study.best_params["x"] - 2) < 0.1
        True
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        independent_sampler: BaseSampler | None = None,
        surrogate: Factory | None = None,
        source_studies: Sequence[Study] = (),
        input_constraints: Rule | None = None,
        rotation: bool = True,
    ) -> None:
        if n_startup_trials < 0:
            raise InvalidInputError(
                f"n_startup_trials must be >= 0, got {n_startup_trials!r}; 10 is typical"
            )
        if surrogate is not None and not callable(surrogate):
            raise InvalidInputError(
                f"surrogate must be a callable (train_X, train_Y) -> model, got {surrogate!r}; "
                "pass for example botorch.models.SingleTaskGP"
            )
        if surrogate is not None and len(source_studies):
            raise InvalidInputError(
                "source_studies must be empty with a surrogate, got "
                f"{len(source_studies)}; leave one of the two out"
            )
        if input_constraints is not None and not callable(input_constraints):
            raise InvalidInputError(
                "input_constraints must be a callable (params: dict) -> bool, got "
                f"{input_constraints!r}; pass for example lambda p: p['x'] + p['y'] <= 1"
            )
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._n_startup_trials = n_startup_trials
        self._independent_sampler = independent_sampler
        self._rotation = rotation
        self._learner = Learner(surrogate, rotation=rotation)
        self._teachers = Teachers(read_sources(source_studies))
        self._readers = Readers()
        self._rule = input_constraints
        self._said: set[tuple[str, str]] = set()  # names of studies, and warnings

    @_usual_errors
    def recommend(self, study: Study) -> Recommendation:
        """The evaluated point that the model believes to be the best, which to use in the end.

        The best observed value is the luckiest where values are noisy; this is the best posterior
        mean among the complete, feasible trials. Nothing is written to the study.

        Args:
            study: A study with one objective, made by this or any other sampler.

        Returns:
            Trial number, parameters, and the median and central 95 % credible interval of the
            noise-free value there in units of the objective, by the inverse of the warp that the
            model sees values through: interpolated between observed values, never worse than the
            worst of them.

        Raises:
            InvalidInputError: If the study has several objectives, no complete and feasible trial,
                or no parameter that varies.
        """
        _require_single_objective(study)
        trials = study.get_trials(deepcopy=False, states=_FINISHED)
        if not any(is_candidate(t) for t in trials):
            raise InvalidInputError(
                "study has no complete and feasible trial to recommend, got "
                f"{len(trials)} finished; run some more trials first"
            )
        search_space = self._readers.of(study).parameters(trials).varying
        if not search_space:
            raise InvalidInputError("study has no parameter that varies; all its trials are alike")
        maximize = study.direction == StudyDirection.MAXIMIZE
        space, reading = self._readers.of(study).read(search_space, trials)
        (data,) = observed(space, reading, trials, study.directions)
        last = memory.latest(trials, tuple(search_space))
        lesson = self._teachers.lesson(search_space, data)
        noise = reading.noise[data.trial]
        warped = warp(data.y, typical_noise(noise))
        learned = learn(data, warped, noise, space, last, lesson=lesson, rotation=self._rotation)
        return recommended(trials, data, learned.belief.surrogate, warped, maximize=maximize)

    @_usual_errors
    def inspect(self, study: Study) -> Inspection:
        """What is believed of a study, and where the next trial would go; nothing is written.

        Args:
            study: A study of at most 4 objectives, made by this or any other sampler.

        Raises:
            InvalidInputError: If no trial has a value yet, no parameter varies, or there are too
                many objectives.
        """
        _require_few_objectives(study)
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = len(study.get_trials(deepcopy=False))
        search_space = self.infer_relative_search_space(study, trial)
        found = self._task(study, trial, search_space) if search_space else None
        if found is None:
            raise InvalidInputError("study has no parameter that varies; all its trials are alike")
        task, restriction = replace(found[0], remembers=False, rivals=0), found[1]
        if not len(task.evidence.objectives[0].y):
            raise InvalidInputError(
                f"study must have a trial with a value, got none in {len(task.trials)} trials; "
                "run some more first"
            )
        lesson, rng = self._lesson(task), self._rng(trial.number)
        with self._learner.isolated(rng):
            objectives, constraints = self._learner.beliefs(task, lesson)
            x, acquisition = best_point(task, objectives, constraints, rng, restriction)
        first = self._design(task, restriction) if self._begins(task, lesson) else x
        return Inspection(task, tuple(objectives), tuple(constraints), acquisition, first)

    def reseed_rng(self) -> None:
        """Reseed the independent sampler; ours draws fresh numbers for every trial already."""
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    @_usual_errors
    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that any trial has, with their latest ranges; those with one value left out.

        Optuna asks for those that the objective asks for, so that a model of them all serves
        conditional parameters too.
        """
        trials = _others(study, trial, use_cache=True)
        known = self._readers.of(study).parameters(trials)
        return dict(known.varying)

    @_usual_errors
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters for the next trial, from the model of all trials so far."""
        _require_few_objectives(study)
        if not search_space:
            return {}
        found = self._task(study, trial, search_space)
        if found is None:
            return {}
        task, restriction = found
        x = self._point(task, restriction)
        if x is None:
            return {}
        params = to_params(task.target, task.search_space, x)
        free = zip(params.items(), task.target.free.tolist(), strict=True)
        return {name: value for (name, value), chosen in free if chosen and name in search_space}

    @_usual_errors
    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value drawn uniformly from one distribution, or by the independent sampler.

        With input constraints, the first drawn that they allow as far as they can be told yet.
        """
        _require_few_objectives(study)
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        value = self._teachers.value(trial.number, param_name, param_distribution)
        if value is not None:
            return value
        search_space = {param_name: param_distribution}
        space = to_space(search_space)
        rng = self._rng(trial.number, zlib.crc32(param_name.encode()))
        for _ in range(_DRAWS):
            drawn = to_params(space, search_space, space.spread(rng.random(1)))
            if self._rule is None or may_have(self._rule, {**_settled(trial), **drawn}):
                return drawn[param_name]
        raise InvalidInputError(
            f"input_constraints must allow some value of {param_name!r} beside {_settled(trial)}, "
            f"got none in {_DRAWS} draws; enqueue a trial that is allowed to begin with"
        )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Note that a trial failed by itself, and tell the independent sampler."""
        if state == TrialState.FAIL:
            study._storage.set_trial_system_attr(trial._trial_id, memory.FAILED, True)
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _task(
        self, study: Study, trial: FrozenTrial, search_space: SearchSpace
    ) -> tuple[Task, Restriction | None] | None:
        """What is to be suggested, and the user's rule; None where every parameter is fixed."""
        asked = set(search_space)
        trials = without_abandoned(study, _others(study, trial, use_cache=False))
        known = self._readers.of(study).parameters(trials)
        varying = {**known.varying, **search_space}
        fixed = fixed_values(study.sampler, trial, asked, varying, trials)
        if asked <= fixed.keys():
            return None
        parameters = widened(search_space, varying, fixed)
        space, reading = self._readers.of(study).read(parameters, trials, len(study.directions))
        target = hold(space, parameters, fixed, no_longer_asked(space, reading))
        evidence = gather(space, reading, trials, study.directions)
        if np.isfinite(reading.value[evidence.faulty]).any():
            self._say_once(study, _TOO_GOOD)
        rivals = count_rivals(trial, [trials[i] for i in reading.running.nonzero()[0].tolist()])
        task = Task(study, trial, trials, parameters, space, target, evidence, rivals)
        return task, self._restriction(target, parameters, known.constant)

    def _begins(self, task: Task, lesson: Lesson | None) -> bool:
        """Whether there are too few observations yet to rely on a model of them."""
        needed = max(self._n_startup_trials, 1)
        if lesson is not None:
            needed = min(needed, LEAST_TRIALS)
        return task.evidence.count < needed

    def _design(self, task: Task, restriction: Restriction | None) -> Array | None:
        """The trial's point of the first design; None where the independent sampler draws it."""
        if self._independent_sampler is not None:
            return None
        rng = self._rng(task.trial.number)
        return design_point(task, self._seed, rng, restriction, self._teachers)

    def _point(self, task: Task, restriction: Restriction | None) -> Array | None:
        """Coordinates of the next trial; None where the independent sampler draws it."""
        lesson, rng = self._lesson(task), self._rng(task.trial.number)
        if self._begins(task, lesson):
            return self._design(task, restriction)
        with self._learner.isolated(rng):
            objectives, constraints = self._learner.beliefs(task, lesson)
            x, _ = best_point(task, objectives, constraints, rng, restriction)
            for _ in range(min(task.rivals, _MOST_RIVALS)):  # who see what we see, and choose first
                task = task.expecting(x)
                objectives = [belief.with_pending(x) for belief in objectives]
                constraints = [belief.with_pending(x) for belief in constraints]
                x, _ = best_point(task, objectives, constraints, rng, restriction)
        if not unvisited(task.target, x[None], task.evidence.visited)[0]:
            self._say_once(task.study, _EXHAUSTED)
        return x

    def _lesson(self, task: Task) -> Lesson | None:
        """What earlier studies say of the one objective."""
        data = task.evidence.objectives
        return self._teachers.lesson(task.search_space, data[0]) if len(data) == 1 else None

    def _restriction(
        self, space: Space, search_space: SearchSpace, constant: SearchSpace
    ) -> Restriction | None:
        if self._rule is None:
            return None
        values = {n: d.to_external_repr(_only(d)) for n, d in constant.items()}
        return Restriction(self._rule, space, search_space, values)

    def _say_once(self, study: Study, message: str) -> None:
        """Warn once for each study."""
        if (study.study_name, message) not in self._said:
            self._said.add((study.study_name, message))
            optuna.logging.get_verbosity()  # sets up Optuna's handler
            _LOGGER.warning(message)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *key])


def _others(study: Study, trial: FrozenTrial, *, use_cache: bool) -> list[FrozenTrial]:
    """All other trials of the study that were begun."""
    number = trial.number
    trials = study._get_trials(deepcopy=False, states=_STATES, use_cache=use_cache)
    if trials and trials[-1].number == number:
        return trials[:-1]
    return [t for t in trials if t.number != number]


def _settled(trial: FrozenTrial) -> dict[str, Any]:
    """Parameters of a trial that are known already."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _only(distribution: BaseDistribution) -> float:
    """The internal value of a distribution that has one only."""
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return distribution.low
    return 0.0


def _require_single_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise InvalidInputError(
            f"recommend needs a study with one objective, got {len(study.directions)}; "
            "see study.best_trials for several"
        )


def _require_few_objectives(study: Study) -> None:
    if len(study.directions) > _MOST_OBJECTIVES:
        raise InvalidInputError(
            f"FisherSampler needs a study with at most {_MOST_OBJECTIVES} objectives, got "
            f"{len(study.directions)}; use optuna.samplers.NSGAIIISampler for more"
        )
