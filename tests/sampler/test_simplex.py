"""Mixture weights as one group: sums, the way back, what the sampler makes of them, errors."""

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

import fisherbo
from fisherbo import FisherSampler
from fisherbo.errors import InvalidInputError
from fisherbo.gp.rotation import rotatable
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.simplex import groups

OPTIMUM = np.array([0.7, 0.2, 0.1])


def loss(trial):
    weights = fisherbo.suggest_simplex(trial, "w", ["a", "b", "c"])
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert list(weights) == ["a", "b", "c"] and min(weights.values()) >= 0
    return float(((np.array(list(weights.values())) - OPTIMUM) ** 2).sum())


def run(n, sampler, objective=loss):
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=n)
    return study


@given(st.integers(2, 9), st.integers(0, 60), st.sampled_from([0.05, 0.5, 5.0]))
def test_weights_have_parameters_and_these_the_weights(k, seed, concentration):
    p = np.random.default_rng(seed).dirichlet(np.full(k, concentration))
    weights = {f"p{j}": float(v) for j, v in enumerate(p)}
    params = fisherbo.simplex_params("w", weights)
    assert all(0 <= x <= 1 for x in params.values())
    assert fisherbo.simplex_weights(params, "w") == pytest.approx(weights, abs=1e-9)
    asked = fisherbo.suggest_simplex(optuna.trial.FixedTrial(params), "w", list(weights))
    assert asked == fisherbo.simplex_weights(params, "w")


@pytest.mark.parametrize(
    "sampler", [optuna.samplers.TPESampler(seed=0), optuna.samplers.RandomSampler(seed=0)]
)
def test_other_samplers_suggest_weights_too(sampler):
    study = run(15, sampler)
    best = fisherbo.simplex_weights(study.best_params, "w")
    assert sum(best.values()) == pytest.approx(1)


def test_the_optimum_is_found_and_the_group_is_known():
    study = run(40, FisherSampler(seed=0))
    best = fisherbo.simplex_weights(study.best_params, "w")
    assert list(best.values()) == pytest.approx(OPTIMUM, abs=0.02)
    seen = study.sampler.inspect(study)
    assert [index.tolist() for index in seen.space.simplices] == [[0, 1, 2]]
    assert study.sampler.recommend(study).value < 0.01


def test_a_resumed_study_goes_on_as_an_uninterrupted_one():
    whole, parts = run(20, FisherSampler(seed=1)), run(13, FisherSampler(seed=1))
    parts.sampler = FisherSampler(seed=1)
    parts.optimize(loss, n_trials=7)
    assert [t.params for t in parts.trials] == [t.params for t in whole.trials]


def test_enqueued_weights_are_tried():
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.enqueue_trial(fisherbo.simplex_params("w", {"a": 0.0, "b": 1.0, "c": 0.0}))
    study.optimize(loss, n_trials=1)
    found = fisherbo.simplex_weights(study.trials[0].params, "w")
    assert found == {"a": 0, "b": 1, "c": 0}


def test_a_rule_may_limit_weights():
    def rule(params):
        return fisherbo.simplex_weights(params, "w")["a"] <= 0.5

    study = run(20, FisherSampler(seed=0, input_constraints=rule))
    assert all(rule(t.params) for t in study.trials)
    best = fisherbo.simplex_weights(study.best_params, "w")
    assert best["a"] == pytest.approx(0.5, abs=0.05)


def test_only_whole_groups_of_unit_floats_are_groups():
    unit = FloatDistribution(0, 1)
    whole = {f"w[{p}] of 3": unit for p in "abc"}
    assert [g.tolist() for g in groups({"a": unit, **whole, "w[x]": unit})] == [[1, 2, 3]]
    assert groups({n: whole[n] for n in list(whole)[:2]}) == ()
    assert groups({**whole, "w[a] of 3": FloatDistribution(0, 2)}) == ()
    both = {**whole, **{f"v[{p}] of 2": unit for p in "ab"}}
    assert [g.tolist() for g in groups(both)] == [[0, 1, 2], [3, 4]]


def test_weights_are_not_rotated_with_other_parameters():
    space = to_space(
        {
            **{f"w[{p}] of 2": FloatDistribution(0, 1) for p in "ab"},
            "x": FloatDistribution(0, 1),
            "y": FloatDistribution(0, 1),
        }
    )
    assert rotatable(space).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("name", "parts"), [("w", []), ("w", ["a"]), ("w", ["a", "a"]), ("w", "ab"), ("w", ["a[", "b"])]
)
def test_parts_that_are_no_parts_are_refused(name, parts):
    with pytest.raises(InvalidInputError, match="must be"):
        fisherbo.suggest_simplex(optuna.trial.FixedTrial({}), name, parts)


@pytest.mark.parametrize(
    "weights", [{"a": 0.5, "b": 0.6}, {"a": -0.5, "b": 1.5}, {"a": np.nan, "b": 1.0}]
)
def test_weights_that_are_no_weights_are_refused(weights):
    with pytest.raises(InvalidInputError, match="sum to 1"):
        fisherbo.simplex_params("w", weights)


@pytest.mark.parametrize("params", [{}, {"w[a] of 2": 0.1}, {"a": 0.1, "v[a] of 1": 0.5}])
def test_parameters_without_the_whole_group_are_refused(params):
    with pytest.raises(InvalidInputError, match="suggest_simplex"):
        fisherbo.simplex_weights(params, "w")
