"""lq-CMA-ES, as a peer of the comparisons."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from experiments.harness.problems import Problem
from experiments.harness.traces import Run, optimize
from experiments.lq_cma import LqCmaSampler

pytest.importorskip("cma", reason="cma is in the bench extra")

BOWL = Problem(
    "bowl",
    {"a": FloatDistribution(-1.0, 3.0), "b": FloatDistribution(0.0, 10.0)},
    lambda p: (p["a"] - 1) ** 2 + (p["b"] - 7) ** 2 + (p["a"] - 1) * (p["b"] - 7),
)


def test_a_quadratic_is_solved_as_by_its_authors_function_and_the_design_is_kept():
    trace = optimize(Run("lq", "bowl", 3, 80), BOWL)
    design = [BOWL.loss(params) for params in BOWL.design(3)]
    assert list(trace.values[:10]) == design
    assert min(trace.values) < 1e-8 < min(trace.values[:20])
    assert trace.values == optimize(Run("lq", "bowl", 3, 80), BOWL).values


def test_it_begins_at_the_best_of_the_first_points():
    trace = optimize(Run("lq", "bowl", 3, 16), BOWL)
    assert np.median(trace.values[10:]) < np.median(trace.values[:10])


def test_integers_are_refused():
    study = optuna.create_study(sampler=LqCmaSampler(0))
    study.enqueue_trial({"n": 1})
    space = {"n": IntDistribution(0, 3)}
    study.tell(study.ask(space), 0.0)
    with pytest.raises(ValueError, match="plain floats"):
        study.ask(space)
