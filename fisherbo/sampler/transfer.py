"""Earlier studies: their best points for the design, and their models as a prior mean.

How far the models are trusted is in `fisherbo.gp.transfer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.gp.model import conditioned, refit
from fisherbo.gp.subset import active_set
from fisherbo.gp.transfer import SourceModel, TransferMean, transfer_mean
from fisherbo.gp.warp import warp
from fisherbo.sampler.observations import Observations
from fisherbo.sampler.optuna_private import contains
from fisherbo.sampler.search_space import SearchSpace, from_params, to_space
from fisherbo.space import Array

if TYPE_CHECKING:
    from optuna.study import Study

LEAST_TRIALS = 5
"""Observations of the target from which on the sources, where they agree, replace a design."""

_MOST_TRIALS = 200  # from which on the target needs no other study
_SOURCE_SIZE = 256
_FIRST = 3  # points of the sources that are tried before there is any evidence
_APART = 0.1  # their least distance, in units of the cube's diagonal


@dataclass(frozen=True)
class SourceStudy:
    """Completed trials of an earlier study, the best first.

    Attributes:
        params: Parameters of each trial.
        distributions: The latest distribution of every parameter.
        y: Warped values, larger is better, shape ``(n,)``.
    """

    params: tuple[Mapping[str, Any], ...]
    distributions: Mapping[str, BaseDistribution]
    y: Array

    @staticmethod
    def of(study: Study) -> SourceStudy:
        """What a study's trials say; the study is not kept.

        Raises:
            InvalidInputError: If it has several objectives.
        """
        if len(study.directions) > 1:
            raise InvalidInputError(
                "source_studies must have one objective each, got a study with "
                f"{len(study.directions)}; leave it out"
            )
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        trials = [t for t in trials if t.params and math.isfinite(t.values[0])]
        if not trials:
            return SourceStudy((), {}, np.empty(0))
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        y = warp(np.array([sign * t.values[0] for t in trials], dtype=np.float64))
        kept = active_set(np.zeros((len(y), 1)), y, np.ones(1), _SOURCE_SIZE)
        kept = kept[np.argsort(-y[kept], kind="stable")]
        latest = {name: d for t in trials for name, d in t.distributions.items()}
        return SourceStudy(tuple(dict(trials[i].params) for i in kept), latest, y[kept])

    def within(self, search_space: SearchSpace) -> tuple[dict[str, BaseDistribution], Array]:
        """The parameters shared with a search space, and the trials' coordinates in them.

        NaN where a trial has none, or one that the space does not know; shape ``(n, c)``.
        """
        shared = {
            name: d
            for name, d in search_space.items()
            if name in self.distributions and _alike(self.distributions[name], d)
        }
        trials = [
            {name: p[name] for name, d in shared.items() if name in p and _knows(d, p[name])}
            for p in self.params
        ]
        return shared, _coordinates(shared, trials)

    def leaders(self, count: int) -> list[Mapping[str, Any]]:
        """Parameters of the best trials that are some distance apart."""
        x = np.nan_to_num(self.within(self.distributions)[1], nan=0.5)
        least = _APART * math.sqrt(x.shape[1])
        chosen: list[int] = []
        for i in range(len(x)):
            near = (np.linalg.norm(x[i] - x[j]) < least for j in chosen)
            if len(chosen) < count and not any(near):
                chosen.append(i)
        return [self.params[i] for i in chosen]


class SourceStudies:
    """Sources, and their models in the coordinates of the latest search space.

    The models follow from the sources and the space: kept to save time, not copied or pickled.
    """

    def __init__(self, sources: tuple[SourceStudy, ...] = ()) -> None:
        self._sources = sources
        self._leaders = [source.leaders(_FIRST) for source in sources]
        self._kept: tuple[Any, tuple[SourceModel, ...]] = (None, ())

    def __reduce__(self) -> tuple[type[SourceStudies], tuple[tuple[SourceStudy, ...]]]:
        return SourceStudies, (self._sources,)

    def prior_mean(
        self, search_space: SearchSpace, observations: Observations
    ) -> TransferMean | None:
        """The prior mean from the sources; None without any, or if the target has enough data."""
        if observations.objectives > 1 or not self._sources:
            return None
        if not LEAST_TRIALS <= len(observations) <= _MOST_TRIALS:
            return None
        kinds = to_space(search_space).kinds
        y = warp(observations.y[:, 0])
        return transfer_mean(self._models(search_space), observations.x, y, kinds)

    def pick(self, number: int) -> Mapping[str, Any]:
        """Parameters that the sources choose for a trial; trials 0, 2 and 4 only, else none."""
        if not self._sources or number % 2 or number >= 2 * _FIRST:
            return {}
        rank, turn = divmod(number // 2, len(self._sources))
        leaders = self._leaders[turn]
        return leaders[rank] if rank < len(leaders) else {}

    def value(self, number: int, name: str, distribution: BaseDistribution) -> Any:
        """The value that the sources choose for one parameter of a trial, None if they do not."""
        value = self.pick(number).get(name)
        usable = value is not None and _knows(distribution, value)
        return value if usable and contains(distribution, value) else None

    def first_point(
        self, number: int, search_space: SearchSpace, observations: Observations
    ) -> Array:
        """Coordinates that the sources choose for a trial of the design, NaN where none, ``(d,)``.

        All NaN once the best of their points is worse than the best of the other points.
        """
        wanted = self._wanted(number, search_space)
        if np.isnan(wanted).all():
            return wanted
        y = observations.y[:, 0]
        theirs = np.zeros(len(y), dtype=bool)
        for earlier in range(number):
            target = self._wanted(earlier, search_space)
            if not np.isnan(target).all():
                theirs |= (np.isnan(target) | (np.abs(observations.x - target) < 1e-6)).all(1)
        best = [y[rows].max(initial=-math.inf) for rows in (theirs, ~theirs)]
        return np.full_like(wanted, np.nan) if theirs.any() and best[0] < best[1] else wanted

    def _wanted(self, number: int, search_space: SearchSpace) -> Array:
        """Coordinates that the sources choose for a trial, NaN where they do not, ``(d,)``."""
        values = {n: self.value(number, n, d) for n, d in search_space.items()}
        found = {name: value for name, value in values.items() if value is not None}
        return _coordinates(search_space, [found])[0]

    def _models(self, search_space: SearchSpace) -> tuple[SourceModel, ...]:
        key, models = self._kept
        if key != tuple(search_space.items()):
            made = (_model(source, search_space) for source in self._sources)
            models = tuple(model for model in made if model is not None)
            self._kept = tuple(search_space.items()), models
        return models


def read_sources(studies: Sequence[Study]) -> tuple[SourceStudy, ...]:
    """The studies' completed trials; those with too few are left out."""
    sources = (SourceStudy.of(study) for study in studies)
    return tuple(source for source in sources if len(source.y) >= LEAST_TRIALS)


def _model(source: SourceStudy, search_space: SearchSpace) -> SourceModel | None:
    shared, x = source.within(search_space)
    if not shared or np.isnan(x).all():
        return None
    space = to_space(shared)
    x = np.where(np.isnan(x), space.centre, x)
    posterior, _ = conditioned(x, source.y, space, refit(x, source.y, space, None), None)
    names = list(search_space)
    return SourceModel(posterior, np.array([names.index(name) for name in shared]))


def _coordinates(search_space: SearchSpace, params: Sequence[Mapping[str, Any]]) -> Array:
    """Coordinates of parameters, NaN where there is none, shape ``(n, d)``."""
    if not search_space:
        return np.empty((len(params), 0))
    with np.errstate(all="ignore"):  # the logarithm of a value that the space does not know
        x = from_params(to_space(search_space), search_space, params)
    return np.where(np.isfinite(x), x, np.nan)


def _alike(a: BaseDistribution, b: BaseDistribution) -> bool:
    """Whether values of one have a place among those of the other."""
    return isinstance(a, CategoricalDistribution) == isinstance(b, CategoricalDistribution)


def _knows(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value has a coordinate: any number, or one of the choices."""
    if isinstance(distribution, CategoricalDistribution):
        return any(type(c) is type(value) and c == value for c in distribution.choices)
    return isinstance(value, int | float) and not isinstance(value, bool)
