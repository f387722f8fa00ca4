"""BoTorch models as surrogates, against our closed forms."""

import warnings

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from botorch.models.ensemble import EnsembleModel
from scipy.optimize import approx_fprime
from scipy.stats.qmc import Sobol

from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.acquisition.propose import propose
from fisherbo.botorch.convert import to_botorch
from fisherbo.botorch.surrogate import AutogradSurrogate, from_factory, isolated, with_pending
from fisherbo.errors import InvalidInputError
from fisherbo.gp.fisher import damped_metric, pull_back_metric
from fisherbo.gp.hyper import NOISE_FLOOR, Hyper
from fisherbo.gp.posterior import condition, with_fantasies
from fisherbo.optimize.descent import natural_ascent
from fisherbo.space import Space

NUMERIC, MIXED = np.zeros(3, dtype=np.int64), np.array([0, 4, 0])
REFERENCE = Sobol(3, rng=0).random(32)


class Waves(EnsembleModel):
    """Four functions of two coordinates, without a joint normal posterior."""

    num_outputs = 1

    def forward(self, X):
        phase = torch.arange(4).to(X)[:, None, None]
        return torch.sin(3 * X[..., :2].sum(-1)[..., None, :, None] + phase / 9)


def draw_points(choices, count, rng):
    x = rng.random((count, 3))
    for j in choices.nonzero()[0]:
        x[:, j] = rng.integers(choices[j], size=count) / (choices[j] - 1)
    return x


def points_of(choices, count=8, seed=1):
    return draw_points(choices, count, np.random.default_rng(seed))


def draw(choices=NUMERIC, unit=1.0):
    rng = np.random.default_rng(0)
    x = draw_points(choices, 20, rng)
    hyper = Hyper(rng.uniform(0.3, 1.5, 3) * unit, 1.4, 0.02)
    y = np.sin(5 * x).sum(1)
    return condition(x * unit, (y - y.mean()) / y.std(), choices, hyper)


def wrap(posterior, reference=REFERENCE):
    return AutogradSurrogate(to_botorch(posterior), reference, np.empty((0, 3)))


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
def test_gradients_and_metric_by_autograd_equal_the_closed_forms(choices):
    posterior = draw(choices=choices)
    points = np.concatenate([points_of(choices), posterior.x[:3]])
    ours, theirs = (s.predict_with_gradient(points) for s in (posterior, wrap(posterior)))
    for name in ("mean", "sd", "mean_gradient"):
        assert getattr(theirs, name) == pytest.approx(getattr(ours, name), abs=1e-8)
    assert theirs.sd_gradient[:8] == pytest.approx(ours.sd_gradient[:8], abs=1e-8)
    metric = pull_back_metric(wrap(posterior), points[:8])
    assert metric == pytest.approx(pull_back_metric(posterior, points[:8]), abs=1e-8)


def test_gradients_of_another_model_equal_finite_differences():
    posterior = draw()
    surrogate = from_factory(SingleTaskGP, posterior.x, posterior.y, REFERENCE)
    point = points_of(NUMERIC, 1)
    p = surrogate.predict_with_gradient(point)
    for which, gradient in ((0, p.mean_gradient), (1, p.sd_gradient)):
        numeric = approx_fprime(point[0], lambda z, k=which: surrogate.predict(z[None])[k][0], 1e-6)
        assert gradient[0] == pytest.approx(numeric, abs=1e-4)


def test_noise_is_that_of_the_next_observation():
    posterior = draw()
    assert wrap(posterior).noise == pytest.approx(posterior.noise, abs=1e-8)


def test_damping_is_the_mean_second_moment_of_the_gradient_given_the_data():
    posterior = draw()
    by_mean = posterior.predict_with_gradient(REFERENCE).mean_gradient ** 2
    by_noise = posterior.gradient_covariance(REFERENCE).diagonal(axis1=1, axis2=2)
    expected = (by_mean + by_noise).mean(0)
    assert wrap(posterior).gradient_variance == pytest.approx(expected, rel=0.02)


def test_damping_without_data_is_the_priors():
    """Over secants as short as they are; of a once differentiable kernel that is a little less."""
    hyper = Hyper(np.array([0.2, 1, 3]), 1.3, 0.1)
    far = condition(np.full((1, 3), 90.0), np.zeros(1), NUMERIC, hyper)
    step = 0.01 * REFERENCE.std(0)
    t = np.sqrt(3) * step / hyper.lengthscale
    secant = 2 * hyper.signal * (1 - (1 + t) * np.exp(-t)) / step**2
    assert wrap(far).gradient_variance == pytest.approx(secant, rel=1e-6)
    assert secant == pytest.approx(far.gradient_variance * (1 - 2 * t / 3), rel=1e-3)


def test_metric_and_ascent_change_as_tensors_with_the_units():
    unit = np.array([0.5, 0.8, 0.3])
    one, two = draw(), draw(unit=unit)
    one, two = wrap(one), wrap(two, REFERENCE * unit)
    points = points_of(NUMERIC)
    scaled = np.diag(unit) @ damped_metric(two, points * unit, 0.3) @ np.diag(unit)
    assert scaled == pytest.approx(damped_metric(one, points, 0.3))
    start, free = np.full((1, 3), 0.5), np.ones(3, dtype=bool)
    settings = {"max_steps": 2, "damping": 300.0, "tolerance": 0.0}
    here = natural_ascent(ExpectedImprovement(one, 0.5).evaluate, start, free, **settings)
    there = natural_ascent(ExpectedImprovement(two, 0.5).evaluate, start * unit, free, **settings)
    assert there.x / unit == pytest.approx(here.x)
    assert here.x != pytest.approx(start)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
def test_the_proposal_is_the_posteriors_when_the_damping_is(choices):
    kind, ends = choices > 0, np.where(choices > 0, choices - 1.0, 1.0)
    space = Space(np.zeros(3), ends, kind * 1.0, np.zeros(3, dtype=bool), kind)
    posterior = draw(choices=choices)
    surrogate = wrap(posterior)
    vars(surrogate)["_moments"] = posterior.variance, posterior.gradient_variance
    ours, theirs = (
        propose(ExpectedImprovement(s, 0.8), space, posterior.x[:4], np.random.default_rng(0))
        for s in (posterior, surrogate)
    )
    assert theirs.x == pytest.approx(ours.x, abs=1e-6)
    assert theirs.utility == pytest.approx(ours.utility, abs=1e-6)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
def test_believed_points_are_the_posteriors_certain_fantasies(choices):
    posterior = draw(choices=choices)
    pending, points = points_of(choices, 4, seed=5), points_of(choices)
    ours = with_fantasies(posterior, pending).predict_with_gradient(points)
    surrogate = with_pending(wrap(posterior), None, posterior.x, posterior.y, pending)
    theirs = surrogate.predict_with_gradient(points)
    for name in ("mean", "sd", "mean_gradient", "sd_gradient"):
        assert getattr(theirs, name) == pytest.approx(getattr(ours, name), abs=1e-7)
    twice = wrap(posterior).believing(pending[:2]).believing(pending[2:])
    assert twice.predict(points)[1] == pytest.approx(theirs.sd)


def test_a_model_without_joint_normal_posterior_is_refitted_with_believed_values():
    def factory(x, y):
        seen.append((x.numpy(), y.numpy()))
        return Waves().eval()

    seen = []
    x, y, pending = points_of(NUMERIC), np.arange(8.0), points_of(NUMERIC, 2, seed=5)
    surrogate = from_factory(factory, x, y, REFERENCE)
    with_pending(surrogate, factory, x, y, pending)
    assert len(seen) == 2
    assert seen[1][0] == pytest.approx(np.concatenate([x, pending]))
    believed = np.append(y, surrogate.predict(pending)[0])
    assert seen[1][1] == pytest.approx(believed[:, None])


def test_an_ensemble_serves_too():
    surrogate = from_factory(lambda x, y: Waves().eval(), np.ones((2, 3)), np.ones(2), REFERENCE)
    assert surrogate.noise == NOISE_FLOOR
    assert surrogate.predict_with_gradient(REFERENCE).mean_gradient.shape == (32, 3)
    first, second, unused = surrogate.gradient_variance
    assert first == pytest.approx(second, rel=0.2)
    assert 0 < unused < 1e-2 * first


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (lambda x, y: None, "return a BoTorch model, got NoneType"),
        (lambda x, y: torch.nn.Linear(3, 1), "got Linear"),
        (to_botorch(draw()), "a factory of models, got a model"),
        (lambda x, y: Waves(), "got a Waves in training mode"),
        (lambda x, y: SingleTaskGP(x, y.expand(-1, 2)).eval(), "one output and no batch"),
    ],
)
def test_bad_factories_are_refused_clearly(factory, named):
    posterior = draw()
    with isolated(0), pytest.raises(InvalidInputError, match=named):
        from_factory(factory, posterior.x, posterior.y, REFERENCE).predict(REFERENCE)


def test_isolation_restores_everything():
    def state():
        filters, grad = list(warnings.filters), torch.is_grad_enabled()
        return torch.get_rng_state().tolist(), torch.get_default_dtype(), filters, grad

    before = state()
    with isolated(3):
        first = torch.rand(3)
    with isolated(3):
        assert torch.equal(torch.rand(3), first)
    assert state() == before
