"""Optimal stopping against closed forms and simulated policies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fisherbo.acquisition.stopping import Stages, expected_improvement, start_rate


def test_the_expected_improvement_is_that_of_draws():
    rng = np.random.default_rng(0)
    draws = 0.3 + 0.8 * rng.standard_normal(400_000)
    found = expected_improvement(np.array([0.3]), 0.64, 1.0)[0]
    assert found == pytest.approx(np.maximum(draws - 1.0, 0).mean(), rel=0.02)
    assert expected_improvement(np.array([3.0, -1.0]), 0.0, 1.0) == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize("left", [0.0, 0.3])
def test_with_one_stage_going_on_gains_the_expected_improvement(left):
    """The end is drawn anew at the last stage, wholly or in part: E[EI] is EI either way."""
    mean = np.array([-1.0, 0.0, 0.7, 2.0])
    found = Stages(np.array([5.0]), np.array([1.0, left]), 0.5).gain(mean, 0.01)
    assert found == pytest.approx(expected_improvement(mean, 1.0, 0.5) - 0.05, abs=2e-3)


@settings(max_examples=20)
@given(seed=st.integers(0, 200))
def test_a_stop_that_costs_nothing_more_is_never_worth_less(seed):
    rng = np.random.default_rng(seed)
    variance = np.sort(rng.random(4))[::-1]
    mean, rate = rng.standard_normal(5), float(rng.random()) * 0.05
    many = Stages(np.array([1.0, 2.0, 3.0]), variance, 0.0).gain(mean, rate)
    few = Stages(np.array([6.0]), variance[[0, 3]], 0.0).gain(mean, rate)
    assert (many >= few - 2e-3).all()


def simulated(stages, mean, rate, rng, draws=40_000):
    """Mean gain of a trial that stops where the rule says so."""
    mu, gain = np.full(draws, mean), np.zeros(draws)
    going = np.ones(draws, dtype=bool)
    for j, cost in enumerate(stages.cost):
        rest = Stages(stages.cost[j:], stages.variance[j:], stages.best)
        if j:
            going &= rest.gain(mu, rate) > 0
        gain -= np.where(going, rate * cost, 0)
        fall = np.sqrt(stages.variance[j] - stages.variance[j + 1])
        mu = mu + fall * rng.standard_normal(draws)
    last = expected_improvement(mu, stages.variance[-1], stages.best)
    return (gain + np.where(going, last, 0)).mean()


def test_the_rule_gains_what_it_says_in_simulated_trials():
    stages = Stages(np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 0.6, 0.3, 0.1, 0.01]), 1.0)
    found = stages.gain(np.array([0.4]), 0.01)[0]
    assert found == pytest.approx(simulated(stages, 0.4, 0.01, np.random.default_rng(1)), abs=5e-3)


def test_at_the_rate_of_starts_a_start_is_worth_nothing():
    stages = Stages(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.6, 0.3, 0.01]), 1.0)
    means = np.array([-0.5, 0.2, 0.9])
    rate = start_rate([(stages, means)])
    assert stages.gain(means, rate).mean() == pytest.approx(0, abs=1e-6)
    whole = expected_improvement(means, 1.0, 1.0).mean() / 7
    assert rate > whole  # what is gained per step by whole trials, without a stop


def test_starts_that_are_sure_to_end_below_the_best_add_no_gain_but_their_cost():
    unsure = Stages(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.6, 0.3, 0.01]), 1.0)
    sure = Stages(np.array([1.0, 2.0, 4.0]), np.array([1e-4, 1e-4, 1e-4, 1e-4]), 1.0)
    means, hopeless = np.array([-0.5, 0.2]), np.array([0.9, 0.9])
    alone = start_rate([(unsure, means)])
    both = start_rate([(unsure, means), (sure, hopeless)])
    assert 0 < both < alone
    paid = unsure.gain(means, both).sum() + sure.gain(hopeless, both).sum()
    assert paid == pytest.approx(0, abs=1e-6)
    assert sure.gain(hopeless, both) == pytest.approx(-both, abs=1e-3)  # of one step each


def test_no_hope_at_all_has_no_rate():
    stages = Stages(np.array([1.0, 2.0]), np.array([1e-6, 1e-7, 0.0]), 1e3)
    assert start_rate([(stages, np.array([0.0]))]) == 0


def test_means_beyond_the_grid_gain_their_distance():
    stages = Stages(np.array([1.0, 1.0]), np.array([1.0, 0.5, 0.0]), 0.0)
    assert stages.gain(np.array([50.0, -50.0]), 0.1) == pytest.approx([49.8, -0.1], abs=1e-6)
