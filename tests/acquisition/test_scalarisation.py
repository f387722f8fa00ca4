"""The improvement of a scalarisation against quadrature, Monte Carlo and finite differences."""

import mpmath
import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume
from scipy.optimize import approx_fprime

from fisherbo.acquisition.log_ehvi import non_dominated
from fisherbo.acquisition.log_ei import log_expected_improvement
from fisherbo.acquisition.scalarisation import (
    improvement_along,
    log_scalarised_improvement,
    random_direction,
)
from fisherbo.gp.fisher import pull_back_metric
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition

DIRECTION = np.array([0.4, 0.9, 0.7])


def exact(mean, sd, direction, best):
    """log of the integral by mpmath, split where the integrand falls."""
    with mpmath.workdps(20):
        falls = sorted(float((m - 0.0) / d) for m, d in zip(mean, direction, strict=True))
        widest = float((sd / direction).max())
        ends = [
            best,
            *(f + k * widest for f in falls for k in (-8, 0, 8)),
            max(falls) + 40 * widest,
        ]
        near = (best + widest * np.logspace(-5, 0, 11)).tolist()
        ends = sorted({e for e in (*ends, *near) if e >= best})

        def survival(t):
            return mpmath.fprod(
                mpmath.erfc((d * t - mpmath.mpf(float(m))) / float(s) / mpmath.sqrt(2)) / 2
                for m, s, d in zip(mean, sd, direction, strict=True)
            )

        return float(mpmath.log(mpmath.quad(survival, ends)))


@pytest.mark.parametrize("shift", [4.0, 1.0, 0.0, -1.0, -4.0, -12.0])
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_it_equals_numerical_integration(shift, spread):
    rng = np.random.default_rng(7)
    mean = shift + rng.standard_normal((2, 3))
    sd = 0.3 * spread ** rng.uniform(-1, 1, (2, 3))
    value, _, _ = log_scalarised_improvement(mean, sd, DIRECTION, 0.3)
    expected = [exact(m, s, DIRECTION, 0.3) for m, s in zip(mean, sd, strict=True)]
    assert value == pytest.approx(expected, abs=2e-3)


def test_it_equals_monte_carlo():
    rng = np.random.default_rng(0)
    mean, sd = rng.standard_normal((5, 3)), rng.uniform(0.2, 1, (5, 3))
    draws = mean + sd * rng.standard_normal((20_000, 5, 3))
    gain = np.maximum((draws / DIRECTION).min(2) + 0.5, 0)
    error = gain.std(0) / np.sqrt(len(gain))
    value, _, _ = log_scalarised_improvement(mean, sd, DIRECTION, -0.5)
    assert (np.abs(np.exp(value) - gain.mean(0)) < 4 * error + 1e-6).all()


def test_with_one_objective_it_is_expected_improvement():
    mean = np.linspace(-3, 3, 13)[:, None]
    sd = np.full_like(mean, 0.4)
    ours = log_scalarised_improvement(mean, sd, np.ones(1), 0.2)
    theirs = log_expected_improvement(mean[:, 0], sd[:, 0], 0.2)
    for a, b in zip(ours, theirs, strict=True):
        assert a.reshape(-1) == pytest.approx(b, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("shift", [3.0, 0.5, -1.0, -6.0, -40.0])
def test_derivatives_equal_finite_differences(shift):
    moments = np.append(shift + np.array([0.1, 0.4, -0.2]), [0.3, 0.5, 0.4])

    def value(p):
        return log_scalarised_improvement(p[None, :3], p[None, 3:], DIRECTION, 0.3)[0][0]

    _, by_mean, by_sd = log_scalarised_improvement(
        moments[None, :3], moments[None, 3:], DIRECTION, 0.3
    )
    step = 1e-6
    numeric = [
        (value(moments + step * e) - value(moments - step * e)) / (2 * step) for e in np.eye(6)
    ]
    scale = max(map(abs, numeric))
    assert [*by_mean[0], *by_sd[0]] == pytest.approx(numeric, rel=2e-3, abs=2e-3 * scale)


def test_it_is_finite_and_rises_however_far_and_however_certain():
    mean = -np.logspace(0, 6, 13)[:, None] * np.ones(3)
    value, by_mean, by_sd = log_scalarised_improvement(mean, np.full((13, 3), 0.1), DIRECTION, 0.0)
    assert all(np.isfinite(part).all() for part in (value, by_mean, by_sd))
    assert (np.diff(value) < 0).all() and (by_mean.max(1) > 0).all()
    known = np.array([[2.0, 9.0, 9.0]])
    value, by_mean, _ = log_scalarised_improvement(known, np.full((1, 3), 1e-7), DIRECTION, 1.0)
    assert value[0] == pytest.approx(np.log(2.0 / 0.4 - 1.0), abs=1e-6)
    assert by_mean[0] == pytest.approx([1 / 0.4 / (2.0 / 0.4 - 1.0), 0, 0], rel=0.01)


def test_the_gradient_in_the_coordinates_equals_finite_differences():
    rng = np.random.default_rng(0)
    x, none = rng.random((9, 3)), np.zeros(3, dtype=np.int64)
    hyper = Hyper(np.array([0.4, 0.7, 1.0]), 1.0, 1e-3)
    surrogates = tuple(condition(x, rng.standard_normal(9), none, hyper) for _ in range(3))
    values = np.stack([s.mean(x) for s in surrogates], 1)
    improvement = improvement_along(surrogates, values, values.min(0) - 0.1, DIRECTION)
    assert improvement.best == pytest.approx(
        max(min((v - values.min(0) + 0.1) / DIRECTION) for v in values)
    )
    for point in rng.random((4, 3)):
        here = improvement.evaluate(point[None])
        assert here.value == pytest.approx(improvement.value(point[None]))
        numeric = approx_fprime(point, lambda p: improvement.value(p[None])[0], 1e-6)
        assert here.gradient[0] == pytest.approx(numeric, rel=1e-2, abs=1e-2)
        metric = sum(pull_back_metric(s, point[None])[0] for s in surrogates)
        assert 300 * here.factors[0] @ here.factors[0].T == pytest.approx(metric)


@pytest.mark.parametrize(("m", "constant"), [(2, np.pi / 4), (3, np.pi / 6)])
def test_over_directions_its_power_averages_to_the_hypervolume(m, constant):
    """Zhang & Golovin 2020, lemma 5: HV = c E[max g(f)^m], c the ball's volume in an orthant."""
    rng = np.random.default_rng(m)
    front = rng.random((12, m))
    front = front[non_dominated(front)]
    drawn = np.stack([random_direction(np.ones(m), rng) for _ in range(20_000)])
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(1.0, abs=1e-3)
    reached = (front[None] / drawn[:, None]).min(2).max(1) ** m
    error = constant * reached.std() / np.sqrt(len(reached))
    volume = Hypervolume(torch.zeros(m, dtype=torch.float64)).compute(torch.tensor(front))
    assert abs(constant * reached.mean() - volume) < 4 * error


def test_directions_are_in_units_of_the_reach_and_ignore_no_objective():
    rng = np.random.default_rng(0)
    reach = np.array([1e-6, 1.0, 1e6])
    drawn = np.stack([random_direction(reach, rng) for _ in range(500)]) / reach
    assert drawn.min() >= 0.01 and drawn.max() <= 1.0
    assert drawn.mean(0) == pytest.approx(np.full(3, 0.5), abs=0.05)
