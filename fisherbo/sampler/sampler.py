"""`FisherSampler`, the Optuna sampler: its algorithm in steps, each of which is in a file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from fisherbo.acquisition.propose import unvisited
from fisherbo.errors import InvalidInputError
from fisherbo.gp.transfer import TransferMean
from fisherbo.sampler import checks, fit_store
from fisherbo.sampler.candidate_rows import first_row
from fisherbo.sampler.candidates import CandidateList, read_candidates
from fisherbo.sampler.categories import labels, read_categories, unknown
from fisherbo.sampler.claims import claim_row, claimed_value
from fisherbo.sampler.curve_ends import EndReader
from fisherbo.sampler.design import begins, design_point
from fisherbo.sampler.input_constraints import Rule
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.models import ModelFitter, Models
from fisherbo.sampler.notices import Notices
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.optuna_private import enqueued_values, set_system_attr
from fisherbo.sampler.priors import Priors, unknown_names
from fisherbo.sampler.recommend import Recommendation, recommend
from fisherbo.sampler.request import Request, read_request
from fisherbo.sampler.running import count_concurrent, without_abandoned
from fisherbo.sampler.search_space import SearchSpace
from fisherbo.sampler.suggest import next_point, suggested_point
from fisherbo.sampler.transfer import LEAST_TRIALS, SourceStudies, read_sources
from fisherbo.sampler.trials import CANDIDATE, FAILED, ReadersByStudy, StudyReader, other_trials
from fisherbo.sampler.user_settings import UserSettings
from fisherbo.space import Array

if TYPE_CHECKING:
    from fisherbo.botorch.surrogate import Factory

usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""NumPy's default, whatever the caller's is: an underflow to 0 is meant in many places."""


class FisherSampler(BaseSampler):
    """Bayesian optimization by natural-gradient ascent of an acquisition of a Gaussian process.

    The steps of a suggestion are listed in :mod:`fisherbo.sampler`.

    Random numbers depend only on the seed and the trial's number, and fitted hyperparameters are
    stored in the study, so a resumed study continues exactly as an uninterrupted one would.

    Args:
        seed: Seed; drawn at random if None.
        n_startup_trials: Finished trials before the model is used; until then a Sobol design.
        independent_sampler: Sampler for the first trials, in place of the Sobol design, and for
            parameters that no trial has had yet.
        surrogate: Model in place of ours: a callable ``(train_X, train_Y) -> model`` that returns a
            BoTorch model with one output, such as ``botorch.models.SingleTaskGP`` itself. It is
            called in every trial. ``train_X`` holds float64 coordinates in the unit cube, shape
            ``(n, d)``, with columns in the alphabetical order of the parameters that vary; a
            category is its index / (choices − 1). ``train_Y`` holds warped, standardised values,
            larger is better, shape ``(n, 1)``. An exact GP in training mode is fitted by marginal
            likelihood; a model in evaluation mode is used as it is. A suggestion takes about a
            second, mostly BoTorch's fit. Only one runs at a time in a process; torch's random state
            is set from the seed and restored. No fit is stored in the study.
        source_studies: Earlier studies with one objective and the same or an overlapping space.
            Their completed trials are read once, here. Their best points replace three points of
            the design, and their models form the prior mean of the new one as far as they rank its
            trials better than chance. This gives a head start only: no gain was found after 32
            trials. With several objectives they give points of the design only. Not with
            ``surrogate``.
        input_constraints: Rule that every suggestion obeys: a callable from the parameters that
            exist at a point, by name, to whether it may be evaluated. It should raise KeyError if a
            parameter is missing: before the first trial has run, not all of them are known.
        candidates: The only points that may be proposed, each once: a pandas DataFrame with a
            parameter in each column, or a sequence of parameters by name. A row may lack parameters
            (in a DataFrame: a missing value) that the objective does not ask for there. Equal rows
            count once. What the objective never asks for is ignored, with a warning.
        rotation: Whether an objective's kernel may have its lengthscales along rotated axes of the
            continuous, unconditional parameters, up to 20 (:mod:`fisherbo.gp.rotation`). In
            ill-conditioned valleys along no axis (BBOB 10 and 11) the regret after 100 trials is
            some forty times smaller in 5-D and slightly smaller in 10-D; elsewhere rotations are
            rarely kept. A suggestion takes 10 % longer, 50 % where a rotation is kept.
        categories: What is known of categorical parameters, by name: their choices in order,
            ``fisherbo.ordered("s", "m", "l")``, or distances of choices, as a symmetric matrix in
            the order of the choices or a mapping from pairs (:mod:`fisherbo.sampler.categories`).
        cost: What a trial costs, for improvement per cost: "seconds" for its duration, or the name
            of a user attribute that tells it, as by ``trial.set_user_attr("dollars", 0.2)``. A user
            attribute "seconds" replaces the duration. See :mod:`fisherbo.sampler.costs`.
        budget: What all trials may cost together. The last ones are chosen to fit into what is
            left; `StopWhenSpent` ends the study there.
        priors: Where the optimum is believed to be, by parameter: a distribution of
            :mod:`fisherbo.prior`, or weights of categories. Its mode is the first trial. The belief
            fades as trials come in, and is given up where they contradict it. A belief about a
            parameter that no trial asks for gives a warning.
        _options: For experiments; not part of the public interface.

    A study has at most 4 objectives. As in Optuna, a complete trial without a value for a
    constraint counts as feasible. Failures get a model of their own if more than a tenth of the
    trials failed or returned a penalty: the same worst value again and again, far from all others.
    A value that exceeds all others by more than 15 orders of magnitude counts as a fault of the
    objective. The search is conditioned on values that are enqueued or fixed by
    ``optuna.samplers.PartialFixedSampler``; parameters that the latest trials no longer ask for
    keep their last values.

    Raises:
        InvalidInputError: If an argument is not as described above; at a suggestion, if the study
            has more than 4 objectives, ``surrogate`` makes no such model, no point is found that
            ``input_constraints`` allows, the choices are not those that ``categories`` describes,
            or ``candidates`` lie outside the objective's ranges.

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
        candidates: CandidateList | None = None,
        rotation: bool = True,
        categories: Mapping[str, Any] | None = None,
        cost: str | None = None,
        budget: float | None = None,
        priors: Priors | None = None,
        _options: AlgorithmOptions = DEFAULTS,
    ) -> None:
        checks.check_arguments(n_startup_trials, surrogate, source_studies, input_constraints)
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._n_startup_trials = n_startup_trials
        self._independent_sampler = independent_sampler
        options = replace(_options, rotation=rotation)
        checks.check_candidates(candidates, independent_sampler)
        self._candidates = read_candidates(candidates, input_constraints)
        told, priced = read_categories(categories), checks.cost_settings(cost, budget)
        self._settings = UserSettings(
            input_constraints, options, told, priced, priors, self._candidates
        )
        self._fitter = ModelFitter(surrogate, options=options)
        self._sources = SourceStudies(read_sources(source_studies))
        self._readers = ReadersByStudy(StudyReader)
        self._curves = ReadersByStudy(EndReader)
        self._notices = Notices()

    @property
    def settings(self) -> UserSettings:
        """What the user tells beside the study."""
        return self._settings

    @usual_errors
    def recommend(self, study: Study) -> Recommendation:
        """The evaluated point with the best posterior mean: the one to use in the end.

        If values are noisy, the best observed one is partly luck; this is the best posterior mean
        among the complete, feasible trials. Nothing is written to the study.

        Args:
            study: A study with one objective, made by this or any other sampler.

        Returns:
            Trial number, parameters, and the median and central 95% credible interval of the
            noise-free value there in units of the objective, by the inverse of the model's warp:
            interpolated between observed values, never worse than the worst of them.

        Raises:
            InvalidInputError: If the study has several objectives, no complete and feasible trial,
                or no parameter that varies.
        """
        checks.require_single_objective(study)
        read = self._readers.of(study), self._sources, self._settings, self._curves.of(study)
        return recommend(study, *read)

    @usual_errors
    def inspect(self, study: Study) -> Inspection:
        """The models of a study, and where the next trial would go; nothing is written.

        Args:
            study: A study of at most 4 objectives, made by this or any other sampler.

        Raises:
            InvalidInputError: If no trial has a value yet, no parameter varies, or there are too
                many objectives.
        """
        checks.require_few_objectives(study)
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = len(study.get_trials(deepcopy=False))
        search_space = self.infer_relative_search_space(study, trial)
        trials = without_abandoned(study, other_trials(study, trial, use_cache=False))
        request = self._request(study, trial, trials, search_space) if search_space else None
        if request is None:
            raise InvalidInputError(checks.NOTHING_VARIES)
        if not len(request.observations):
            raise InvalidInputError(
                f"study must have a trial with a value, got none in {len(trials)} trials; "
                "run some more first"
            )
        transfer = self._sources.prior_mean(request.search_space, request.observations)
        rng = self._rng(trial.number)
        with self._fitter.isolated(rng):
            models = self._fit(request, trials, transfer)
            x, acquisition, quadratic = next_point(request, models, rng)
        designed = self._begins(request, transfer)
        first = self._design(request) if designed else x
        fitted = models.objectives, models.constraints
        found = request, study.directions, *fitted, acquisition, first
        return Inspection(*found, designed, quadratic and not designed, models.cost)

    def reseed_rng(self) -> None:
        """Reseed the independent sampler; ours draws fresh numbers for every trial already."""
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    @usual_errors
    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that any trial has, with their latest ranges; those with one value left out.

        Optuna asks for those that the objective asks for: one model serves conditional ones too.
        """
        trials = other_trials(study, trial, use_cache=True)
        return dict(self._readers.of(study).parameters(trials).varying)

    @usual_errors
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters for the next trial, from the model of all trials so far."""
        checks.require_few_objectives(study)
        number, suggest = trial.number, partial(self._suggest, study, trial, search_space)
        if self._candidates is not None:
            draw = partial(first_row, wanted=self._sources.pick(number), rng=self._rng(number))
            say = partial(self._notices.give, study)
            row = claim_row(study, trial, self._candidates, suggest, draw, say)
            return self._candidates.values(row, search_space)
        request, x = suggest(without_abandoned(study, other_trials(study, trial, use_cache=False)))
        return {} if request is None or x is None else request.chosen(x, search_space)

    @usual_errors
    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value drawn uniformly, from a belief or by the independent sampler.

        With input constraints, the first drawn that they allow as far as they can be told yet.
        """
        checks.require_few_objectives(study)
        if self._candidates is not None:
            return claimed_value(study, trial, self._candidates, param_name, param_distribution)
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        if (value := self._sources.value(trial.number, param_name, param_distribution)) is not None:
            return value
        rng = self._rng(trial.number, zlib.crc32(param_name.encode()))
        settled = {**enqueued_values(trial), **trial.params}
        return self._settings.drawn(trial.number, settled, param_name, param_distribution, rng)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Note that a trial failed by itself, and tell the independent sampler."""
        if state == TrialState.FAIL and trial.system_attrs.get(CANDIDATE) != "":
            set_system_attr(study, trial, FAILED, True)
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _request(
        self, study: Study, trial: FrozenTrial, trials: Sequence[FrozenTrial], asked: SearchSpace
    ) -> Request | None:
        """What is asked for, by steps 1 to 3; None where every parameter is fixed."""
        reader = self._readers.of(study)
        curves = self._curves.of(study)
        found = read_request(study, trial, trials, asked, reader, self._settings, curves)
        for message in found.warnings if found else ():
            self._notices.give(study, message)
        if unknown := unknown_names(self._settings.priors, reader.parameters(trials), len(trials)):
            self._notices.give(study, unknown, "priors")
        return found

    def _begins(self, request: Request, transfer: TransferMean | None) -> bool:
        """Whether the trial is one of the first design."""
        needed = max(self._n_startup_trials, 1)
        return begins(request, needed if transfer is None else min(needed, LEAST_TRIALS))

    def _design(self, request: Request) -> Array | None:
        """The trial's point of the first design; None where the independent sampler draws it."""
        if self._independent_sampler is not None:
            return None
        number, observations = request.number, request.observations
        first = self._sources.first_point(number, request.search_space, observations)
        return design_point(request, self._seed, self._rng(number), first)

    def _fit(
        self, request: Request, trials: Sequence[FrozenTrial], transfer: TransferMean | None
    ) -> Models:
        last = partial(fit_store.latest, trials, labels(request.search_space))
        observations, costs = request.observations, request.costs
        return self._fitter.fit(observations, request.space, last, transfer, costs)

    def _suggest(
        self, study: Study, trial: FrozenTrial, search_space: SearchSpace, trials: list[FrozenTrial]
    ) -> tuple[Request | None, Array | None]:
        """What is asked for, if anything, and coordinates, unless the independent sampler draws."""
        request = self._request(study, trial, trials, search_space) if search_space else None
        if request is None:
            return None, None
        transfer = self._sources.prior_mean(request.search_space, request.observations)
        rng = self._rng(trial.number)
        if self._begins(request, transfer):
            return request, self._design(request)
        with self._fitter.isolated(rng):
            models = self._fit(request, trials, transfer)
            fit_store.write(study, trial, labels(request.search_space), models.fits)
            x = suggested_point(request, models, rng, count_concurrent(trial, trials))
        if text := unknown(self._settings.categories, request.search_space):
            self._notices.give(study, text)
        visited = request.observations.evaluated
        if self._candidates is None and not unvisited(request.target, x[None], visited)[0]:
            self._notices.give(study, checks.EXHAUSTED)
        return request, x

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *key])
