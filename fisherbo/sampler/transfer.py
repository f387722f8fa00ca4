"""Earlier studies as a prior mean of a new one, as far as they rank its trials rightly.

Symbols: m_k mean of a Gaussian process of source k in the target's coordinates, of the parameters
that both have; τ_k Kendall's rank correlation of m_k and the target's values y at its n trials,
z_k = τ_k/sd(n) in units of its standard deviation by chance; g_k = clip((z_k − 1)/2, 0, 1).

    h(x) = g ρ Σ v_k (m_k(x) − m̄_k)/s_k,   v_k ∝ g_k τ_k,   g = max g_k

where m̄_k, s_k are mean and deviation at the target's points and ρ ∈ [0, 1] the coefficient of the
sum M in y under a Gaussian process with covariance K at the prior's mode, given ρ ~ N(0, 1):
ρ = MᵀK⁻¹y/(MᵀK⁻¹M + 1). The target's process models y − h. A source that ranks no better than
chance has g_k = 0 and says nothing (ranks as weights: Feurer et al. 2018, RGPE); with all at 0
nothing is changed. A product g ρ below 1/3 counts as 0, what is above is stretched, and from
5 (d + 1) to twice as many trials it fades to 0: by then the target knows itself.
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
from fisherbo.sampler.convert import SearchSpace, from_params, to_space
from fisherbo.sampler.model import PRIOR_MEAN, believe, refit
from fisherbo.space import Array, Data, Integers, Space
from fisherbo.surrogate.active import active_set
from fisherbo.surrogate.fit import prior_mode
from fisherbo.surrogate.posterior import (
    Linearization,
    Posterior,
    Prediction,
    condition,
    with_fantasies,
)
from fisherbo.surrogate.warp import warp

if TYPE_CHECKING:
    from optuna.study import Study

LEAST_TRIALS = 5
"""Observations of the target from which on the sources, where they agree, replace a design."""

_MOST_TRIALS = 200  # from which on the target needs no other study
_SOURCE_SIZE = 256
_LEAST_SPREAD = 0.3
_FIRST = 3  # points of the sources that are tried before there is any evidence
_APART = 0.1  # their least distance, in units of the cube's diagonal


@dataclass(frozen=True)
class Source:
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
    def of(study: Study) -> Source:
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
            return Source((), {}, np.empty(0))
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        y = warp(np.array([sign * t.values[0] for t in trials], dtype=np.float64))
        kept = active_set(np.zeros((len(y), 1)), y, np.ones(1), _SOURCE_SIZE)
        kept = kept[np.argsort(-y[kept], kind="stable")]
        latest = {name: d for t in trials for name, d in t.distributions.items()}
        return Source(tuple(dict(trials[i].params) for i in kept), latest, y[kept])

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


@dataclass(frozen=True)
class SourceModel:
    """A source's posterior, on some of the target's coordinates.

    Attributes:
        posterior: Of the source's warped values.
        columns: The coordinates, shape ``(c,)``.
    """

    posterior: Posterior
    columns: Integers

    def mean(self, points: Array) -> Array:
        """``m_k`` at points ``(b, d)``, shape ``(b,)``."""
        return self.posterior.mean(points[:, self.columns])


@dataclass(frozen=True)
class Lesson:
    """The prior mean h that the sources give.

    Attributes:
        models: The sources' models.
        weights: ``g ρ v_k/s_k``, shape ``(k,)``.
        offset: ``Σ weights · m̄_k``.
        trust: ``g ρ``, the share of the target's spread that h explains.
    """

    models: tuple[SourceModel, ...]
    weights: Array
    offset: float
    trust: float

    @property
    def constant(self) -> float:
        """Prior mean of the process beside h: the less there is to explain, the nearer to 0."""
        return PRIOR_MEAN * (1 - self.trust)

    def __call__(self, points: Array) -> Array:
        """H at points ``(b, d)``, shape ``(b,)``."""
        pairs = zip(self.weights, self.models, strict=True)
        return sum((w * m.mean(points) for w, m in pairs), np.zeros(len(points))) - self.offset

    def gradient(self, points: Array) -> Array:
        """∇h at points ``(b, d)``, shape ``(b, d)``."""
        total = np.zeros(points.shape)
        for weight, model in zip(self.weights, self.models, strict=True):
            part = model.posterior.predict_with_gradient(points[:, model.columns])
            total[:, model.columns] += weight * part.mean_gradient
        return total


@dataclass(frozen=True)
class Taught:
    """A posterior of ``f − h``, and h: a surrogate of f."""

    residual: Posterior
    lesson: Lesson

    def with_fantasies(self, points: Array) -> Taught:
        """The model with ``points`` ``(m, d)`` observed at their means."""
        return Taught(with_fantasies(self.residual, points), self.lesson)

    @property
    def noise(self) -> float:
        """Noise variance τ² of the next observation."""
        return self.residual.noise

    @property
    def variance(self) -> float:
        """Prior variance of ``f − h``."""
        return self.residual.variance

    @property
    def gradient_variance(self) -> Array:
        """Diagonal ``Λ`` of the process, shape ``(d,)``."""
        return self.residual.gradient_variance

    @property
    def gradient_axes(self) -> Array | None:
        """``A`` with ``Λ = A Aᵀ`` where the process is rotated, shape ``(d, d)``."""
        return self.residual.gradient_axes

    def mean(self, points: Array) -> Array:
        """Mean of f at points ``(b, d)``, shape ``(b,)``."""
        return self.residual.mean(points) + self.lesson(points)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of f at points ``(b, d)``, each of shape ``(b,)``."""
        mean, sd = self.residual.predict(points)
        return mean + self.lesson(points), sd

    def predict_with_gradient(self, points: Array) -> Prediction:
        """Marginals and their gradients at points of shape ``(b, d)``."""
        p = self.residual.predict_with_gradient(points)
        slope = p.mean_gradient + self.lesson.gradient(points)
        return Prediction(p.mean + self.lesson(points), p.sd, slope, p.sd_gradient)

    def linearize(self, points: Array) -> Linearization:
        """Marginals at points ``(b, d)`` and gradients of functions of them."""
        at, slope = self.residual.linearize(points), self.lesson.gradient(points)

        def pull(by_mean: Array, by_sd: Array) -> Array:
            return at.pull(by_mean, by_sd) + by_mean[:, None] * slope

        def gradients() -> tuple[Array, Array]:
            by_mean, by_sd = at.gradients()
            return by_mean + slope, by_sd

        return Linearization(at.mean + self.lesson(points), at.sd, pull, gradients)


class Teachers:
    """Sources, and their models in the coordinates of the latest search space.

    The models follow from the sources and the space: kept to save time, not copied or pickled.
    """

    def __init__(self, sources: tuple[Source, ...] = ()) -> None:
        self._sources = sources
        self._leaders = [source.leaders(_FIRST) for source in sources]
        self._kept: tuple[Any, tuple[SourceModel, ...]] = (None, ())

    def __reduce__(self) -> tuple[type[Teachers], tuple[tuple[Source, ...]]]:
        return Teachers, (self._sources,)

    def lesson(self, search_space: SearchSpace, data: Data) -> Lesson | None:
        """What the sources say of the target, None if nothing or if it knows enough itself."""
        if not self._sources or not LEAST_TRIALS <= len(data.y) <= _MOST_TRIALS:
            return None
        choices = to_space(search_space).choices
        return lesson(self._models(search_space), data.x, warp(data.y), choices)

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
        return value if usable and _contains(distribution, value) else None

    def before(
        self, design: Array, number: int, space: Space, search_space: SearchSpace, data: Data
    ) -> Array:
        """A design ``(n, d)``, headed by its first point with what the sources choose for it.

        They choose no more once the best of their points is worse than the best of the others.
        """
        wanted = self._wanted(number, search_space)
        if np.isnan(wanted).all():
            return design
        theirs = np.zeros(len(data.y), dtype=bool)
        for earlier in range(number):
            target = self._wanted(earlier, search_space)
            if not np.isnan(target).all():
                theirs |= (np.isnan(target) | (np.abs(data.x - target) < 1e-6)).all(1)
        best = [data.y[rows].max(initial=-math.inf) for rows in (theirs, ~theirs)]
        if theirs.any() and best[0] < best[1]:
            return design
        first = space.snap(np.where(np.isnan(wanted), design[0], wanted))
        return np.concatenate([first[None], design])

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


def read_sources(studies: Sequence[Study]) -> tuple[Source, ...]:
    """The studies' completed trials; those with too few teach nothing and are left out."""
    sources = (Source.of(study) for study in studies)
    return tuple(source for source in sources if len(source.y) >= LEAST_TRIALS)


def lesson(models: Sequence[SourceModel], x: Array, y: Array, choices: Integers) -> Lesson | None:
    """What models of sources say of observations ``y`` ``(n,)`` at ``x`` ``(n, d)``."""
    if not models:
        return None
    means = np.array([model.mean(x) for model in models])
    tau = np.array([rank_correlation(mean, y) for mean in means])
    gates = np.clip((tau / _chance(len(y)) - 1) / 2, 0, 1)
    share = gates * tau
    if not share.sum() > 0:
        return None
    scale = share / share.sum() / np.maximum(means.std(1), _LEAST_SPREAD)
    centre = means.mean(1)
    combined = scale @ (means - centre[:, None])
    rho = _coefficient(combined, x, y, choices)
    fade = np.clip(2 - len(y) / (5 * (x.shape[1] + 1)), 0, 1)
    trust = float(np.clip(1.5 * float(gates.max()) * rho - 0.5, 0, 1) * fade)
    weights = trust * scale
    return Lesson(tuple(models), weights, float(weights @ centre), trust) if trust > 0 else None


def _coefficient(feature: Array, x: Array, y: Array, choices: Integers) -> float:
    """Mean in [0, 1] of the coefficient of a feature ``(n,)`` in ``y``, by generalised ridge."""
    prior = condition(x, feature, choices, prior_mode(x.shape[1]))
    along, strength = prior.alpha @ (y - y.mean()), prior.alpha @ feature
    return float(np.clip(along / (strength + prior.hyper.signal), 0, 1))


def rank_correlation(a: Array, b: Array) -> float:
    """Kendall's τ_b of two samples of shape ``(n,)``; 0 where one is constant."""
    signs = [np.sign(np.subtract.outer(v, v)) for v in (a, b)]
    norm = math.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return float((signs[0] * signs[1]).sum() / norm) if norm > 0 else 0.0


def _chance(n: int) -> float:
    """Standard deviation of Kendall's τ of independent samples (Kendall 1938)."""
    return math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


def _model(source: Source, search_space: SearchSpace) -> SourceModel | None:
    shared, x = source.within(search_space)
    if not shared or np.isnan(x).all():
        return None
    space = to_space(shared)
    x = np.where(np.isnan(x), space.centre, x)
    posterior, _ = believe(x, source.y, space, refit(x, source.y, space, None), None)
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


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    return distribution._contains(distribution.to_internal_repr(value))
