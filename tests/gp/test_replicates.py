"""Merged replicates carry exactly what all observations carry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from fisherbo.gp.hyper import Hyper
from fisherbo.gp.kernel import distance, matern
from fisherbo.gp.likelihood import MarginalLikelihood
from fisherbo.gp.posterior import condition
from fisherbo.gp.replicates import merged

CHOICES = np.zeros(2, dtype=np.int64)


def repeated(seed):
    rng = np.random.default_rng(seed)
    x = rng.random((5, 2))[rng.integers(5, size=14)]
    hyper = Hyper(rng.uniform(0.3, 1, 2), float(rng.uniform(0.5, 2)), float(rng.uniform(0.05, 0.5)))
    return x, rng.standard_normal(14), hyper


@given(seed=st.integers(0, 100))
def test_the_marginal_likelihood_is_that_of_all_observations(seed):
    x, y, hyper = repeated(seed)
    data, scaled = merged(x, y), x * np.sqrt(3) / hyper.lengthscale
    gram = hyper.signal * matern(distance(scaled, scaled))[0] + hyper.noise * np.eye(len(x))
    likelihood, theta = MarginalLikelihood(data, CHOICES), hyper.to_vector()
    dense = multivariate_normal(np.zeros(len(x)), gram).logpdf(y)
    assert likelihood(theta).value == pytest.approx(-dense, abs=1e-5)
    numeric = approx_fprime(theta, lambda v: likelihood(v).value, 1e-7)
    assert likelihood(theta).gradient == pytest.approx(numeric, abs=1e-4)


@given(seed=st.integers(0, 100))
def test_the_posterior_is_that_of_all_observations(seed):
    x, y, hyper = repeated(seed)
    data = merged(x, y)
    points = np.random.default_rng(seed).random((4, 2))
    ours = condition(data.x, data.y, CHOICES, hyper, nugget=hyper.noise / data.count)
    whole = condition(x, y, CHOICES, hyper)
    assert ours.predict(points)[0] == pytest.approx(whole.predict(points)[0], abs=1e-8)
    assert ours.predict(points)[1] == pytest.approx(whole.predict(points)[1], abs=1e-8)


def test_distinct_points_stay_as_they_are_and_order_is_that_of_the_first():
    x = np.array([[0.5, 0.5], [0.1, 0.2], [0.5, 0.5], [0.9, 0.3]])
    data = merged(x, np.array([1.0, 2.0, 3.0, 4.0]))
    assert data.x.tolist() == [[0.5, 0.5], [0.1, 0.2], [0.9, 0.3]]
    assert data.y.tolist() == [2.0, 2.0, 4.0]
    assert data.count.tolist() == [2, 1, 1]
    assert data.scatter == pytest.approx(2.0)
    same = merged(x[1:], np.arange(3.0))
    assert same.x is not x and same.count.tolist() == [1, 1, 1] and same.scatter == 0
