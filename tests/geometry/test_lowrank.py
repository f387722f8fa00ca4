import mpmath
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


@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e5])
def test_natural_gradient_is_accurate_where_either_part_prevails(scale):
    diagonal, factors, gradient = draw(0, 3, 5, 2)
    factors = scale * np.concatenate([factors, factors[..., :1] + 1e-3], -1)  # two nearly alike
    natural = LowRankMetric(diagonal, factors).natural(gradient)
    with mpmath.workdps(60):
        for i in range(3):
            u, d = mpmath.matrix(factors[i].tolist()), mpmath.diag(diagonal[i].tolist())
            exact = mpmath.lu_solve(d + u * u.T, mpmath.matrix(gradient[i].tolist()))
            assert natural[i] == pytest.approx([float(v) for v in exact], abs=1e-6)


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


@given(st.integers(0, 1000), st.integers(1, 3))
def test_coordinates_of_infinite_weight_are_held_and_leave_the_others_metric(seed, r):
    diagonal, factors, gradient = draw(seed, 4, 5, r)
    free = np.random.default_rng(seed + 1).random((4, 5)) < 0.7
    natural = LowRankMetric(np.where(free, diagonal, np.inf), factors).natural(gradient)
    for i, f in enumerate(free):
        dense = np.diag(diagonal[i, f]) + factors[i, f] @ factors[i, f].T
        assert natural[i, f] == pytest.approx(np.linalg.solve(dense, gradient[i, f]))
        assert not natural[i, ~f].any()
