"""fisherbo.botorch.optimize_acqf against BoTorch's, dense grids and its own contract."""

import inspect
import re

import numpy as np
import pytest
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    LogExpectedImprovement,
    UpperConfidenceBound,
    qKnowledgeGradient,
    qLogExpectedImprovement,
)
from botorch.acquisition.fixed_feature import FixedFeatureAcquisitionFunction
from botorch.acquisition.multi_objective import qLogExpectedHypervolumeImprovement
from botorch.acquisition.proximal import ProximalAcquisitionFunction
from botorch.generation.gen import gen_candidates_scipy, gen_candidates_torch
from botorch.models import ModelListGP, MultiTaskGP
from botorch.models.ensemble import EnsembleModel
from botorch.optim import optimize_acqf as theirs
from botorch.optim import optimize_acqf_mixed
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from scipy.optimize import approx_fprime

from fisherbo.botorch import fit_model, gen_candidates_natural
from fisherbo.botorch import optimize_acqf as ours
from fisherbo.botorch.metric import expected_metric_diagonal, model_of
from fisherbo.errors import InvalidInputError

AT_ONE_POINT = pytest.mark.filterwarnings("ignore:A not p.d.")  # two candidates meet on the way

SIZES = {"num_restarts": 8, "raw_samples": 128}


def box(d, high=1.0):
    return torch.tensor([[0.0] * d, [high] * d], dtype=torch.double)


def points(n, d, seed=0):
    return torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(n, dtype=torch.double)


def wavy(x, high=1.0):
    return (torch.sin(6 * x / high) * torch.linspace(1, 2, x.shape[-1]).to(x)).sum(-1, keepdim=True)


def make_model(d=2, n=12, high=1.0, seed=0):
    x = high * points(n, d, seed)
    return fit_model(x, wavy(x, high), box(d, high))


def optimum(optimize, acquisition, bounds, q=1, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return optimize(acquisition, bounds, q, **{**SIZES, **options})


def joint(model, best=0.0):
    return qLogExpectedImprovement(model, best, SobolQMCNormalSampler(torch.Size([64]), seed=0))


class Waves(EnsembleModel):
    """Four functions of two coordinates, without a joint normal posterior."""

    num_outputs = 1

    def forward(self, X):
        phase = torch.arange(4).to(X)[:, None, None]
        return torch.sin(3 * X[..., :2].sum(-1)[..., None, :, None] + phase / 9)


def test_its_signature_is_botorchs():
    own, other = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    assert list(own) == list(other)
    for name, parameter in other.items():
        assert own[name].kind == parameter.kind, name
        assert own[name].default == parameter.default, name


@pytest.mark.parametrize(
    "make", [lambda m: UpperConfidenceBound(m, 4.0), lambda m: LogExpectedImprovement(m, 2.0)]
)
def test_no_point_of_a_dense_grid_is_better(make):
    acquisition = make(make_model())
    axis = torch.linspace(0, 1, 301, dtype=torch.double)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        dense = acquisition(grid[:, None])
    candidate, value = optimum(ours, acquisition, box(2))
    assert candidate.shape == (1, 2)
    assert value.shape == ()
    assert value >= dense.max()
    assert (candidate[0] - grid[dense.argmax()]).abs().max() < 1 / 150


def test_in_one_dimension_it_finds_the_highest_of_several_hills():
    x = torch.linspace(0, 10, 9, dtype=torch.double)[:, None]
    acquisition = UpperConfidenceBound(fit_model(x, torch.sin(2 * x) + x / 20, box(1, 10.0)), 1.0)
    grid = torch.linspace(0, 10, 2001, dtype=torch.double)[:, None]
    with torch.no_grad():
        dense = acquisition(grid[:, None])
    candidate, value = optimum(ours, acquisition, box(1, 10.0))
    assert value >= dense.max()
    assert candidate.item() == pytest.approx(grid[dense.argmax()].item(), abs=0.01)


@pytest.mark.parametrize("q", [1, pytest.param(3, marks=AT_ONE_POINT)])
@pytest.mark.parametrize("sequential", [False, True])
def test_it_reaches_botorchs_value(q, sequential):
    acquisition = joint(make_model(d=3, n=20, high=5.0), 2.0)
    ways = {"q": q, "sequential": sequential}
    candidates, value = optimum(ours, acquisition, box(3, 5.0), **ways)
    others, other = optimum(theirs, acquisition, box(3, 5.0), **ways)
    assert candidates.shape == others.shape == (q, 3)
    assert value.shape == other.shape
    assert acquisition.X_pending is None
    with torch.no_grad():
        assert acquisition(candidates) >= acquisition(others) - 1e-3


def test_the_optimum_does_not_depend_on_the_units_of_inputs_and_values():
    start = points(4, 2)[:, None]
    unit = UpperConfidenceBound(make_model(), 4.0)
    x = points(12, 2)
    wide = fit_model(1000 * x, 1e4 * wavy(x), box(2, 1000.0))
    acquisition = UpperConfidenceBound(wide, 4.0)
    a, value = ours(unit, box(2), 1, 4, batch_initial_conditions=start)
    b, large = ours(acquisition, box(2, 1000.0), 1, 4, batch_initial_conditions=1000 * start)
    assert (1000 * a - b).abs().max() < 0.1
    assert large.item() == pytest.approx(1e4 * value.item(), rel=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_one_start_is_enough_in_any_units(unit):
    x, start = points(12, 2), torch.tensor([[[0.4, 0.6]]], dtype=torch.double)
    found = []
    for scale in (1.0, unit):
        model = fit_model(scale * x, wavy(x), box(2, scale))
        acquisition = UpperConfidenceBound(model, 4.0)
        z, _ = ours(acquisition, box(2, scale), 1, 1, batch_initial_conditions=scale * start)
        found.append(z / scale)
    assert torch.allclose(*found, atol=1e-4)


def test_the_candidates_of_every_start_are_local_optima():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    start = points(5, 2, seed=3)[:, None]
    found, values = ours(
        acquisition, box(2), 1, 5, batch_initial_conditions=start, return_best_only=False
    )
    assert found.shape == (5, 1, 2)
    assert values.shape == (5,)
    with torch.no_grad():
        assert torch.allclose(values, acquisition(found))
    for point in found[:, 0].numpy():
        gradient = approx_fprime(point, lambda z: acquisition(torch.tensor(z)[None]).item(), 1e-7)
        inside = (point > 0) & (point < 1)
        assert np.abs(gradient[inside]).max(initial=0) < 1e-3
        assert ((gradient * (point - 0.5))[~inside] >= -1e-6).all()


@pytest.mark.parametrize("q", [1, 2])
def test_fixed_features_stay_and_the_rest_is_optimal(q):
    acquisition = joint(make_model(d=3, n=16), 2.0)
    candidates, value = optimum(ours, acquisition, box(3), q, fixed_features={-1: 0.25})
    _, other = optimum(theirs, acquisition, box(3), q, fixed_features={2: 0.25})
    assert (candidates[:, 2] == 0.25).all()
    assert value >= other - 1e-3


def test_every_start_may_have_a_fixed_feature_of_its_own():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    own = torch.tensor([0.2, 0.5, 0.9], dtype=torch.double)
    start = points(3, 2)[:, None]
    start[:, 0, 0] = own
    found, _ = gen_candidates_natural(start, acquisition, 0.0, 1.0, fixed_features={0: own})
    assert torch.equal(found[:, 0, 0], own)
    scipy, _ = gen_candidates_scipy(start, acquisition, 0.0, 1.0, fixed_features={0: own})
    with torch.no_grad():
        assert (acquisition(found) >= acquisition(scipy) - 1e-6).all()


def test_all_features_may_be_fixed():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    candidate, value = ours(acquisition, box(2), 1, 2, 8, fixed_features={0: 0.5, 1: 0.25})
    assert candidate.tolist() == [[0.5, 0.25]]
    assert value.item() == acquisition(candidate).item()


def test_what_is_done_afterwards_is_done_before_the_best_is_chosen():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    candidate, value = optimum(
        ours, acquisition, box(2), post_processing_func=lambda x: (4 * x).round() / 4
    )
    assert torch.equal((4 * candidate).round(), 4 * candidate)
    assert value.item() == pytest.approx(acquisition(candidate).item())


def test_it_stops_when_told():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    start = points(3, 2)[:, None]
    kept, _ = ours(
        acquisition,
        box(2),
        1,
        3,
        options={"maxiter": 0},
        batch_initial_conditions=start,
        return_best_only=False,
    )
    assert torch.allclose(kept, start)
    late, _ = ours(
        acquisition,
        box(2),
        1,
        3,
        timeout_sec=0.0,
        batch_initial_conditions=start,
        return_best_only=False,
    )
    assert torch.allclose(late, start)


def test_values_are_left_out_where_they_are_not_wanted():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    assert optimum(ours, acquisition, box(2), return_acq_values=False)[1] is None


def test_single_precision_stays_single():
    model = make_model().float()
    candidate, value = optimum(ours, UpperConfidenceBound(model, 4.0), box(2).float())
    assert candidate.dtype == value.dtype == torch.float32
    assert ((candidate >= 0) & (candidate <= 1)).all()


@AT_ONE_POINT
def test_two_objectives_of_a_list_of_models():
    x = points(12, 2)
    y = torch.cat([wavy(x), -wavy(x.flip(-1)) + x[:, :1]], -1)
    model = ModelListGP(*(fit_model(x, y[:, k, None], box(2)) for k in range(2)))
    low = y.min(0).values
    acquisition = qLogExpectedHypervolumeImprovement(
        model, low, FastNondominatedPartitioning(low, y), SobolQMCNormalSampler(torch.Size([32]), 0)
    )
    ways = {"num_restarts": 4, "raw_samples": 32}
    _, value = optimum(ours, acquisition, box(2), 2, **ways)
    assert value >= optimum(theirs, acquisition, box(2), 2, **ways)[1] - 1e-3


def test_a_one_shot_acquisition_keeps_the_roles_of_its_points():
    drawn = SobolQMCNormalSampler(torch.Size([4]), seed=0)  # its own would be random
    acquisition = qKnowledgeGradient(make_model(), num_fantasies=4, sampler=drawn)
    candidates, value = optimum(ours, acquisition, box(2), 1, num_restarts=4, raw_samples=16)
    assert candidates.shape == (1, 2)
    assert (
        value >= optimum(theirs, acquisition, box(2), 1, num_restarts=4, raw_samples=16)[1] - 0.01
    )
    full, _ = optimum(
        ours, acquisition, box(2), 1, num_restarts=2, raw_samples=8, return_full_tree=True
    )
    assert full.shape == (5, 2)


def test_it_optimizes_wrapped_acquisitions_and_other_models():
    inner = LogExpectedImprovement(make_model(), 2.0)
    wrapped = ProximalAcquisitionFunction(inner, torch.ones(2), beta=1.0)
    assert model_of(wrapped) is inner.model
    flat = UpperConfidenceBound(Waves(), 1.0)
    candidate, _ = optimum(ours, flat, box(2))
    assert 3 * candidate.sum() + 3 / 18 == pytest.approx(np.pi / 2, abs=0.2)


def test_the_metric_of_several_outputs_is_the_sum_of_each():
    x, reference = points(12, 2), points(8, 2, seed=5)
    models = [fit_model(x, y, box(2)) for y in (wavy(x), -wavy(x.flip(-1)))]
    both = expected_metric_diagonal(ModelListGP(*models), reference, [0, 1])
    alone = [expected_metric_diagonal(model, reference, [0, 1]) for model in models]
    assert torch.allclose(both, sum(alone))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # in MultiTaskGP
def test_a_task_that_is_fixed_never_takes_another_value():
    x = torch.cat([points(12, 2), torch.arange(12)[:, None] % 2], -1).double()
    model = MultiTaskGP(x, wavy(x[:, :2]), task_feature=-1, output_tasks=[0]).eval()
    metric = expected_metric_diagonal(model, points(4, 2), [0, 1])
    assert (metric > 0).all()


def test_the_metric_follows_the_units_of_a_coordinate():
    x = points(16, 2)
    unit = torch.tensor([1.0, 50.0], dtype=torch.double)
    a = fit_model(x, wavy(x), box(2))
    b = fit_model(x * unit, wavy(x), box(2) * unit)
    reference = points(32, 2, seed=5)
    metric = expected_metric_diagonal(b, reference * unit, [0, 1])
    assert torch.allclose(metric * unit**2, expected_metric_diagonal(a, reference, [0, 1]))


@pytest.mark.parametrize("name", ["inequality_constraints", "equality_constraints"])
def test_linear_constraints_are_refused_by_name(name):
    constraint = [(torch.tensor([0, 1]), torch.ones(2), 0.5)]
    with pytest.raises(InvalidInputError, match=f"{name} must be None.*botorch.optim"):
        ours(UpperConfidenceBound(make_model(), 4.0), box(2), 1, 2, 8, **{name: constraint})


def test_nonlinear_constraints_are_refused_by_name():
    with pytest.raises(InvalidInputError, match="nonlinear_inequality_constraints must be None"):
        ours(
            UpperConfidenceBound(make_model(), 4.0),
            box(2),
            1,
            2,
            8,
            nonlinear_inequality_constraints=[(lambda x: x.sum(), True)],
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"method": "SLSQP"}}, "got ['method']"),
        ({"options": {"maxiter": -1}}, "maxiter'] must be a whole number"),
        ({"gen_candidates": gen_candidates_torch}, "gen_candidates must be None"),
    ],
)
def test_options_of_other_optimizers_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        ours(UpperConfidenceBound(make_model(), 4.0), box(2), 1, 2, 8, **options)


class Steps(AcquisitionFunction):
    def forward(self, X):
        return (8 * X.detach()).floor().sum((-1, -2))


def test_acquisitions_that_it_cannot_climb_are_refused():
    with pytest.raises(InvalidInputError, match="must be differentiable, got a Steps"):
        ours(Steps(make_model()), box(2), 1, 2, 8)
    fixed = FixedFeatureAcquisitionFunction(
        UpperConfidenceBound(make_model(), 4.0), d=2, columns=[1], values=[0.5]
    )
    with pytest.raises(InvalidInputError, match="with fixed_features"):
        ours(fixed, box(1), 1, 2, 8)
    with pytest.raises(InvalidInputError, match="must have a BoTorch model"):
        gen_candidates_natural(points(2, 2)[:, None], torch.nn.Identity(), 0.0, 1.0)


def test_the_generator_serves_mixed_spaces_by_enumeration():
    acquisition = UpperConfidenceBound(make_model(), 4.0)
    levels = [{0: 0.0}, {0: 0.5}, {0: 1.0}]
    ways = {"q": 1, "num_restarts": 4, "raw_samples": 32, "fixed_features_list": levels}
    candidate, value = optimize_acqf_mixed(
        acquisition, box(2), gen_candidates=gen_candidates_natural, **ways
    )
    _, other = optimize_acqf_mixed(acquisition, box(2), **ways)
    assert candidate[0, 0] in (0.0, 0.5, 1.0)
    assert value.item() == pytest.approx(other.item(), abs=1e-6)


def test_a_fitted_model_is_botorchs_posterior_of_the_users_units():
    x = 50 * points(30, 2) - 10
    bounds = torch.tensor([[-10.0, -10.0], [40.0, 40.0]], dtype=torch.double)
    model = fit_model(x, 1000 + 7 * wavy(x, 50.0), bounds)
    new = 50 * points(50, 2, seed=9) - 10
    posterior = model.posterior(new)
    error = posterior.mean - (1000 + 7 * wavy(new, 50.0))
    assert error.abs().max() < 2
    assert (error / posterior.variance.sqrt()).square().mean() < 4


@pytest.mark.parametrize(
    ("x", "y", "bounds"),
    [
        (points(5, 2), wavy(points(5, 2))[:, 0], box(2)),
        (points(5, 2), wavy(points(5, 2)), box(3)),
        (points(5, 2), wavy(points(5, 2)) * torch.nan, box(2)),
        (points(5, 2), wavy(points(5, 2)), box(2).flip(0)),
    ],
)
def test_models_of_malformed_data_are_refused(x, y, bounds):
    with pytest.raises(InvalidInputError):
        fit_model(x, y, bounds)
