"""Sobol points against SciPy's."""

import numpy as np
import pytest
from scipy.stats.qmc import Sobol

from fisherbo.errors import InvalidInputError
from fisherbo.sobol import MOST_DIMENSIONS, sobol


@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 21, MOST_DIMENSIONS, MOST_DIMENSIONS + 1])
@pytest.mark.parametrize("seed", [0, 12345])
def test_points_are_scipy_s(dimension, seed):
    expected = Sobol(dimension, rng=seed).random(256)
    np.testing.assert_array_equal(sobol(dimension, 256, seed), expected)


@pytest.mark.parametrize("dimension", [2, MOST_DIMENSIONS, MOST_DIMENSIONS + 1])
@pytest.mark.parametrize("first", [1, 7, 64, 10_003])
def test_later_points_are_scipy_s(dimension, first):
    engine = Sobol(dimension, rng=np.random.default_rng(3)).fast_forward(first)
    found = sobol(dimension, 5, np.random.default_rng(3), first)
    np.testing.assert_array_equal(found, engine.random(5))


def test_points_after_the_end_of_the_sequence_are_refused():
    with pytest.raises(InvalidInputError, match="2\\^30"):
        sobol(2, 6, 0, 2**30 - 5)
