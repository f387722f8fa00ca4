"""Expected hypervolume improvement against BoTorch, Monte Carlo and finite differences."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.models import ModelListGP, SingleTaskGP
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from botorch.utils.multi_objective.hypervolume import Hypervolume, infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from scipy.optimize import approx_fprime

from fisherbo.acquisition.log_ehvi import (
    HypervolumeImprovement,
    hypervolume_improvement_gradient,
    improvement_over,
    log_hypervolume_improvement,
    non_dominated,
    reference_point,
    spread_out,
)
from fisherbo.botorch.hypervolume import decompose
from fisherbo.gp.fisher import posterior_metric, pull_back_metric
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition


def front_of(m, n=12, seed=0):
    values = np.random.default_rng(seed).standard_normal((n, m))
    return values[non_dominated(values)]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_it_equals_botorchs_closed_form(m):
    rng = np.random.default_rng(m)
    x, y = rng.random((8, 2)), rng.standard_normal((8, m))
    models = [SingleTaskGP(tensor(x), tensor(y[:, j : j + 1])).eval() for j in range(m)]
    reference = np.full(m, -1.5)
    partition = FastNondominatedPartitioning(tensor(reference), tensor(y))
    theirs = ExpectedHypervolumeImprovement(ModelListGP(*models), reference.tolist(), partition)
    points = tensor(rng.random((6, 1, 2)))
    with torch.no_grad():
        posterior = ModelListGP(*models).posterior(points)
        expected = theirs(points).numpy()  # rounded to about 1e-16
        mean, sd = posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()
    cells = decompose(y[non_dominated(y)], reference)
    ours = np.exp(log_hypervolume_improvement(mean, sd, cells))
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("m", [2, 3])
def test_it_equals_monte_carlo(m):
    front = front_of(m)
    reference = reference_point(front)
    cells, volume = decompose(front, reference), Hypervolume(tensor(reference))
    mean, sd = np.full((1, m), 0.4), np.full((1, m), 0.6)
    draws = mean + sd * np.random.default_rng(1).standard_normal((4000, m))
    before = volume.compute(tensor(front))
    gains = []
    for draw in draws:
        together = np.vstack([front, draw])
        gains.append(volume.compute(tensor(together[non_dominated(together)])) - before)
    error = np.std(gains) / np.sqrt(len(gains))
    ours = np.exp(log_hypervolume_improvement(mean, sd, cells)[0])
    assert abs(ours - np.mean(gains)) < 4 * error


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("shift", [0.5, -1.0, -6.0])
def test_derivatives_equal_finite_differences(m, shift):
    front = front_of(m)
    cells = decompose(front, reference_point(front))
    moments = np.append(np.full(m, shift), np.linspace(0.3, 0.6, m))

    def value(p):
        return log_hypervolume_improvement(p[None, :m], p[None, m:], cells)[0]

    _, by_mean, by_sd = hypervolume_improvement_gradient(
        moments[None, :m], moments[None, m:], cells
    )
    numeric = approx_fprime(moments, value, 1e-7)
    assert np.append(by_mean[0], by_sd[0]) == pytest.approx(numeric, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("sd", [0.3, 0.01, 1e-4, 1e-6])
@pytest.mark.parametrize("mean", [(0.6, 0.75), (0.41, 0.701), (1.5, 1.5), (0.39, 0.69)])
def test_derivatives_are_right_however_certain_the_posterior_is(mean, sd):
    """Against mpmath, z up to 1e6 on either side of the front."""
    front = np.array([[0.0, 1.0], [0.4, 0.7], [0.7, 0.4], [1.0, 0.0]])
    cells = decompose(front, reference_point(front))

    def ehvi(*moments):
        m, s = moments[:2], moments[2:]

        def nu(j, edge):
            if edge == np.inf:
                return mpmath.mpf(0)
            z = (m[j] - mpmath.mpf(float(edge))) / s[j]
            return s[j] * (mpmath.npdf(z) + z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2)

        bounds = [
            [cells.edges[j][list(cells.pairs[j][k])] for j, k in enumerate(cell)]
            for cell in cells.cell
        ]
        return mpmath.log(
            sum(
                mpmath.fprod(nu(j, low) - nu(j, high) for j, (low, high) in enumerate(cell))
                for cell in bounds
            )
        )

    value, by_mean, by_sd = hypervolume_improvement_gradient(
        np.array([mean]), np.array([[sd, sd]]), cells
    )
    with mpmath.workdps(400):
        at = tuple(mpmath.mpf(float(v)) for v in (*mean, sd, sd))
        step = mpmath.mpf(sd) * mpmath.mpf("1e-60")
        exact = []
        for k in range(4):
            there, back = list(at), list(at)
            there[k], back[k] = at[k] + step, at[k] - step
            exact.append(float((ehvi(*there) - ehvi(*back)) / (2 * step)))
        assert value[0] == pytest.approx(float(ehvi(*at)), rel=1e-9, abs=1e-9)
    scale = max(map(abs, exact))
    assert [*by_mean[0], *by_sd[0]] == pytest.approx(exact, rel=1e-6, abs=1e-6 * scale)


def test_the_gradient_in_the_coordinates_equals_finite_differences():
    rng = np.random.default_rng(0)
    x, none = rng.random((9, 3)), np.zeros(3, dtype=np.int64)
    hyper = Hyper(np.array([0.4, 0.7, 1.0]), 1.0, 1e-3)
    surrogates = tuple(condition(x, rng.standard_normal(9), none, hyper) for _ in range(2))
    values = np.stack([s.mean(x) for s in surrogates], 1)
    improvement = improvement_over(surrogates, values, decompose)
    assert isinstance(improvement, HypervolumeImprovement)
    for point in rng.random((4, 3)):
        here = improvement.evaluate(point[None])
        assert here.value == pytest.approx(improvement.value(point[None]))
        numeric = approx_fprime(point, lambda p: improvement.value(p[None])[0], 1e-7)
        assert here.gradient[0] == pytest.approx(numeric, rel=1e-3, abs=1e-3)
        factors = replace(improvement, metric=posterior_metric).evaluate(point[None]).factors[0]
        metric = sum(pull_back_metric(s, point[None])[0] for s in surrogates)
        assert 300 * factors @ factors.T == pytest.approx(metric)


def test_it_is_finite_and_rises_towards_the_front_from_very_far():
    front = front_of(3)
    cells = decompose(front, reference_point(front))
    mean = -np.logspace(0, 6, 13)[:, None] * np.ones(3)
    value, by_mean, by_sd = hypervolume_improvement_gradient(mean, np.full((13, 3), 0.1), cells)
    assert np.isfinite(value).all() and np.isfinite(by_mean).all() and np.isfinite(by_sd).all()
    assert (np.diff(value) < 0).all()
    assert (by_mean.max(1) > 0).all()
    narrow = hypervolume_improvement_gradient(np.full((1, 3), 9.0), np.full((1, 3), 1e-6), cells)
    assert all(np.isfinite(part).all() for part in narrow)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_front_and_reference_point_are_botorchs(m):
    values = np.random.default_rng(3).standard_normal((60, m))
    values[1] = values[0]
    ours = non_dominated(values)
    assert np.array_equal(ours, is_non_dominated(tensor(values), deduplicate=True).numpy())
    front = values[ours]
    assert reference_point(front) == pytest.approx(infer_reference_point(tensor(front)).numpy())
    assert reference_point(front[:1]) == pytest.approx(
        infer_reference_point(tensor(front[:1])).numpy()
    )


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_large_front_is_thinned_and_keeps_its_ends(m):
    angles = np.abs(np.random.default_rng(0).standard_normal((600, m)))
    front = angles / np.linalg.norm(angles, axis=1, keepdims=True)
    few = spread_out(front)
    assert len(few) <= 128
    assert few.max(0) == pytest.approx(front.max(0))
    cells = decompose(few, reference_point(few))
    assert len(cells.cell) < 3000


@pytest.mark.parametrize("m", [2, 3])
def test_cells_up_to_a_ceiling_give_the_improvement_of_what_is_cut_there(m):
    """E[HVI(min(f, c))], by Monte Carlo."""
    front = front_of(m)
    reference, ceiling = reference_point(front), front.max(0)
    cells, volume = decompose(front, reference).up_to(ceiling), Hypervolume(tensor(reference))
    mean, sd = np.full((1, m), 0.4), np.full((1, m), 0.9)
    draws = mean + sd * np.random.default_rng(1).standard_normal((400, m))
    before = volume.compute(tensor(front))
    gains = []
    for draw in np.minimum(draws, ceiling):
        together = np.vstack([front, draw])
        gains.append(volume.compute(tensor(together[non_dominated(together)])) - before)
    error = np.std(gains) / np.sqrt(len(gains))
    ours = np.exp(log_hypervolume_improvement(mean, sd, cells)[0])
    assert abs(ours - np.mean(gains)) < 4 * error
    assert ours < 0.8 * np.exp(
        log_hypervolume_improvement(mean, sd, decompose(front, reference))[0]
    )


def test_a_ceiling_that_leaves_nothing_is_no_ceiling():
    front = np.array([[1.0, 2.0, 3.0]])
    cells = decompose(front, front[0] - 1)
    assert cells.up_to(front[0]) is cells


@pytest.mark.parametrize("bounded", [False, True])
def test_an_improvement_over_means_counts_from_the_worst_value_up_to_the_best_if_bounded(bounded):
    values = np.random.default_rng(0).standard_normal((20, 3))
    made = improvement_over((), values, decompose, bounded=bounded).cells
    front = values[non_dominated(values)]
    whole = decompose(spread_out(front), np.minimum(reference_point(front), values.min(0)))
    low = [edges[pairs[:, 0]].min() for edges, pairs in zip(made.edges, made.pairs, strict=True)]
    if not bounded:
        assert low == pytest.approx(np.minimum(values.min(0), reference_point(front)))
    top = [edges[pairs[:, 1]].max() for edges, pairs in zip(made.edges, made.pairs, strict=True)]
    assert top == pytest.approx(front.max(0)) if bounded else np.isinf(top).all()
    assert len(made.cell) == len(whole.up_to(front.max(0)).cell if bounded else whole.cell)
