import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherbo.geometry.lowrank import LowRankMetric, natural_of_score


def draw(seed, b, d, r):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 3, (b, d)), rng.standard_normal((b, d, r)), rng.standard_normal((b, d))


@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 3))
def test_natural_gradient_solves_the_dense_system(seed, d, r):
    diagonal, factors, gradient = draw(seed, 4, d, r)
    natural = LowRankMetric(diagonal, factors).natural(gradient)
    for i in range(4):
        dense = np.diag(diagonal[i]) + factors[i] @ factors[i].T
        assert natural[i] == pytest.approx(np.linalg.solve(dense, gradient[i]))


@given(st.integers(0, 1000), st.integers(1, 8))
def test_natural_gradient_of_the_score_metric_is_that_of_rank_one(seed, d):
    diagonal, _, score = draw(seed, 4, d, 1)
    general = LowRankMetric(diagonal, score[..., None]).natural(score)
    assert natural_of_score(diagonal, score) == pytest.approx(general)


@given(st.integers(0, 1000))
def test_natural_gradient_ignores_the_units_of_the_coordinates(seed):
    diagonal, factors, gradient = draw(seed, 3, 5, 2)
    unit = np.random.default_rng(seed + 1).uniform(0.1, 10, 5)  # x = unit · x'
    primed = LowRankMetric(diagonal * unit**2, factors * unit[:, None]).natural(gradient * unit)
    assert unit * primed == pytest.approx(LowRankMetric(diagonal, factors).natural(gradient))


def test_the_euclidean_gradient_depends_on_the_units():
    _, _, gradient = draw(0, 1, 3, 2)
    unit = np.array([1.0, 2.0, 3.0])
    assert unit * (gradient * unit) != pytest.approx(gradient)
