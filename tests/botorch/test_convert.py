"""Conversion to BoTorch and back: the same predictions, gradients and metric."""

import numpy as np
import pytest
import torch
from botorch.models import MixedSingleTaskGP, SingleTaskGP
from botorch.models.transforms import Log, Normalize, Standardize, Warp
from gpytorch.kernels import MaternKernel, RBFKernel, ScaleKernel
from gpytorch.means import LinearMean
from hypothesis import given, settings
from hypothesis import strategies as st

from fisherbo.botorch.convert import from_botorch, to_botorch
from fisherbo.errors import InvalidInputError
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition, with_fantasies


def draw_points(rng, count, choices):
    x = rng.random((count, len(choices)))
    for j in choices.nonzero()[0]:
        x[:, j] = rng.integers(choices[j], size=count) / (choices[j] - 1)
    return x


def draw(seed, mixed, pending=0):
    """A posterior of a random space, and points far from the data, at it and next to it."""
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, 7)), int(rng.integers(1, 60))
    choices = np.where(rng.random(d) < 0.5, rng.integers(2, 6, d), 0) * mixed
    x = draw_points(rng, n, choices)
    scales = np.exp(rng.uniform(np.log(0.05), np.log(10), d))
    hyper = Hyper(scales, float(rng.uniform(0.3, 3)), float(np.exp(rng.uniform(-9, 0))))
    constant = float(rng.standard_normal())
    posterior = condition(x, rng.standard_normal(n), choices, hyper, constant=constant)
    posterior = with_fantasies(posterior, draw_points(rng, pending, choices))
    near = [np.where(choices > 0, x[:5], x[:5] + step) for step in (0, 1e-9, 1e-5)]
    return posterior, np.concatenate([draw_points(rng, 20, choices), *near])


def predictions(model, points):
    with torch.no_grad():
        p = model.posterior(torch.tensor(points)[:, None])
        return p.mean.numpy().ravel(), p.variance.numpy().ravel()


@pytest.mark.parametrize(("mixed", "pending"), [(False, 0), (True, 0), (False, 3), (True, 3)])
@settings(max_examples=12)
@given(seed=st.integers(0, 200))
def test_the_model_predicts_as_the_posterior_and_so_does_its_way_back(mixed, pending, seed):
    posterior, points = draw(seed, mixed, pending)
    model = to_botorch(posterior)
    mean, sd = posterior.predict(points)
    theirs = predictions(model, points)
    assert theirs[0] == pytest.approx(mean, abs=1e-8)
    assert theirs[1] == pytest.approx(sd**2, abs=1e-8)
    back = from_botorch(model)
    assert back.predict(points)[0] == pytest.approx(mean, abs=1e-8)
    assert back.predict(points)[1] ** 2 == pytest.approx(sd**2, abs=1e-8)
    assert back.hyper.to_vector() == pytest.approx(posterior.hyper.to_vector())
    assert back.choices.choices.tolist() == posterior.choices.tolist()
    assert back.nugget == pytest.approx(posterior.nugget)


def test_joint_predictions_agree_with_marginal_ones():
    posterior, points = draw(3, True)
    with torch.no_grad():
        joint = to_botorch(posterior).posterior(torch.tensor(points)).mean.numpy().ravel()
    assert joint == pytest.approx(posterior.predict(points)[0], abs=1e-8)


def matern_model(seed=0, kernel=None, **options):
    rng = np.random.default_rng(seed)
    x, y = torch.tensor(rng.uniform(-3, 5, (15, 2))), torch.tensor(rng.normal(7, 4, (15, 1)))
    if kernel is None:
        kernel = ScaleKernel(MaternKernel(1.5, ard_num_dims=2))
    return SingleTaskGP(x, y, covar_module=kernel, **options).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"outcome_transform": None},
        {"input_transform": Normalize(2)},
        {"input_transform": Normalize(2, center=0.0), "outcome_transform": Standardize(1)},
        {"train_Yvar": torch.linspace(0.1, 1, 15, dtype=torch.float64)[:, None]},
        {"kernel": MaternKernel(1.5), "input_transform": Normalize(2)},
    ],
)
def test_transforms_constants_and_noises_are_absorbed(options):
    model = matern_model(**options)
    model.mean_module.constant = torch.tensor(0.7, dtype=torch.float64)
    points = np.random.default_rng(1).uniform(-3, 5, (9, 2))
    mean, variance = predictions(model, points)
    ours = from_botorch(model).predict(points)
    assert ours[0] == pytest.approx(mean, abs=1e-8)
    assert ours[1] ** 2 == pytest.approx(variance, abs=1e-7)  # variances are near 16


def test_the_models_kernel_can_be_trained():
    """The lengthscale's gradient, for those who go on fitting the model."""
    model = to_botorch(draw(5, True)[0]).requires_grad_(True)
    kernel = model.covar_module
    kernel(model.train_inputs[0]).to_dense().sum().backward()
    assert kernel.base_kernel.raw_lengthscale.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: torch.nn.Linear(1, 1), "SingleTaskGP, got Linear"),
        (lambda: matern_model().train(), "training mode"),
        (lambda: matern_model(kernel=RBFKernel()), "got RBFKernel"),
        (lambda: matern_model(kernel=MaternKernel(2.5)), "got MaternKernel"),
        (lambda: matern_model(kernel=MaternKernel(1.5, active_dims=[0])), "active_dims"),
        (lambda: matern_model(mean_module=LinearMean(2)), "got LinearMean"),
        (lambda: matern_model(input_transform=Warp(2, [0, 1])), "got Warp"),
        (lambda: matern_model(input_transform=Normalize(2, indices=[0])), "got Normalize"),
        (lambda: SingleTaskGP(torch.rand(4, 1).double(), torch.rand(4, 2).double()).eval(), "one"),
    ],
)
def test_other_models_are_refused_by_name(make, named):
    with pytest.raises(InvalidInputError, match=named):
        from_botorch(make())


def test_other_outcome_transforms_and_mixed_kernels_are_refused():
    x = torch.tensor([[0, 0.1], [0.5, 0.9], [1, 1], [0, 0]], dtype=torch.float64)
    z = torch.tensor([[1.2], [-0.7], [-0.9], [0.4]], dtype=torch.float64)
    y = (z / z.std()).exp()
    with pytest.raises(InvalidInputError, match="got Log"):
        from_botorch(SingleTaskGP(x, y, outcome_transform=Log()).eval())
    with pytest.raises(InvalidInputError, match="Matérn-3/2 kernel"):
        from_botorch(MixedSingleTaskGP(x, y, cat_dims=[0]).eval())
