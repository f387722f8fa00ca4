"""`FisherSampler`: the Optuna sampler, a thin shell around the pure steps below it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.acquisition.propose import propose, unvisited
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import memory
from fisherbo.sampler.conditions import with_conditions
from fisherbo.sampler.convert import to_data, to_params, to_space
from fisherbo.sampler.model import believe, refit
from fisherbo.sampler.reader import Reader
from fisherbo.space import Array, Data, Space
from fisherbo.surrogate.posterior import Posterior, with_fantasies
from fisherbo.surrogate.protocol import Surrogate
from fisherbo.surrogate.warp import warp

if TYPE_CHECKING:
    from fisherbo.surrogate.autograd import Factory

_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
_ANCHORS = 4
_DESIGN_REPEATS = 64
_REFERENCE_POINTS = 32


class FisherSampler(BaseSampler):
    """Bayesian optimization by natural-gradient ascent in the Fisher metric of a Gaussian process.

    A Matérn-5/2 Gaussian process with a lengthscale for each parameter is fitted to the half-rank
    warped values of all finished trials; the next trial maximises log expected improvement over the
    best posterior mean. Random numbers depend on the seed and the trial's number alone, and fitted
    hyperparameters are kept in the study: a resumed study goes on exactly as an uninterrupted one.

    Args:
        seed: Seed; drawn at random if None.
        n_startup_trials: Finished trials before the model is used; until then a Sobol design.
        independent_sampler: Sampler of the first trials and of parameters outside the common search
            space, in place of the Sobol design.
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

    Raises:
        InvalidInputError: If ``n_startup_trials`` is negative or ``surrogate`` cannot be called; at
            a suggestion, if the study has several objectives or ``surrogate`` makes no such model.

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
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._n_startup_trials = n_startup_trials
        self._independent_sampler = independent_sampler
        self._surrogate = surrogate
        self._reader = Reader()
        self._base: Posterior | None = None  # saves time only: it follows from the trials

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_base": None}

    def reseed_rng(self) -> None:
        """Reseed the independent sampler; ours draws fresh numbers for every trial already."""
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that any trial has, with their latest ranges; those with one value left out.

        Optuna asks for those that the objective asks for, so that a model of them all serves
        conditional parameters too.
        """
        trials = _others(study, trial, use_cache=True)
        union = self._reader.union((study._storage, study._study_id), trials)
        return {name: d for name, d in union.items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters for the next trial, from the model of all trials so far."""
        _require_single_objective(study)
        if not search_space:
            return {}
        trials = _others(study, trial, use_cache=False)
        rows = self._reader.rows(search_space, trials)
        complete = np.array([t.state == TrialState.COMPLETE for t in trials], dtype=bool)
        space = with_conditions(to_space(search_space), rows[complete])
        maximize = study.direction == StudyDirection.MAXIMIZE
        data = to_data(space, rows, trials, maximize=maximize)
        if len(data.y) < max(self._n_startup_trials, 1):
            return self._startup(space, search_space, trial, data)
        if self._surrogate is not None:
            x = _suggest_by(self._surrogate, data, space, self._rng(trial.number))
            return to_params(space, search_space, x)
        y = warp(data.y)
        last = memory.latest(trials, tuple(search_space))
        fitted = refit(data.x, y, space, last)
        if fitted is not last:
            study._storage.set_trial_system_attr(trial._trial_id, memory.KEY, memory.encode(fitted))
        posterior, self._base = believe(data.x, y, space, fitted, self._base)
        believed = with_fantasies(posterior, data.pending)
        x = _best_of(posterior, believed, data, space, self._rng(trial.number))
        return to_params(space, search_space, x)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value drawn uniformly from one distribution, or by the independent sampler."""
        _require_single_objective(study)
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        search_space = {param_name: param_distribution}
        space = to_space(search_space)
        u = self._rng(trial.number, zlib.crc32(param_name.encode())).random(1)
        return to_params(space, search_space, space.spread(u))[param_name]

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

    def _startup(
        self,
        space: Space,
        search_space: dict[str, BaseDistribution],
        trial: FrozenTrial,
        data: Data,
    ) -> dict[str, Any]:
        """The trial's point of a Sobol design scrambled by the seed, or the next that is new."""
        if self._independent_sampler is not None:
            return {}
        from scipy.stats.qmc import Sobol  # imported on first use: scipy.stats is slow to import

        engine = Sobol(space.dimension, rng=np.random.default_rng(self._seed))
        if trial.number:
            engine.fast_forward(trial.number)
        points = space.spread(engine.random(_DESIGN_REPEATS))
        fresh = unvisited(space, points, np.concatenate([data.x, data.pending]))
        return to_params(space, search_space, points[int(np.argmax(fresh))])

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *key])


def _others(study: Study, trial: FrozenTrial, *, use_cache: bool) -> list[FrozenTrial]:
    """All other trials of the study that were begun."""
    trials = study._get_trials(deepcopy=False, states=_STATES, use_cache=use_cache)
    return [t for t in trials if t.number != trial.number]


def _suggest_by(factory: Factory, data: Data, space: Space, rng: np.random.Generator) -> Array:
    """Coordinates of the next trial, from a factory's model of the data."""
    from scipy.stats.qmc import Sobol  # imported on first use: slow to import, as is torch

    from fisherbo.surrogate.autograd import from_factory, isolated, with_pending

    y = warp(data.y)
    reference = space.spread(Sobol(space.dimension, rng=0).random(_REFERENCE_POINTS))
    with isolated(int(rng.integers(2**63))):
        surrogate = from_factory(factory, data.x, y, reference)
        believed = with_pending(surrogate, factory, data.x, y, data.pending)
        return _best_of(surrogate, believed, data, space, rng)


def _best_of(
    surrogate: Surrogate, believed: Surrogate, data: Data, space: Space, rng: np.random.Generator
) -> Array:
    """The proposal of a surrogate that believes in the values of pending points."""
    taken = np.concatenate([data.x, data.pending])
    mean = surrogate.mean(taken)
    leaders = np.argsort(-mean, kind="stable")[:_ANCHORS]
    proposal = propose(
        believed,
        space,
        float(mean[leaders[0]]),
        space.snap(taken[leaders]),
        rng,
        visited=taken,
    )
    return proposal.x


def _require_single_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise InvalidInputError(
            f"FisherSampler needs a study with one objective, got {len(study.directions)}; "
            "use optuna.samplers.GPSampler or NSGAIISampler for several objectives"
        )
