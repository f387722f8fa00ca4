"""Optimizers of the acquisition at equal evaluations of the posterior and at equal seconds.

    python -m experiments.ascent --quick        3 seeds
    python -m experiments.ascent --write        10 seeds
    python -m experiments.ascent --problems quadratic20 mixed10

Every problem and seed gives a history (half Sobol, half normal around good points at mixed scales),
a Gaussian process fitted to its warped values, and the log expected improvement over the best
posterior mean. On it, from the same 16 starts, which are the best points of one pool:

    natural      natural-gradient ascent as the sampler does it, in the posterior's metric,
                 G/300 + D of fisherbo.gp.fisher
    natural-1    the same from the best start alone
    score        the ascent in the metric g gᵀ + .4 λ Λ/σ²: steps of steepest ascent in units of the
                 lengthscales
    gauss-newton the ascent in G + λ D
    prior        the ascent in D alone, which is the same everywhere
    expected     the ascent in D and E[∇f∇fᵀ | D]/(s² + τ²)/300, of full rank
    euclidean    the same, the metric a multiple of the identity
    lbfgsb       L-BFGS-B in x/ℓ, all starts in one batch (Optuna's, on greenlets, its tolerances)
    lbfgsb-seq   the same by SciPy, one start after the other
    coordinate   every start moves one coordinate at a time (Rosenbrock's rule: ×2, ×−½)
    random       half uniform points, half normal around the best so far

In mixed spaces each method draws its own pool of the same kind, which counts:

    natural      the sampler's proposal: pool, natural-gradient search, ascents and neighbours
    score        the same with ascents in the score's metric
    coordinates  GPSampler's way: 10 starts, L-BFGS-B on what is continuous, then for every discrete
                 coordinate and start all its values (up to 16) or a line search, until none changes
    random       half uniform points, half around the best, and the neighbours of every new best

One evaluation is a batch of 16 points; a call with m points counts m/16. "Reached" is to come
within 0.01 nats of the best value that any method found on that problem and seed; a method that did
not counts as infinitely late. Seconds are CPU time, at every call the least of three repeats.
p: Wilcoxon over the seeds against natural, by Holm over the methods of a problem. Differences of
values up to 0.01 nats are ties. Rows are kept in runs/ascent.jsonl; --again makes them anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.random import Generator
from optuna._gp.batched_lbfgsb import batched_lbfgsb
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from rich.console import Console
from rich.table import Table
from scipy.optimize import fmin_l_bfgs_b, minimize_scalar
from scipy.stats.qmc import Sobol

from experiments import latency
from experiments.harness import rows, statistics
from experiments.harness.peers import sampler_version
from experiments.harness.problems import Params, Problem
from experiments.options import command_line
from fisherbo.acquisition.log_ei import ExpectedImprovement, log_expected_improvement
from fisherbo.acquisition.propose import propose
from fisherbo.gp.fisher import (
    MetricRule,
    Parts,
    expected_metric,
    fisher_factors,
    posterior_metric,
    prior_metric,
    score_metric,
)
from fisherbo.gp.fit import fit
from fisherbo.gp.hyper import prior_mode
from fisherbo.gp.posterior import Posterior, Prediction, condition
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.warp import warp
from fisherbo.optimize.descent import natural_ascent
from fisherbo.optimize.search import neighbours
from fisherbo.sampler.search_space import to_params, to_space
from fisherbo.space import Array, Integers, Space

BATCH = 16
NEAR = 0.01  # nats
REPEATS = 3
MARKS = {False: (10, 20, 40), True: (50, 100, 200)}  # evaluations, in mixed spaces or not
LIMIT = {False: 120, True: 400}
SEEDS = 10


# Problems: a function of a point in the unit cube, to be minimised


def quadratic(x: Array, rng: Generator) -> float:
    """Condition 1e4 along the axes, centre drawn."""
    scale = 10 ** np.linspace(0, 4, len(x))
    return float(scale @ (x - rng.uniform(0.3, 0.7, len(x))) ** 2)


def rosenbrock(x: Array, rng: Generator) -> float:
    z = 4 * x - 2 + rng.uniform(-0.3, 0.3, len(x))
    return float(np.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2))


def ackley(x: Array, rng: Generator) -> float:
    z = 10 * (x - rng.uniform(0.3, 0.7, len(x)))
    waves = np.exp(np.mean(np.cos(2 * np.pi * z)))
    return float(20 - 20 * np.exp(-0.2 * np.sqrt(np.mean(z**2))) + np.e - waves)


def continuous(name: str, d: int, f: Callable[[Array, Generator], float], seed: int) -> Problem:
    space: dict[str, BaseDistribution] = {f"x{j:02d}": FloatDistribution(0, 1) for j in range(d)}

    def loss(params: Params) -> float:
        return f(np.array([params[key] for key in space]), np.random.default_rng(seed))

    return Problem(name, space, loss)


def mixed6(seed: int) -> Problem:
    """Mostly discrete: two categories, two integers, two floats, with an interaction."""
    space: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution(tuple(range(6))),
        "mode": CategoricalDistribution(tuple(range(3))),
        "n": IntDistribution(1, 12),
        "m": IntDistribution(1, 200),
        "x": FloatDistribution(-5, 5),
        "rate": FloatDistribution(1e-4, 1.0, log=True),
    }
    rng = np.random.default_rng(seed)
    offset, centre = rng.permutation(6) / 4, rng.uniform(-2, 2, 3)

    def loss(p: Params) -> float:
        return float(
            offset[p["kind"]]
            + (p["x"] - centre[p["mode"]]) ** 2 / 4
            + (p["n"] - 4 - p["mode"]) ** 2 / 10
            + (p["m"] / 100 - 0.8) ** 2
            + (np.log10(p["rate"]) + 2 + 0.3 * p["kind"]) ** 2 / 3
        )

    return Problem("mixed6", space, loss)


PROBLEMS: Mapping[str, tuple[int, Callable[[int], Problem]]] = {  # trials, seed to problem
    "quadratic6": (60, partial(continuous, "quadratic6", 6, quadratic)),
    "rosenbrock12": (100, partial(continuous, "rosenbrock12", 12, rosenbrock)),
    "ackley12": (100, partial(continuous, "ackley12", 12, ackley)),
    "quadratic20": (200, partial(continuous, "quadratic20", 20, quadratic)),
    "mixed6": (60, mixed6),
    "mixed10": (100, lambda seed: latency.mixed()),
}


@dataclass(frozen=True)
class Task:
    """A posterior, the value to improve on, and the best observed points."""

    space: Space
    posterior: Posterior
    best: float
    anchors: Array


def make_task(problem: Problem, count: int, seed: int) -> Task:
    search_space = dict(problem.space)
    space = to_space(search_space)
    rng = np.random.default_rng([seed, count])
    x = observe(problem, space, count, rng)
    y = warp(np.array([-problem.loss(to_params(space, search_space, row)) for row in x]))
    hyper = fit(x, y, space.choices, [prior_mode(space.dimension)])
    posterior = condition(x, y, space.choices, hyper)
    mean, _ = posterior.predict(x)
    order = np.argsort(-mean)
    return Task(space, posterior, float(mean[order[0]]), x[order[:4]])


def observe(problem: Problem, space: Space, count: int, rng: Generator) -> Array:
    """A history's coordinates ``(count, d)``: half Sobol, half around the eight best so far."""
    d, half = space.dimension, count // 2
    x = space.spread(Sobol(d, rng=rng).random(1 << half.bit_length())[:half])
    search_space = dict(problem.space)
    losses = [problem.loss(to_params(space, search_space, row)) for row in x]
    for _ in range(count - half):
        parent = x[rng.choice(np.argsort(losses)[:8])]
        child = around(space, parent[None], rng, 0.02, 0.2)[0]
        x = np.concatenate([x, child[None]])
        losses.append(problem.loss(to_params(space, search_space, child)))
    return x


def around(space: Space, centres: Array, rng: Generator, low: float, high: float) -> Array:
    """One point near each centre ``(m, d)``, at a log-uniform scale, some choices redrawn."""
    m, d = centres.shape
    scale = np.exp(rng.uniform(np.log(low), np.log(high), (m, 1)))
    moved = np.where(space.categorical, centres, centres + scale * rng.standard_normal((m, d)))
    redrawn = space.categorical & (rng.random((m, d)) < 0.2)
    return space.snap(np.where(redrawn, space.spread(rng.random((m, d))), moved))


def pool(task: Task, rng: Generator) -> Array:
    """256 shifted Sobol points and 32 around each anchor, as many as the sampler's proposal has."""
    d = task.space.dimension
    wide = task.space.spread((Sobol(d, rng=0).random(256) + rng.random(d)) % 1)
    near = around(task.space, np.repeat(task.anchors, 32, 0), rng, 0.01, 0.1)
    return np.concatenate([wide, near])


# What is measured: every evaluation of the posterior


@dataclass
class Recorder:
    """A surrogate that notes when it was asked and what it answered."""

    inner: Posterior
    best: float
    began: float = field(default_factory=time.process_time)
    calls: list[tuple[Array, Array, float]] = field(default_factory=list)
    points: int = 0

    @property
    def noise(self) -> float:
        """The posterior's."""
        return self.inner.noise

    @property
    def variance(self) -> float:
        """The posterior's."""
        return self.inner.variance

    @property
    def gradient_variance(self) -> Array:
        """The posterior's."""
        return self.inner.gradient_variance

    @property
    def gradient_axes(self) -> Array | None:
        """The posterior's."""
        return self.inner.gradient_axes

    def mean(self, points: Array) -> Array:
        """The posterior's, noted as a prediction."""
        return self.predict(points)[0]

    def predict(self, points: Array) -> tuple[Array, Array]:
        """The posterior's, noted."""
        mean, sd = self.inner.predict(points)
        self._note(mean, sd)
        return mean, sd

    def predict_with_gradient(self, points: Array) -> Prediction:
        """The posterior's, noted."""
        prediction = self.inner.predict_with_gradient(points)
        self._note(prediction.mean, prediction.sd)
        return prediction

    def _note(self, mean: Array, sd: Array) -> None:
        self.points += len(mean)
        self.calls.append((mean, sd, time.process_time()))

    def spent(self, limit: int) -> bool:
        """Whether ``limit`` batches were used up."""
        return self.points >= limit * BATCH

    def score(self, x: Array) -> Array:
        """Log expected improvement at points ``(b, d)``."""
        return log_expected_improvement(*self.predict(x), self.best)[0]

    def slope(self, x: Array) -> tuple[Array, Array]:
        """Log expected improvement and its gradient, shapes ``(b,)`` and ``(b, d)``."""
        p = self.predict_with_gradient(x)
        value, by_mean, by_sd = log_expected_improvement(p.mean, p.sd, self.best)
        return value, by_mean[:, None] * p.mean_gradient + by_sd[:, None] * p.sd_gradient

    def path(self) -> Array:
        """Evaluations, seconds, best value so far and calls, after every call, ``(4, calls)``."""
        batches = np.cumsum([len(mean) for mean, _, _ in self.calls]) / BATCH
        seconds = np.array([at for _, _, at in self.calls]) - self.began
        values = [log_expected_improvement(m, s, self.best)[0].max() for m, s, _ in self.calls]
        count = np.arange(1, len(values) + 1)
        return np.array([batches, seconds, np.maximum.accumulate(values), count])


# The methods in continuous spaces: recorder, task, starts, source of randomness

Method = Callable[[Recorder, Task, Array, Generator], None]


def by_metric(rule: MetricRule, starts: int | None = None, **settings: Any) -> Method:
    """The ascent in a metric, from some of the starts."""

    def method(recorder: Recorder, task: Task, points: Array, rng: Generator) -> None:
        utility = ExpectedImprovement(recorder, task.best, metric=rule).evaluate
        movable, steps = ~task.space.discrete, LIMIT[False] - 1
        natural_ascent(utility, points[:starts], movable, max_steps=steps, **settings)

    return method


def prior(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    return prior_metric(surrogate), np.zeros((*points.shape, 1)), None


def gauss_newton(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    return prior_metric(surrogate), fisher_factors(surrogate, at), None


def euclidean(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    diagonal, none, _ = prior(surrogate, points, at)
    return np.full_like(diagonal, diagonal.mean()), none, None  # so λ begins in the right units


def expected(surrogate: Surrogate, points: Array, at: Prediction) -> Parts:
    assert isinstance(surrogate, Recorder)
    posterior = surrogate.inner
    share = posterior.noise / (at.sd**2 + posterior.noise) / 300  # y's variance in place of τ²
    length, axes = np.linalg.eigh(expected_metric(posterior, points) * share[:, None, None])
    return prior_metric(surrogate), axes * np.sqrt(np.maximum(length, 0))[:, None], None


def lbfgsb(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    ascend(recorder, task, starts)


def ascend(recorder: Recorder, task: Task, starts: Array) -> Array:
    """Points after a batched L-BFGS-B in x/ℓ along the continuous coordinates, as GPSampler's."""
    movable = ~task.space.discrete
    length = task.posterior.hyper.lengthscale[movable]

    def negative(z: Array, fixed: list[Array]) -> tuple[Array, Array]:
        x = np.array(fixed)
        x[:, movable] = np.clip(z * length, 0, 1)
        value, gradient = recorder.slope(x)
        return -value, -gradient[:, movable] * length

    z, _, _ = batched_lbfgsb(
        negative,
        starts[:, movable] / length,
        (list(starts),),
        [(0.0, 1 / scale) for scale in length],
        pgtol=1e-2,
        max_iters=200,
    )
    reached = starts.copy()
    reached[:, movable] = np.clip(z * length, 0, 1)
    return reached


def lbfgsb_sequential(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    length = task.posterior.hyper.lengthscale

    def negative(z: Array) -> tuple[float, Array]:
        value, gradient = recorder.slope(np.clip(z * length, 0, 1)[None])
        return -float(value[0]), -gradient[0] * length

    bounds = [(0.0, 1 / scale) for scale in length]
    for start in starts:  # the best first
        fmin_l_bfgs_b(negative, start / length, bounds=bounds, pgtol=1e-2, maxiter=200)


def coordinate(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    x, value = starts, recorder.score(starts)
    step = np.full(x.shape, 0.1)
    row = np.arange(len(x))
    while not recorder.spent(LIMIT[False]):
        for j in rng.permutation(x.shape[1]):
            trial = x.copy()
            trial[:, j] = np.clip(x[:, j] + step[:, j], 0, 1)
            score = recorder.score(trial)
            better = score > value
            step[row, j] *= np.where(better, 2.0, -0.5)
            x, value = np.where(better[:, None], trial, x), np.maximum(score, value)


def random(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    value = recorder.score(starts)
    random_search(recorder, task, starts[int(np.argmax(value))], float(value.max()), rng)


def random_search(
    recorder: Recorder, task: Task, best: Array, value: float, rng: Generator
) -> None:
    """Half uniform, half around the best; its discrete neighbours too, when it is new."""
    space, half = task.space, BATCH // 2
    mixed = bool(space.discrete.any())
    moved = mixed
    while not recorder.spent(LIMIT[mixed]):
        wide = space.spread(rng.random((half, space.dimension)))
        near = around(space, np.tile(best, (half, 1)), rng, 1e-3, 0.3)
        beside = neighbours(space, best[None], rng) if moved else best[None][:0]
        points = np.concatenate([wide, near, beside])
        score = recorder.score(points)
        i = int(np.argmax(score))
        moved = mixed and bool(score[i] > value)
        if score[i] > value:
            best, value = points[i], float(score[i])


CONTINUOUS: Mapping[str, Method] = {
    "natural": by_metric(posterior_metric),
    "natural-1": by_metric(posterior_metric, starts=1),
    "score": by_metric(score_metric),
    "gauss-newton": by_metric(gauss_newton, damping=6.0, whole=False),
    "prior": by_metric(prior),
    "expected": by_metric(expected),
    "euclidean": by_metric(euclidean, damping=6.0),
    "lbfgsb": lbfgsb,
    "lbfgsb-seq": lbfgsb_sequential,
    "coordinate": coordinate,
    "random": random,
}


# The methods in mixed spaces, which begin with a pool of their own


def proposal(rule: MetricRule) -> Method:
    """The sampler's proposal with ascents in a metric."""

    def method(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
        acquisition = ExpectedImprovement(recorder, task.best, metric=rule)
        propose(acquisition, task.space, task.anchors, rng)

    return method


def coordinates(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    candidates = pool(task, rng)
    x = candidates[np.argsort(-recorder.score(candidates))[:10]]
    value = recorder.score(x)
    active = np.ones(len(x), dtype=bool)
    for _ in range(100):
        before = value.copy()
        if not task.space.discrete.all():
            x[active] = ascend(recorder, task, x[active])
            value[active] = recorder.score(x[active])
        for j in task.space.discrete.nonzero()[0].tolist():
            for b in active.nonzero()[0].tolist():
                x[b], value[b] = best_along(recorder, task.space, x[b], float(value[b]), j)
        active &= value > before + 1e-4
        if not active.any():
            return


def best_along(
    recorder: Recorder, space: Space, x: Array, value: float, j: int
) -> tuple[Array, float]:
    """The best value found of one discrete coordinate of ``x`` ``(d,)``: all, or Brent's."""
    levels = int(space.levels[j])
    here = space.from_unit(x)
    grid = space.low[j] + space.step[j] * np.arange(levels)

    def at(index: Integers) -> Array:
        values = np.tile(here, (len(index), 1))
        values[:, j] = grid[index]
        return np.where(np.arange(len(x)) == j, space.to_unit(values), x)

    if space.categorical[j] or levels <= 16:
        points = at(np.flatnonzero(np.abs(grid - here[j]) > 1e-9 * space.step[j]))
        scores = recorder.score(points)
    else:
        known: dict[int, float] = {}

        def negative(position: float) -> float:
            i = round(position)
            if i not in known:
                known[i] = float(recorder.score(at(np.array([i])))[0])
            return -known[i]

        minimize_scalar(negative, bounds=(0, levels - 1), method="bounded", options={"xatol": 0.25})
        points, scores = at(np.array(list(known))), np.array(list(known.values()))
    i = int(np.argmax(scores))
    return (points[i], float(scores[i])) if scores[i] > value else (x, value)


def random_mixed(recorder: Recorder, task: Task, starts: Array, rng: Generator) -> None:
    candidates = pool(task, rng)
    score = recorder.score(candidates)
    random_search(recorder, task, candidates[int(np.argmax(score))], float(score.max()), rng)


MIXED: Mapping[str, Method] = {
    "natural": proposal(posterior_metric),
    "score": proposal(score_metric),
    "coordinates": coordinates,
    "random": random_mixed,
}


@dataclass(frozen=True)
class Cell:
    problem: str
    seed: int

    def key(self) -> str:
        """Names the versions and all settings."""
        methods = MIXED if self.problem.startswith("mixed") else CONTINUOUS
        who = f"fisher@{sampler_version('fisher')}/optuna-{version('optuna')}"
        return f"{who}/{','.join(methods)}/{self.problem}/{self.seed}"


def work(cell: Cell) -> rows.Row:
    """The path of every method: evaluations, seconds and best values where it improved."""
    count, make = PROBLEMS[cell.problem]
    task = make_task(make(cell.seed), count, cell.seed)
    methods = MIXED if task.space.discrete.any() else CONTINUOUS
    candidates = pool(task, np.random.default_rng(cell.seed))
    score = log_expected_improvement(*task.posterior.predict(candidates), task.best)[0]
    starts = candidates[np.argsort(-score)[:BATCH]]
    paths: dict[str, list[Array]] = {name: [] for name in methods}
    for _ in range(REPEATS):
        for name, method in methods.items():
            recorder = Recorder(task.posterior, task.best)
            method(recorder, task, starts.copy(), np.random.default_rng(cell.seed))
            paths[name].append(recorder.path())
    return {"paths": {name: shorten(fastest(repeats)) for name, repeats in paths.items()}}


def fastest(repeats: Sequence[Array]) -> Array:
    """The path of equal repeats with the least seconds of any at every call."""
    path = repeats[0].copy()
    path[1] = np.min([repeat[1] for repeat in repeats], axis=0)
    return path


def shorten(path: Array) -> list[list[float]]:
    """The path's first, improving and last calls."""
    kept = np.append(True, np.diff(path[2]) > 0)
    kept[-1] = True
    shortened: list[list[float]] = path[:, kept].tolist()
    return shortened


# The report


@dataclass(frozen=True)
class Outcomes:
    """One method on one problem, an entry for every seed; ``inf`` where it did not reach.

    Attributes:
        reached: Evaluations and seconds until within 0.01 nats of the best, shape ``(2, seeds)``.
        stopped: Evaluations, seconds and calls until it stopped, shape ``(3, seeds)``.
        gaps: To the best, in nats, after each mark of evaluations, shape ``(marks, seeds)``.
        gap_then: To the best at the seconds when natural stopped, shape ``(seeds,)``.
        gap: To the best at its own stop, shape ``(seeds,)``.
    """

    reached: Array
    stopped: Array
    gaps: Array
    gap_then: Array
    gap: Array


def outcomes(paths: Sequence[Mapping[str, Array]], method: str, marks: Sequence[int]) -> Outcomes:
    own = [p[method] for p in paths]
    bests = [max(path[2, -1] for path in p.values()) for p in paths]
    reached = [until(path, best - NEAR) for path, best in zip(own, bests, strict=True)]
    gaps = [
        [best - value_at(path, 0, mark) for path, best in zip(own, bests, strict=True)]
        for mark in marks
    ]
    then = [
        best - value_at(path, 1, p["natural"][1, -1])
        for path, best, p in zip(own, bests, paths, strict=True)
    ]
    last = np.array([path[2, -1] for path in own])
    stopped = np.array([path[[0, 1, 3], -1] for path in own])
    return Outcomes(
        np.array(reached).T, stopped.T, np.array(gaps), np.array(then), np.array(bests) - last
    )


def until(path: Array, value: float) -> Array:
    """Evaluations and seconds until ``value``, ``inf`` if it was not reached."""
    above = np.flatnonzero(path[2] >= value)
    return path[:2, above[0]] if len(above) else np.full(2, np.inf)


def value_at(path: Array, axis: int, mark: float) -> float:
    """The best value after ``mark`` evaluations (axis 0) or seconds (1); the first if before it."""
    done = int(np.searchsorted(path[axis], mark, side="right"))
    return float(path[2, max(done - 1, 0)])


CRITERIA = ("evaluations", "seconds", "value at equal seconds", "value at the stop")


def verdicts(found: Mapping[str, Outcomes]) -> dict[str, list[tuple[str, float]]]:
    """For each method but natural and each criterion: won, tied or lost, and Holm's p."""
    own, others = found["natural"], [m for m in found if m != "natural"]
    late = 1e6

    def differences(theirs: Outcomes) -> list[Array]:
        reached = np.minimum(theirs.reached, late) - np.minimum(own.reached, late)
        then, last = theirs.gap_then - own.gap_then, theirs.gap - own.gap
        small = [np.where(np.abs(gap) <= NEAR, 0.0, gap) for gap in (then, last)]
        return [*reached, *small]

    table = {m: differences(found[m]) for m in others}
    said: dict[str, list[tuple[str, float]]] = {m: [] for m in others}
    for k in range(len(CRITERIA)):
        raw = [statistics.wilcoxon_p(table[m][k]) for m in others]
        for m, p in zip(others, statistics.holm(raw), strict=True):
            d = table[m][k]
            balance = int(np.sum(d > 0)) - int(np.sum(d < 0))
            word = "tied" if p >= 0.05 or not balance else "won" if balance > 0 else "lost"
            said[m].append((word, float(p)))
    return said


def report(problem: str, cells: Sequence[rows.Row], console: Console) -> None:
    paths = [{m: np.array(p) for m, p in row["paths"].items()} for row in cells]
    mixed = problem.startswith("mixed")
    marks = MARKS[mixed]
    methods = [m for m in (MIXED if mixed else CONTINUOUS) if m in paths[0]]
    found = {m: outcomes(paths, m, marks) for m in methods}
    said = verdicts(found)
    table = Table(title=f"{problem}, n = {PROBLEMS[problem][0]}: {len(paths)} seeds, medians")
    table.add_column("method")
    for name in (
        *("reached", "evaluations", "CPU ms", "p evals", "p ms", "stops after", "calls", "CPU ms"),
        *(f"gap at {m}" for m in marks),
        *("gap at natural's ms", "gap at its stop"),
    ):
        table.add_column(name, justify="right")
    for m, o in found.items():
        share = np.isfinite(o.reached[0]).mean()
        p = [f"{said[m][k][1]:.1e}" if m in said else "–" for k in (0, 1)]
        table.add_row(
            *(m, f"{share:.0%}", late(o.reached[0]), late(1000 * o.reached[1]), *p),
            *(f"{np.median(o.stopped[0]):.0f}", f"{np.median(o.stopped[2]):.0f}"),
            f"{1000 * np.median(o.stopped[1]):.1f}",
            *(f"{np.median(gap):.3f}" for gap in (*o.gaps, o.gap_then, o.gap)),
        )
    console.print(table)
    for m, words in said.items():
        line = ", ".join(
            f"{name} {word} (p = {p:.0e})" for name, (word, p) in zip(CRITERIA, words, strict=True)
        )
        console.print(f"natural against {m}: {line}", highlight=False, soft_wrap=True)
    console.print()


def late(times: Array) -> str:
    """The median, or "never"."""
    with np.errstate(invalid="ignore"):
        median = float(np.median(times))
    return f"{median:.1f}" if np.isfinite(median) else "never"


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_line("ascent", __doc__, "again write", quick="3 seeds, too few for a verdict")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args(argv)
    seeds = 3 if args.quick else args.seeds
    cells = [Cell(p, seed) for p in args.problems for seed in range(seeds)]
    found = rows.collect("ascent", cells, work, again=args.again)
    console = Console(width=180, record=True)
    for problem in args.problems:
        made = [row for cell, row in found.items() if cell.problem == problem]
        if made:
            report(problem, made, console)
    if args.write:
        made_by = f"Made by `{rows.command('ascent', argv)}`"
        rows.write(console, "ascent", "Optimizers of the acquisition", made_by)


if __name__ == "__main__":
    main()
