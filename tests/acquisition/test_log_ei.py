import mpmath
import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.models import SingleTaskGP
from scipy.optimize import approx_fprime

from fisherbo.acquisition.feasibility import log_probability
from fisherbo.acquisition.log_ei import log_expected_improvement


def exact(mean, sd, best):
    with mpmath.workdps(60):
        z = (mpmath.mpf(mean) - best) / sd
        value = sd * (mpmath.npdf(z) + z * mpmath.ncdf(z))
        return float(mpmath.log(value))


@pytest.mark.parametrize(
    "z", [30.0, 24.9, 8.0, 1.0, 0.0, -1.0, -5.0, -37.0, -150.0, -199.9, -200.1, -1000.0]
)
def test_log_ei_equals_mpmath(z):
    value, _, _ = log_expected_improvement(np.array([z * 0.7]), np.array([0.7]), 0.0)
    assert value[0] == pytest.approx(exact(z * 0.7, 0.7, 0.0), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("mean", [2.0, 0.1, -1.0, -4.0, -20.0])
def test_derivatives_equal_finite_differences(mean):
    _, by_mean, by_sd = log_expected_improvement(np.array([mean]), np.array([0.5]), 0.0)

    def value(p):
        return log_expected_improvement(p[:1], p[1:], 0.0)[0][0]

    assert [by_mean[0], by_sd[0]] == pytest.approx(
        approx_fprime(np.array([mean, 0.5]), value, 1e-7), rel=1e-4, abs=1e-6
    )


def test_log_ei_equals_botorch():
    x = torch.rand(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = SingleTaskGP(x, torch.sin(5 * x.sum(-1, keepdim=True)))
    points = torch.rand(6, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = LogExpectedImprovement(model, best_f=0.8)(points)
        posterior = model.posterior(points)
    ours, _, _ = log_expected_improvement(
        posterior.mean.flatten().numpy(), posterior.variance.sqrt().flatten().numpy(), 0.8
    )
    assert ours == pytest.approx(theirs.numpy(), rel=1e-6)


Z = [*-np.logspace(-4, 4, 33), 0.0, *np.logspace(-4, 4, 33), 24.99, 25.01, 36.9, 37.1, 38.5]


@pytest.mark.parametrize("sd", [1e-6, 1e-3, 0.7, 1e3])
def test_values_and_derivatives_equal_mpmath_over_the_whole_range(sd):
    """Of log EI: log s h(z), Φ/(s h), φ/(s h); of log P[f ≥ 0]: log Φ, φ/(sΦ), −zφ/(sΦ)."""
    for z in Z:
        mean = z * sd
        with mpmath.workdps(120), np.errstate(all="raise"):
            exact_z = mpmath.mpf(mean) / mpmath.mpf(sd)
            phi, cdf = mpmath.npdf(exact_z), mpmath.erfc(-exact_z / mpmath.sqrt(2)) / 2
            h = phi + exact_z * cdf
            expected = [mpmath.log(sd * h), cdf / (sd * h), phi / (sd * h)]
            found = log_expected_improvement(np.array([mean]), np.array([sd]), 0.0)
            log_cdf = (
                mpmath.log1p(-mpmath.erfc(exact_z / mpmath.sqrt(2)) / 2)
                if z > 0
                else mpmath.log(cdf)
            )
            expected += [log_cdf, phi / cdf / sd, -exact_z * phi / cdf / sd]
            found = [*found, *log_probability(np.array([mean]), np.array([sd]))]
            for got, exactly in zip(found, expected, strict=True):
                # φ is 1e-298 beyond z = 37: nothing to any use
                assert abs(float(got[0]) - exactly) <= 1e-11 * abs(exactly) + 1e-280 / sd, (z, sd)


def test_no_value_is_nan_from_far_below_to_far_above():
    mean = np.concatenate([-np.logspace(-8, 12, 50), np.logspace(-8, 12, 50)])
    for part in log_expected_improvement(mean, np.full(100, 1e-3), 0.0):
        assert np.isfinite(part).all()
