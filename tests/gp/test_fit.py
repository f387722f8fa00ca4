"""Fitted hyperparameters: at a maximum, near the truth, as good as a library's optimizer finds."""

import numpy as np
import pytest
from scipy.optimize import minimize

from fisherbo.gp.fit import _bounds, descend, fit, with_prior
from fisherbo.gp.hyper import Hyper, Prior, prior_mode
from fisherbo.gp.likelihood import Likelihood, MarginalLikelihood
from fisherbo.gp.replicates import merged
from tests.gp.oracles import MIXED, NUMERIC, dense_covariance, draw


def loss_of(x, y, choices):
    likelihood, prior = MarginalLikelihood(merged(x, y), choices), Prior.for_dimension(len(choices))
    return lambda v: with_prior(likelihood(v), prior, v)


def test_fit_recovers_lengthscales_of_a_sample():
    rng = np.random.default_rng(0)
    x = rng.random((150, 2))
    true = Hyper(np.array([0.2, 1.0]), 1.0, 1e-3)
    choices = np.zeros(2, dtype=np.int64)
    gram = dense_covariance(x, x, choices, true) + true.noise * np.eye(150)
    y = np.linalg.cholesky(gram) @ rng.standard_normal(150)
    found = fit(x, y, choices)
    assert np.log(found.lengthscale) == pytest.approx(np.log(true.lengthscale), abs=0.4)
    assert np.log(found.noise) == pytest.approx(np.log(true.noise), abs=0.7)


def test_fit_is_at_a_maximum_of_the_posterior_density():
    x, y, _ = draw(5, n=25)
    theta = fit(x, y, NUMERIC, [prior_mode(3)]).to_vector()
    loss = loss_of(x, y, NUMERIC)
    assert all(loss(theta).value <= loss(theta + s).value + 1e-3 for s in 0.3 * np.eye(5))
    assert all(loss(theta).value <= loss(theta - s).value + 1e-3 for s in 0.3 * np.eye(5))


def losses_left(choices, seed):
    """What our fit, and L-BFGS-B to a like tolerance, leave to gain for one that goes on."""
    x, noise, hyper = draw(seed, n=40, choices=choices)
    gram = dense_covariance(x, x, choices, hyper) + hyper.noise * np.eye(40)
    y = np.linalg.cholesky(gram) @ noise
    loss = loss_of(x, y, choices)

    def descend(theta, **options):
        return minimize(
            lambda v: (loss(v).value, loss(v).gradient),
            theta,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-7, 7)] * len(theta),
            options=options,
        )

    ours = fit(x, y, choices, tolerance=0.1).to_vector()
    theirs = descend(prior_mode(3).to_vector(), ftol=1e-3, gtol=1e-2)
    best = min(descend(ours).fun, descend(theirs.x).fun)
    return loss(ours).value - best, theirs.fun - best


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
def test_natural_steps_end_nearer_to_the_mode_than_l_bfgs(choices):
    ours, theirs = np.array([losses_left(choices, seed) for seed in range(20)]).T
    assert np.median(ours) < 0.03
    assert np.median(ours) < 0.5 * np.median(theirs)
    assert ours.mean() < theirs.mean()


def test_a_hyperparameter_at_its_bound_is_held_there_and_the_others_are_fitted():
    x, _, hyper = draw(0, n=40)
    y = np.linalg.cholesky(dense_covariance(x, x, NUMERIC, hyper) + 1e-9 * np.eye(40)) @ np.ones(40)
    start = Hyper(np.full(3, 1e4), 1.0, 1e-8)  # both beyond their bounds
    found = fit(x, 1e-3 * y, NUMERIC, [start])
    assert (found.lengthscale <= 1e3).all()
    assert found.noise >= 1e-6 * (1 - 1e-9)
    assert found.signal < 0.1


@pytest.mark.parametrize("room", [0.01, 0.05, 0.2])
def test_a_step_that_a_bound_bends_is_never_uphill(room):
    """The natural step goes far down one coordinate and up another; a bound leaves the second."""
    low, high = _bounds(2)
    start = np.array([low[0] + room, 0.0, 0.0, -6.0])
    information = 10 * np.eye(4)
    information[0, 1] = information[1, 0] = 9.9
    centre = start - np.linalg.solve(information, 10 * np.array([1.0, 0.3, 0.0, 0.0]))

    def loss(theta):
        gradient = information @ (theta - centre)
        return Likelihood(0.5 * (theta - centre) @ gradient, gradient, information)

    theta, value = descend(loss, start, _bounds(2), 50, 1e-6)
    assert loss(theta).value == pytest.approx(value)
    assert (theta >= low).all() and (theta <= high).all()
    held = np.linspace(-3, 3, 10_001)  # along the second coordinate, the first at its bound
    least = min(loss(np.array([low[0], t, 0.0, -6.0])).value for t in held)
    assert value == pytest.approx(least, abs=1e-4)
