"""`FisherSampler`, the Optuna sampler: its algorithm in steps, each of which is in a file."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from fisherbo.acquisition.propose import unvisited
from fisherbo.errors import InvalidInputError
from fisherbo.gp.transfer import TransferMean
from fisherbo.sampler import checks, fit_store
from fisherbo.sampler.input_constraints import Rule, draw_value
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.models import ModelFitter, Models
from fisherbo.sampler.options import DEFAULTS, AlgorithmOptions
from fisherbo.sampler.optuna_private import enqueued_values, set_system_attr
from fisherbo.sampler.recommend import Recommendation, recommend
from fisherbo.sampler.request import Request, read_request
from fisherbo.sampler.running import count_concurrent, without_abandoned
from fisherbo.sampler.search_space import to_params
from fisherbo.sampler.suggest import design_point, next_point, suggested_point
from fisherbo.sampler.transfer import LEAST_TRIALS, SourceStudies, read_sources
from fisherbo.sampler.trials import FAILED, ReadersByStudy, StudyReader, other_trials
from fisherbo.space import Array

if TYPE_CHECKING:
    from fisherbo.botorch.surrogate import Factory

usual_errors = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
"""NumPy's default, whatever the caller's is: an underflow to 0 is meant in many places."""
_LOGGER = logging.getLogger("optuna.fisherbo")


class FisherSampler(BaseSampler):
    """Bayesian optimization by natural-gradient ascent of an acquisition of a Gaussian process.

    One suggestion:

    1. `trials`: read the study's trials as one table (Optuna; each finished trial once).
    2. `search_space`: map the parameters to the unit cube and infer conditions from the trials;
       `fixed`: hold the values that are enqueued, fixed or no longer asked for.
    3. `observations`: rank pruned trials by their reports, recognise penalties and outliers, and
       warp the worse half of the values to normal quantiles (half-rank warp: Song et al. 2024, the
       Vizier GP bandit); `constraints`: observations of each constraint, and of failures if there
       are many (Gardner et al. 2014). Trials of killed workers are ignored.
    4. `suggest`: the first ``n_startup_trials`` are points of a scrambled Sobol sequence. Three of
       them are replaced by the best points of earlier studies, if given (`transfer`).
    5. `models`: fit a Gaussian process (Rasmussen & Williams 2006) to each objective and
       constraint. Its prior mean is pessimistic, but not in spaces with logarithmic or categorical
       parameters. The kernel is Matérn-3/2 with a lengthscale for each parameter, or for each
       rotated axis of the continuous parameters if the data support it (`gp.rotation`). The
       hyperparameters maximise their posterior density, by natural-gradient steps in the average
       information (Gilmour, Thompson & Cullis 1995). They are stored with the trial (`fit_store`)
       and refitted after a number of trials that grows with the study. Points under evaluation
       count as observed at their posterior means (kriging believer: Ginsbourger et al. 2010).
    6. `suggest`: the acquisition is log expected improvement (Ament et al. 2023) over the best
       value, or over the best posterior mean if values are noisy (a point has two, or
       :data:`NOISE_VARIANCE` is given) or trials are running. With several objectives it is log
       expected hypervolume improvement (Daulton et al. 2020). The log probability of feasibility
       is added.
    7. `acquisition.exclusion`: avoid plateaus, where several points have equal values, and points
       under evaluation. If the best value is more than two trials old, every other trial avoids
       all known points.
    8. `acquisition.quadratic`: from ten observations for each parameter, every other trial is the
       optimum of a quadratic through the best points, if that predicts them; in continuous spaces,
       for one objective without constraints, while no other trial is running.
    9. `acquisition.propose`: otherwise maximise the acquisition by natural-gradient ascent
       (`optimize.descent`) in the Fisher metric of the posterior (`gp.fisher`), or in its own
       curvature under constraints, from the best of a set of quasi-random points; in mixed
       spaces, after a natural-gradient search (Ollivier et al. 2017).

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
            trials better than chance. This gives a head start only: no gain was found after 24
            trials. Not with ``surrogate``, nor with several objectives.
        input_constraints: Rule that every suggestion obeys: a callable from the parameters that
            exist at a point, by name, to whether it may be evaluated. It should raise KeyError if a
            parameter is missing: before the first trial has run, not all of them are known.
        rotation: Whether an objective's kernel may have its lengthscales along rotated axes of the
            continuous, unconditional parameters, up to 20 (:mod:`fisherbo.gp.rotation`). In
            ill-conditioned valleys along no axis (BBOB 10 and 11) the regret after 100 trials is
            some forty times smaller in 5-D and slightly smaller in 10-D; elsewhere rotations are
            rarely kept. A suggestion takes 10 % longer, 50 % where a rotation is kept.
        _options: For experiments; not part of the public interface.

    A study has at most 4 objectives. As in Optuna, a complete trial without a value for a
    constraint counts as feasible. Failures get a model of their own if more than a tenth of the
    trials failed or returned a penalty: the same worst value again and again, far from all others.
    A value that exceeds all others by more than 15 orders of magnitude counts as a fault of the
    objective. The search is conditioned on values that are enqueued or fixed by
    ``optuna.samplers.PartialFixedSampler``; parameters that the latest trials no longer ask for
    keep their last values.

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
        _options: AlgorithmOptions = DEFAULTS,
    ) -> None:
        checks.check_arguments(n_startup_trials, surrogate, source_studies, input_constraints)
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._n_startup_trials = n_startup_trials
        self._independent_sampler = independent_sampler
        self._options = replace(_options, rotation=rotation)
        self._fitter = ModelFitter(surrogate, options=self._options)
        self._sources = SourceStudies(read_sources(source_studies))
        self._readers = ReadersByStudy(StudyReader)
        self.input_constraints = input_constraints
        self._said: set[tuple[str, str]] = set()  # names of studies, and warnings

    @usual_errors
    def recommend(self, study: Study) -> Recommendation:
        """The evaluated point of the best posterior mean, which to use in the end.

        The best observed value is the luckiest where values are noisy; this is the best posterior
        mean among the complete, feasible trials. Nothing is written to the study.

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
        return recommend(study, self._readers.of(study), self._sources, self._options)

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
        return Inspection(*found, designed=designed, quadratic=quadratic and not designed)

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
        if not search_space:
            return {}
        trials = without_abandoned(study, other_trials(study, trial, use_cache=False))
        request = self._request(study, trial, trials, search_space)
        x = None if request is None else self._point(study, trial, trials, request)
        if request is None or x is None:
            return {}
        params = to_params(request.target, request.search_space, x)
        free = zip(params.items(), request.target.free.tolist(), strict=True)
        return {name: value for (name, value), chosen in free if chosen and name in search_space}

    @usual_errors
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
        checks.require_few_objectives(study)
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        if (value := self._sources.value(trial.number, param_name, param_distribution)) is not None:
            return value
        rng = self._rng(trial.number, zlib.crc32(param_name.encode()))
        settled = {**enqueued_values(trial), **trial.params}
        return draw_value(self.input_constraints, settled, param_name, param_distribution, rng)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Note that a trial failed by itself, and tell the independent sampler."""
        if state == TrialState.FAIL:
            set_system_attr(study, trial, FAILED, True)
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _request(
        self,
        study: Study,
        trial: FrozenTrial,
        trials: Sequence[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> Request | None:
        """What is asked for, by steps 1 to 3; None where every parameter is fixed."""
        reader = self._readers.of(study)
        found = read_request(
            study, trial, trials, search_space, reader, self.input_constraints, self._options
        )
        if found and np.isfinite(found.table.value[found.observations.too_good]).any():
            self._say_once(study, checks.TOO_GOOD)
        return found

    def _begins(self, request: Request, transfer: TransferMean | None) -> bool:
        """Whether there are too few observations to rely on a model, or nothing but failures."""
        if request.observations.nothing_but_failures:
            return True
        needed = max(self._n_startup_trials, 1)
        needed = needed if transfer is None else min(needed, LEAST_TRIALS)
        return request.observations.count < needed

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
        last = partial(fit_store.latest, trials, tuple(request.search_space))
        return self._fitter.fit(request.observations, request.space, last, transfer)

    def _point(
        self, study: Study, trial: FrozenTrial, trials: Sequence[FrozenTrial], request: Request
    ) -> Array | None:
        """Coordinates of the next trial; None where the independent sampler draws it."""
        transfer = self._sources.prior_mean(request.search_space, request.observations)
        rng = self._rng(trial.number)
        if self._begins(request, transfer):
            return self._design(request)
        with self._fitter.isolated(rng):
            models = self._fit(request, trials, transfer)
            fit_store.write(study, trial, tuple(request.search_space), models.fits)
            x = suggested_point(request, models, rng, count_concurrent(trial, trials))
        visited = request.observations.evaluated
        if not unvisited(request.target, x[None], visited)[0]:
            self._say_once(study, checks.EXHAUSTED)
        return x

    def _say_once(self, study: Study, message: str) -> None:
        """Warn once for each study."""
        if (study.study_name, message) not in self._said:
            self._said.add((study.study_name, message))
            optuna.logging.get_verbosity()  # sets up Optuna's handler
            _LOGGER.warning(message)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *key])
