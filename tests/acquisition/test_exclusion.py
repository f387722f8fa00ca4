"""Balls against their definition by brute force, and studies of step functions and rough ones."""

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherbo import FisherSampler
from fisherbo.acquisition.exclusion import exclusion_zones, stall_radius
from fisherbo.gp.kernel import Embedding

CHOICES = np.array([0, 3])


def embedding(lengthscale=(0.5, 1.0)):
    return Embedding.of(np.array(lengthscale), CHOICES)


def draw(seed, n=14):
    rng = np.random.default_rng(seed)
    x = np.stack([rng.random(n) ** 3, rng.integers(3, size=n) / 2], 1)
    return x, np.floor(3 * x[:, 0]) + x[:, 1]


def far(a, b):
    """Distances t of two points, one by one."""
    return np.sqrt(3 * ((a[0] - b[0]) ** 2 / 0.25 + (a[1] != b[1])))


@given(seed=st.integers(0, 200))
def test_radii_are_those_of_the_definition(seed):
    x, y = draw(seed)
    expected = []
    for i in range(len(y)):
        others = [far(x[i], x[j]) for j in range(len(y)) if y[j] != y[i]]
        nearest = min(others, default=np.inf)
        same = [far(x[i], x[j]) for j in range(len(y)) if j != i and y[j] == y[i]]
        inside = [t for t in same if t < nearest]
        if inside:
            reach = max(inside)
            expected.append(min(max(min(2 * reach, (reach + nearest) / 2), 0.015), 0.52))
    found = exclusion_zones(x, y, embedding())
    assert (found is None) == (not expected)
    if found is not None:
        assert found.radius == pytest.approx(expected, abs=1e-6)


def test_points_are_outside_unless_near_a_flat_point():
    x, y = np.array([[0.1, 0.0], [0.12, 0.0], [0.8, 0.0]]), np.array([1.0, 1.0, 2.0])
    found = exclusion_zones(x, y, embedding())
    reach = far(x[0], x[1])
    assert found.radius == pytest.approx([2 * reach, 2 * reach])
    asked = np.array([[0.1, 0.0], [0.155, 0.0], [0.17, 0.0], [0.1, 1.0], [0.8, 0.0]])
    assert found.outside(asked).tolist() == [False, False, True, True, True]


def test_values_that_all_differ_have_no_plateau():
    x, y = draw(0)
    assert exclusion_zones(x, y + 1e-12 * np.arange(len(y)), embedding()) is None


def test_a_point_of_another_value_between_two_equal_ones_forbids_a_plateau():
    x = np.array([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0]])
    assert exclusion_zones(x, np.array([1.0, 2.0, 1.0]), embedding()) is None


def test_a_stalled_search_keeps_away_from_all_points():
    x, y = draw(0)
    found = exclusion_zones(x, y + 1e-12 * np.arange(len(y)), embedding(), 0.1)
    assert found.radius == pytest.approx(np.full(len(x), 0.1))
    assert not found.outside(x).any()


def test_the_radius_is_that_of_a_stalled_search_in_every_other_trial():
    assert [stall_radius(age) for age in (0, 2, 4, 6)] == [0, 0, 0, 0]
    assert [stall_radius(age) for age in (3, 5, 7)] == pytest.approx(
        0.015 * 1.5 ** np.array([0, 2, 4])
    )
    assert stall_radius(10**6 + 1) == 0.52


def steps(trial):
    """A staircase of 40 cells."""
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return abs(np.floor(8 * x) - 5) + abs(np.floor(5 * y) - 2)


@pytest.mark.parametrize("seed", range(2))
def test_a_step_function_is_not_evaluated_again_and_again_in_one_cell(seed):
    study = optuna.create_study(sampler=FisherSampler(seed=seed))
    study.optimize(steps, n_trials=40)
    cells = [(int(8 * t.params["x"]), int(5 * t.params["y"])) for t in study.trials]
    assert study.best_value == 0
    assert cells.count((5, 2)) <= 15  # 20 to 22, or the cell is never found, without plateaus


def test_an_objective_that_is_flat_everywhere_raises_nothing():
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=3))
    study.optimize(lambda t: 0.0 * t.suggest_float("x", 0, 1), n_trials=14)
    assert len({t.params["x"] for t in study.trials}) == 14
