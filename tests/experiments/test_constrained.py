"""Constrained problems: published optima, the division into two sets, scores."""

import importlib.util
import math
import re

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from scipy.optimize import minimize

from experiments import constrained
from experiments.designs import DESIGNS
from experiments.harness import rows, traces
from experiments.harness.comparison import compare, group
from experiments.harness.traces import Run, Trace

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("cocoex") is None, reason="cocoex is in the bench extra"
)

SCALE = {"belleville_spring": 5400, "bulkhead": 1e3, "heat_exchanger": 1e5, "welded_beam": 1e4}
"""Size of the largest constraints, where the published point is rounded."""


@pytest.mark.parametrize("name", DESIGNS)
def test_the_published_best_point_has_the_published_value_and_is_feasible(name):
    found = DESIGNS[name]
    value, constraints = found.formula(found.best)
    assert value == pytest.approx(found.value, rel=2e-5)
    assert max(constraints) <= 2e-5 * SCALE.get(name, 1.0)
    assert len(constraints) >= 2
    assert all(low <= x <= high for x, (low, high) in zip(found.best, found.bounds, strict=True))


@pytest.mark.parametrize("name", DESIGNS)
def test_no_feasible_point_close_to_the_published_one_is_better(name):
    """By sequential quadratic programming over the continuous variables, and by neighbours."""
    found = DESIGNS[name]
    free = [j for j, d in enumerate(found.space.values()) if not isinstance(d, IntDistribution)]
    low, high = np.array([found.bounds[j] for j in free], dtype=float).reshape(-1, 2).T
    start = np.array([found.best[j] for j in free])

    def at(u):
        x = list(found.best)
        for j, value in zip(free, low + np.clip(u, 0, 1) * (high - low), strict=True):
            x[j] = value
        return x

    sizes = np.maximum(np.abs(found.formula(at(np.full(len(free), 0.5)))[1]), 1e-3)
    if free:
        result = minimize(
            lambda u: found.formula(at(u))[0] / abs(found.value),
            (start - low) / (high - low),
            bounds=[(0, 1)] * len(free),
            constraints={
                "type": "ineq",
                "fun": lambda u: -np.array(found.formula(at(u))[1]) / sizes,
            },
            method="SLSQP",
            options={"maxiter": 50, "ftol": 1e-12},
        )
        value, told = found.formula(at(result.x))
        if max(np.array(told) / sizes) <= 1e-7:
            assert value >= found.value - 1e-4 * abs(found.value)
    for j in set(range(len(found.bounds))) - set(free):
        for step in (-1, 1):
            x = list(found.best)
            x[j] += step
            if found.bounds[j][0] <= x[j] <= found.bounds[j][1]:
                value, told = found.formula(x)
                assert max(told) > 0 or value >= found.value * (1 - 1e-5)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_point_of_the_box_has_finite_values(name):
    found = DESIGNS[name]
    rng = np.random.default_rng(0)
    low, high = np.array(found.bounds, dtype=float).T
    points = low + rng.random((100, len(low))) * (high - low)
    whole = [isinstance(d, IntDistribution) for d in found.space.values()]
    for x in (low, high, *points):
        value, constraints = found.formula(np.where(whole, np.rint(x), x).tolist())
        assert np.isfinite([value, *constraints]).all()


@needs_coco
def test_the_optimum_of_coco_is_feasible_and_better_than_its_feasible_point():
    found = constrained.constrained(constrained.coco_name(4, 1, 5))
    assert found.unit > 0
    value, constraints = found.evaluate({f"x{j:02d}": 0.0 for j in range(5)})
    assert len(constraints) == 3
    assert math.isfinite(value)
    import cocoex

    problem = cocoex.Suite("bbob-constrained", "instances: 1", "function_indices: 26")[0]
    assert max(problem.constraint(problem.initial_solution)) <= 0


def test_final_and_development_problems_are_different_functions():
    final, development = (
        {group(name) for name, _ in pairs}
        for pairs in (constrained.SUITE.final, constrained.SUITE.dev)
    )
    assert not final & development
    assert {*constrained.FINAL, *constrained.DEVELOPMENT} >= set(DESIGNS)

    def objectives(names):
        found = (re.search(r"_f(\d+)", name) for name in names)
        return {(int(match[1]) - 1) // constrained.LEVELS for match in found if match}

    assert objectives(final) | objectives(development) == set(range(constrained.OBJECTIVES))
    assert not objectives(final) & objectives(development)
    assert {name for name, _ in constrained.SUITE.quick} <= set(constrained.DEVELOPMENT)


def test_infeasible_points_score_worse_than_every_feasible_one():
    scale = constrained.score()
    best = np.array([math.inf, 1e9, 2 * 26.49948, 26.49948])
    scores = scale("column", best)
    assert scores.tolist() == pytest.approx([3.0, 2.0, 0.0, -6.0])


def test_a_run_tells_all_constraints_and_keeps_feasible_values_only():
    run = Run("random", "three_bar_truss", 0, 20)
    trace = constrained.run_on(run)
    found = constrained.constrained(run.problem)
    problem, _ = constrained.problem(run.problem)
    for params, value in zip(problem.design(0), trace.values, strict=False):
        objective, constraints = found.evaluate(params)
        assert value == (objective if max(constraints) <= 0 else math.inf)
    study = optuna.create_study()
    trial = study.ask()
    params = problem.suggest(trial)
    problem.constrain(trial, params)
    study.tell(trial, 0.0)
    told = [study.trials[0].constraints[f"c{j:02d}"] for j in range(3)]
    assert told == pytest.approx(list(found.evaluate(params)[1]))


def test_traces_with_infeasible_points_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RUNS", tmp_path)
    runs = [Run(s, "column", 0, 12) for s in ("fisher", "random")]
    made = traces.collect("constrained", runs, constrained.work, workers=1)
    again = traces.collect("constrained", runs, fails, workers=1)
    assert made == again
    comparison = compare(constrained.SUITE, made, constrained.SUITE.final)
    assert comparison.best["fisher"]["column", 0].max() <= 3.0


def fails(run: Run) -> Trace:
    raise AssertionError(run)
