import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fisherbo.errors import NumericalError
from fisherbo.geometry import lapack


def positive_definite(seed, n):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return a @ a.T + n * np.eye(n)


@given(st.integers(0, 1000), st.integers(1, 12))
def test_factor_inverse_and_determinant_agree_with_numpy(seed, n):
    matrix = positive_definite(seed, n)
    factor = lapack.cholesky(matrix)
    assert factor @ factor.T == pytest.approx(matrix)
    assert np.array_equal(factor, np.tril(factor))
    assert lapack.inverse(factor) == pytest.approx(np.linalg.inv(matrix))
    assert np.array_equal(lapack.inverse(factor), lapack.inverse(factor).T)
    assert factor @ lapack.solve_lower(factor, matrix) == pytest.approx(matrix)
    assert lapack.log_determinant(factor) == pytest.approx(np.linalg.slogdet(matrix)[1])


def test_the_argument_is_left_as_it_was():
    matrix = positive_definite(0, 5)
    before = matrix.copy()
    lapack.inverse(lapack.cholesky(matrix))
    assert np.array_equal(matrix, before)


def test_a_singular_matrix_gets_the_least_jitter():
    factor = lapack.cholesky(np.ones((3, 3)))
    assert factor @ factor.T == pytest.approx(np.ones((3, 3)), abs=1e-9)


def test_an_indefinite_matrix_says_what_to_look_for():
    with pytest.raises(NumericalError, match=r"not positive definite.*duplicated points"):
        lapack.cholesky(np.diag([1.0, -1.0]))


def test_a_matrix_with_nan_says_so():
    with pytest.raises(NumericalError, match="not finite"):
        lapack.cholesky(np.full((2, 2), np.nan))
