"""A rotated kernel is the plain one in other coordinates; rotations are found, and only if true."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import ortho_group

from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.botorch.convert import from_botorch, to_botorch
from fisherbo.gp.fisher import (
    damped_metric,
    expected_metric,
    joint_metric,
    posterior_metric,
    score_metric,
)
from fisherbo.gp.fit import mode, with_prior
from fisherbo.gp.hyper import Hyper, Prior, prior_mode
from fisherbo.gp.kernel import Embedding, distance
from fisherbo.gp.likelihood import MarginalLikelihood
from fisherbo.gp.posterior import condition, extend, with_fantasies
from fisherbo.gp.replicates import merged
from fisherbo.gp.rotation import (
    Sample,
    expected_information,
    fit_again,
    fit_turned,
    from_reflectors,
    kernel_axes,
    orthogonal,
    reflectors,
    rotatable,
    rotated,
    turn,
)
from fisherbo.gp.subset import region_known
from fisherbo.gp.warp import warp
from fisherbo.optimize.descent import LocalModel, natural_ascent
from fisherbo.space import Condition, Space
from tests.gp.oracles import MIXED, NUMERIC, dense_covariance, draw

seeds = st.integers(0, 60)


def rotation_of(choices, seed):
    """A random R that leaves categories alone."""
    numeric = (choices == 0).nonzero()[0]
    r = np.eye(len(choices))
    r[np.ix_(numeric, numeric)] = ortho_group.rvs(len(numeric), random_state=seed)
    return r


def twins(seed, choices=NUMERIC, n=12):
    """A rotated posterior, the plain one in its coordinates, and R."""
    x, y, hyper = draw(seed, n, choices)
    r = rotation_of(choices, seed)
    turned = replace(hyper, rotation=r)
    return condition(x, y, choices, turned), condition(x @ r.T, y, choices, hyper), r


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=seeds)
def test_predictions_equal_dense_algebra_in_the_rotated_coordinates(choices, seed):
    posterior, _, r = twins(seed, choices)
    x, y, hyper = posterior.x, posterior.y, posterior.hyper
    points, _, _ = draw(seed + 100, 5, choices)
    gram = dense_covariance(x @ r.T, x @ r.T, choices, hyper) + hyper.noise * np.eye(len(x))
    cross = dense_covariance(points @ r.T, x @ r.T, choices, hyper)
    mean, sd = posterior.predict(points)
    assert mean == pytest.approx(cross @ np.linalg.solve(gram, y), abs=1e-7)
    explained = np.einsum("bn,nb->b", cross, np.linalg.solve(gram, cross.T))
    assert sd**2 == pytest.approx(hyper.signal - explained, abs=1e-7)


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
@given(seed=seeds)
def test_gradients_equal_finite_differences(choices, seed):
    posterior, _, _ = twins(seed, choices)
    point = draw(seed + 100, 1, choices)[0]
    p = posterior.predict_with_gradient(point)
    numeric = choices == 0

    def along(v, which):
        moved = point.copy()
        moved[0, numeric] = v
        return posterior.predict(moved)[which][0]

    for which, gradient in ((0, p.mean_gradient), (1, p.sd_gradient)):
        expected = approx_fprime(point[0, numeric], along, 1e-6, which)
        assert gradient[0, numeric] == pytest.approx(expected, abs=1e-4)
        assert np.abs(gradient[0, ~numeric]).max(initial=0) == 0


@given(seed=seeds)
def test_all_that_the_model_says_turns_with_the_coordinates(seed):
    """x ↦ R x: values stay, gradients g are Rᵀ g, covariances and metrics C are Rᵀ C R."""
    model, plain, r = twins(seed)
    points = np.random.default_rng(seed).random((4, 3))
    theirs = plain.predict_with_gradient(points @ r.T)
    ours = model.predict_with_gradient(points)
    assert ours.mean_gradient == pytest.approx(theirs.mean_gradient @ r, abs=1e-7)
    assert ours.sd_gradient == pytest.approx(theirs.sd_gradient @ r, abs=1e-7)
    back = r.T @ plain.gradient_covariance(points @ r.T) @ r
    assert model.gradient_covariance(points) == pytest.approx(back, abs=1e-6)
    prior = r.T @ np.diag(plain.gradient_variance) @ r
    assert model.gradient_axes @ model.gradient_axes.T == pytest.approx(prior)
    assert model.gradient_variance == pytest.approx(prior.diagonal())
    for metric in (expected_metric, lambda m, x: damped_metric(m, x, 0.3)):
        expected = r.T @ metric(plain, points @ r.T) @ r
        assert metric(model, points) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    lengthscale, axes = kernel_axes(model)
    assert lengthscale == pytest.approx(model.hyper.lengthscale)
    assert axes == pytest.approx(r)
    assert kernel_axes(plain)[1] is None


@given(seed=seeds)
def test_extensions_and_fantasies_are_conditioning_anew(seed):
    model, _, _ = twins(seed)
    new, y, _ = draw(seed + 9, 3)
    longer = extend(model, new, y, np.full(3, model.noise))
    x, values = np.concatenate([model.x, new]), np.append(model.y, y)
    anew = condition(x, values, NUMERIC, model.hyper)
    points, _, _ = draw(seed + 10, 4)
    for ours, theirs in zip(longer.predict(points), anew.predict(points), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-7)
    assert with_fantasies(model, new).predict(new)[1] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("rule", [score_metric, posterior_metric])
@given(seed=seeds)
def test_ascents_turn_with_the_coordinates_inside_the_box(rule, seed):
    model, plain, r = twins(seed)
    start = np.full((1, 3), 0.5)
    ours = ExpectedImprovement(model, 0.5, metric=rule)
    theirs = ExpectedImprovement(plain, 0.5, metric=rule)
    free = np.ones(3, dtype=bool)

    def centred(x):  # the box about 0.5, turned: inside it for a step this short
        e = theirs.evaluate((x - 0.5) + start @ r.T)
        return LocalModel(e.value, e.gradient, e.diagonal, e.factors, e.matrix)

    one = natural_ascent(ours.evaluate, start, free, max_steps=1, damping=1e4, tolerance=-1)
    two = natural_ascent(centred, start, free, max_steps=1, damping=1e4, tolerance=-1)
    assert one.x - 0.5 == pytest.approx((two.x - 0.5) @ r, abs=1e-9)
    assert one.value == pytest.approx(two.value, abs=1e-7)


@pytest.mark.parametrize(("factors", "whole"), [(False, True), (True, True), (True, False)])
def test_a_step_at_a_bound_is_the_natural_gradient_among_the_free_coordinates(factors, whole):
    rng = np.random.default_rng(0)
    root, u = rng.standard_normal((2, 4, 4))
    matrix, u = root @ root.T + np.eye(4), 0.1 * u[None, :, :2]
    gradient, lam = np.array([[1.0, -2.0, 0.5, 3.0]]), 500.0
    start = np.array([[0.5, 0.0, 0.5, 0.5]])  # the second is at its bound and wants out

    def linear(x):
        value = (x - start) @ gradient[0]
        diagonal = matrix.diagonal()
        return LocalModel(value, gradient, diagonal, u if factors else None, matrix)

    found = natural_ascent(
        linear,
        start,
        np.array([True, True, True, False]),
        damping=lam,
        max_steps=1,
        tolerance=-1,
        whole=whole,
    )
    free, g = [0, 2], gradient[0, [0, 2]]
    d = matrix[np.ix_(free, free)]
    outer = (u @ u.mT)[0][np.ix_(free, free)] if factors else np.outer(g, g)
    metric = lam * (outer + d) if factors and whole else outer + lam * d
    expected = np.zeros(4)
    expected[free] = np.linalg.solve(metric, g)
    assert (found.x - start)[0] == pytest.approx(expected, abs=1e-10)


def test_metrics_of_rotated_and_plain_models_add():
    model, plain, _ = twins(3)
    point = np.full((1, 3), 0.4)
    parts = [posterior_metric(m, point, m.predict_with_gradient(point)) for m in (model, plain)]
    diagonal, factors, matrix = joint_metric(parts)
    assert matrix == pytest.approx(parts[0][2] + np.diag(parts[1][0]))
    assert diagonal == pytest.approx(matrix.diagonal())
    whole = (factors @ factors.mT)[0] + matrix
    separate = [damped_metric(m, point, 300)[0] / 300 for m in (model, plain)]
    assert whole == pytest.approx(sum(separate))


def test_fits_in_rotated_coordinates_are_fits_of_rotated_points():
    x, y, _ = draw(1, 30)
    r = rotation_of(NUMERIC, 1)
    ours, loss = mode(x, y, NUMERIC, rotation=r)
    theirs, same = mode(x @ r.T, y, NUMERIC)
    assert loss == same
    assert np.array_equal(ours.to_vector(), theirs.to_vector())
    assert ours.rotation is r
    theta = ours.to_vector()
    prior, likelihood = Prior.for_dimension(3), MarginalLikelihood(merged(x @ r.T, y), NUMERIC)
    assert loss == pytest.approx(with_prior(likelihood(theta), prior, theta).value, abs=0.02)


@given(seed=seeds, k=st.integers(2, 20))
def test_reflectors_hold_a_rotation_but_for_its_signs(seed, k):
    index = np.sort(np.random.default_rng(seed).permutation(k + 3)[:k])
    r = np.eye(k + 3)
    r[np.ix_(index, index)] = ortho_group.rvs(k, random_state=seed)
    numbers = reflectors(r, index)
    assert len(numbers) == k * (k - 1) // 2
    found = from_reflectors(numbers.astype("<f4").astype(float), index, k + 3)
    assert found @ found.T == pytest.approx(np.eye(k + 3), abs=1e-12)
    assert np.abs(found @ r.T) == pytest.approx(np.eye(k + 3), abs=1e-5)
    assert rotated(found).tolist() == index.tolist()
    assert rotated(None).tolist() == []


def test_permutations_and_identities_are_rotations_too():
    for r in (np.eye(4), np.eye(4)[[2, 0, 1, 3]], np.diag([1.0, -1, 1, -1])):
        found = from_reflectors(reflectors(r, np.arange(4)), np.arange(4), 4)
        assert np.abs(found) == pytest.approx(np.abs(r))


@given(seed=seeds)
def test_any_coordinates_with_lengthscales_are_a_rotation_with_others(seed):
    x, _, hyper = draw(seed, 8)
    basis = np.random.default_rng(seed).standard_normal((3, 3)) + 2 * np.eye(3)
    found = orthogonal(hyper, basis, np.arange(3))
    assert found.rotation @ found.rotation.T == pytest.approx(np.eye(3))
    embedded = Embedding.of(found.lengthscale, NUMERIC, found.rotation)(x)
    theirs = Embedding.of(hyper.lengthscale, NUMERIC)(x @ basis.T)
    assert distance(embedded, embedded) == pytest.approx(distance(theirs, theirs), abs=1e-6)


def test_only_continuous_coordinates_that_always_exist_may_be_rotated():
    d = 6
    step = np.array([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    categorical, log = np.arange(d) == 3, np.arange(d) == 4
    known = Condition(5, 3, np.array([0.0, 1.0]), np.array([True, False]))
    low = np.where(log, 1.0, 0.0)
    space = Space(low, np.full(d, 3.0), step, log, categorical, (known,))
    assert rotatable(space).tolist() == [0, 2, 4]
    alone = Space(low[:2], np.full(2, 3.0), step[:2], log[:2], categorical[:2])
    assert rotatable(alone).tolist() == []


def test_many_coordinates_are_not_rotated():
    def space(d, continuous):
        step = np.where(np.arange(d) < continuous, 0.0, 1.0)
        return Space(np.zeros(d), np.full(d, 3.0), step, step > 9, step > 9)

    assert len(rotatable(space(20, 20))) == 20
    assert len(rotatable(space(21, 21))) == 0
    assert len(rotatable(space(140, 20))) == 20
    assert len(rotatable(space(150, 20))) == 0  # too many numbers to be kept with a trial


def ridge(d, seed, condition_number=1e3):
    """Points, those of the axis-aligned twin, warped values of a quadratic, and its axes."""
    rng = np.random.default_rng(seed)
    r = ortho_group.rvs(d, random_state=seed)
    curvature = condition_number ** np.linspace(0, 1, d)
    z = rng.uniform(-0.5, 0.5, (60 + 20 * d, d))
    return 0.5 + z @ r, 0.5 + z, warp(-(curvature * z**2).sum(1)), r


def sample_of(x, y):
    d = x.shape[1]
    return Sample(x, y, np.zeros(d, dtype=np.int64), None, np.arange(d))


def fitted(sample, *, rotation):
    hyper, loss = mode(sample.x, sample.y, sample.choices)
    return fit_turned(sample, hyper, loss, 0.1) if rotation else hyper


def error(x, y, hyper, train):
    model = condition(x[:train], y[:train], np.zeros(x.shape[1], dtype=np.int64), hyper)
    return float(np.sqrt(np.mean((model.mean(x[train:]) - y[train:]) ** 2)))


@pytest.mark.parametrize(("d", "factor"), [(2, 2.0), (5, 1.4)])
@pytest.mark.parametrize("seed", range(3))
def test_a_rotated_problem_is_modelled_as_well_as_its_axis_aligned_twin(d, factor, seed):
    turned, aligned, y, r = ridge(d, seed)
    train = 20 + 20 * d
    sample = sample_of(turned[:train], y[:train])
    plain, found = fitted(sample, rotation=False), fitted(sample, rotation=True)
    assert found.rotation is not None
    twin = fitted(sample_of(aligned[:train], y[:train]), rotation=False)
    before, after = (error(turned, y, hyper, train) for hyper in (plain, found))
    assert after < 1.15 * error(aligned, y, twin, train)
    assert before > factor * after
    steepest = found.rotation[np.argmin(found.lengthscale)]
    assert abs(steepest @ r[-1]) > 0.99


@pytest.mark.parametrize("d", [2, 5, 10])
@pytest.mark.parametrize("seed", range(3))
def test_no_rotation_is_kept_where_the_axes_are_right_or_nothing_is_there(d, seed):
    _, aligned, y, _ = ridge(d, seed)
    rng = np.random.default_rng(seed)
    x = rng.random(aligned.shape)
    sphere = -((x - 0.4) ** 2).sum(1)
    sphere = (sphere - sphere.mean()) / sphere.std()
    for points, values in ((aligned, y), (x, sphere), (x, rng.standard_normal(len(x)))):
        assert fitted(sample_of(points[:100], values[:100]), rotation=True).rotation is None


def test_a_rotation_is_given_up_when_the_axes_turn_out_to_be_right():
    _, aligned, y, _ = ridge(3, 0)
    sample = sample_of(aligned, y)
    wrong = replace(prior_mode(3), rotation=ortho_group.rvs(3, random_state=0))
    assert fit_again(sample, wrong, 0.1, further=False, compare=True).rotation is None
    kept = fit_again(sample, wrong, 0.1, further=False, compare=False)
    assert kept.rotation is wrong.rotation


def test_rounds_go_on_from_the_last_rotation():
    turned, _, y, _ = ridge(5, 1, 1e6)
    sample = sample_of(turned[:90], y[:90])
    hyper, loss = mode(sample.x, sample.y, sample.choices)
    first = turn(sample, hyper, 0.1)
    again = fit_again(sample, first[0], 0.1, further=True, compare=False)
    assert first[1] < loss
    assert not np.array_equal(again.rotation, first[0].rotation)
    _, later = mode(
        sample.x, sample.y, sample.choices, [again], rotation=again.rotation, max_steps=0
    )
    assert later < first[1]


def test_the_information_is_the_mean_metric_of_the_better_half():
    x, y, hyper = draw(4, 20)
    sample = Sample(x, y, NUMERIC, None, np.array([0, 2]))
    posterior = condition(x, y, NUMERIC, hyper)
    better = x[np.argsort(-y)[:10]]
    expected = (expected_metric(posterior, better) * hyper.noise).mean(0)
    assert expected_information(sample, hyper) == pytest.approx(expected[np.ix_([0, 2], [0, 2])])


def test_the_known_region_is_a_ball_in_the_rotated_coordinates():
    rng = np.random.default_rng(0)
    x, y, lengthscale = rng.random((120, 3)), rng.standard_normal(120), np.array([0.1, 0.5, 2.0])
    r = rotation_of(NUMERIC, 0)
    region = region_known(x, y, lengthscale, 60, r)
    plain = region_known(x @ r.T, y, lengthscale, 60)
    points = rng.random((200, 3))
    assert region.radius == plain.radius
    assert 0 < region.holds(points).sum() < 200
    assert region.holds(points).tolist() == plain.holds(points @ r.T).tolist()


@pytest.mark.parametrize("choices", [NUMERIC, MIXED])
def test_botorch_models_are_rotated_and_back(choices):
    posterior, _, _ = twins(5, choices)
    points, _, _ = draw(105, 6, choices)
    model = to_botorch(posterior)
    x = torch.tensor(points)[:, None].requires_grad_()
    theirs = model.posterior(x)
    mean, sd = posterior.predict(points)
    assert theirs.mean.detach().numpy().ravel() == pytest.approx(mean, abs=1e-8)
    assert theirs.variance.detach().numpy().ravel() == pytest.approx(sd**2, abs=1e-8)
    (slope,) = torch.autograd.grad(theirs.mean.sum(), x)
    expected = posterior.predict_with_gradient(points).mean_gradient
    numeric = choices == 0
    assert slope[:, 0].numpy()[:, numeric] == pytest.approx(expected[:, numeric], abs=1e-6)
    back = from_botorch(model)
    assert np.array_equal(back.hyper.rotation, posterior.hyper.rotation)
    assert back.predict(points)[0] == pytest.approx(mean, abs=1e-8)


def test_hyperparameters_are_those_of_a_vector_and_a_rotation():
    r = rotation_of(NUMERIC, 2)
    hyper = Hyper(np.ones(3), 2.0, 0.1, r)
    assert Hyper.from_vector(hyper.to_vector(), r).rotation is r
