"""Stopping of several objectives against the dynamic program of one, and against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from fisherbo.acquisition.front_stopping import futures, non_dominated_probability
from fisherbo.acquisition.log_ehvi import Cells, log_hypervolume_improvement
from fisherbo.acquisition.stopping import Stages, break_even, start_rate

COST = np.array([1.0, 2.0, 4.0, 8.0])
VARIANCE = np.array([1.0, 0.6, 0.3, 0.1, 0.01])
FRONT = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
CELLS = Cells.of(  # what beats (−3, −3) and is not dominated by the front
    np.array([[-3.0, 1.0], [0.0, 0.5], [0.5, 0.0], [1.0, -3.0]]),
    np.array([[0.0, np.inf], [0.5, np.inf], [1.0, np.inf], [np.inf, np.inf]]),
)


def above(best):
    return Cells.of(np.array([[best]]), np.array([[np.inf]]))


@pytest.mark.parametrize("mean", [-1.0, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("rate", [0.002, 0.01, 0.03])
def test_with_one_objective_it_is_the_dynamic_program(mean, rate):
    stages = Stages(COST, VARIANCE, 0.5)
    exact = stages.gain(np.array([mean]), rate)[0]
    found = futures(np.array([[mean]]), [stages], above(0.5)).gain(rate)
    assert found == pytest.approx(exact, abs=0.01)


def test_with_one_objective_starts_have_the_rate_of_the_dynamic_program():
    mean = np.random.default_rng(0).standard_normal(20)
    for best in (0.0, 1.0):
        stages = Stages(COST, VARIANCE, best)
        found = break_even(futures(mean[:, None], [stages], above(best)).gain, COST[0])
        assert found == pytest.approx(start_rate([(stages, mean)]), rel=0.1)


@settings(max_examples=20)
@given(seed=st.integers(0, 200))
def test_where_steps_cost_nothing_going_on_gains_the_expected_improvement(seed):
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=2)
    stages = [Stages(COST, scale * VARIANCE, 0.0) for scale in rng.uniform(0.2, 2, 2)]
    sd = np.sqrt([[each.variance[0] for each in stages]])
    expected = np.exp(log_hypervolume_improvement(mean[None], sd, CELLS))[0]
    assert futures(mean[None], stages, CELLS).gain(0.0) == pytest.approx(
        expected, rel=0.03, abs=0.01
    )


def test_the_order_of_the_objectives_does_not_matter():
    mean = np.array([[0.3, -0.2]])
    stages = [Stages(COST, VARIANCE, 0.0), Stages(COST, 0.5 * VARIANCE, 0.0)]
    found = futures(mean, stages, CELLS).gain(0.01)
    mirrored = futures(mean[:, ::-1], stages[::-1], CELLS).gain(0.01)  # the front is symmetric
    assert mirrored == pytest.approx(found, rel=0.03)


def test_a_hopeless_trial_is_stopped_and_a_promising_one_is_not():
    stages = [Stages(COST, 0.05 * VARIANCE, 0.0)] * 2
    starts = futures(np.random.default_rng(1).normal(size=(20, 2)), stages, CELLS)
    rate = break_even(starts.gain, COST[0])
    assert rate > 0
    assert futures(np.array([[-2.0, -2.0]]), stages, CELLS).gain(rate) < 0
    assert futures(np.array([[1.5, 0.8]]), stages, CELLS).gain(rate) > 0


def test_the_probability_not_to_be_dominated_is_that_of_the_normal_distribution():
    mean, variance = np.array([0.2, -0.4]), np.array([0.5, 2.0])
    below = ndtr((np.array([0.3, 0.1]) - mean) / np.sqrt(variance))
    found = non_dominated_probability(mean, variance, np.array([[0.3, 0.1]]))
    assert found == pytest.approx(1 - below.prod(), abs=0.01)
    either = 1 - ndtr((FRONT[[0, 2]] - mean) / np.sqrt(variance)).prod(1).max()
    assert non_dominated_probability(mean, variance, FRONT) < either + 0.01
