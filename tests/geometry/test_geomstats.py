"""Distances against geomstats 2.8, in the families where it uses the Fisher metric."""

import warnings

import numpy as np
import pytest
import torch
from torch.distributions import (
    Binomial,
    Categorical,
    Exponential,
    MultivariateNormal,
    Normal,
    Poisson,
)

from fisherbo.geometry import fisher_rao_distance


@pytest.fixture(scope="module")
def geometry():
    """geomstats.information_geometry, for whose import NumPy 2 must have its old name ``trapz``."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(np, "trapz", np.trapezoid, raising=False)
        patch.setenv("GEOMSTATS_BACKEND", "numpy")
        from geomstats.information_geometry import (
            binomial,
            categorical,
            exponential,
            normal,
            poisson,
        )

        yield {
            "normal": normal.UnivariateNormalDistributions(),
            "centred": normal.CenteredNormalDistributions(2),
            "categorical": categorical.CategoricalDistributions(2),
            "binomial": binomial.BinomialDistributions(10),
            "poisson": poisson.PoissonDistributions(),
            "exponential": exponential.ExponentialDistributions(),
        }


def spd(rng):
    root = rng.standard_normal((2, 2))
    return root @ root.T + 0.5 * np.eye(2)


POINTS = {
    "normal": lambda rng: np.array([rng.normal(), rng.uniform(0.3, 3)]),
    "centred": spd,
    "categorical": lambda rng: rng.dirichlet(np.ones(3)),
    "binomial": lambda rng: rng.uniform(0.05, 0.95, 1),
    "poisson": lambda rng: rng.uniform(0.2, 9, 1),
    "exponential": lambda rng: rng.uniform(0.2, 9, 1),
}
MEMBERS = {
    "normal": lambda v: Normal(v[0], v[1]),
    "centred": lambda v: MultivariateNormal(torch.zeros(2, dtype=torch.float64), v),
    "categorical": lambda v: Categorical(v),
    "binomial": lambda v: Binomial(10, v[0]),
    "poisson": lambda v: Poisson(v[0]),
    "exponential": lambda v: Exponential(v[0]),
}


@pytest.mark.parametrize("family", POINTS)
@pytest.mark.parametrize("seed", range(5))
def test_distance_equals_geomstats(geometry, family, seed):
    rng = np.random.default_rng(seed)
    a, b = POINTS[family](rng), POINTS[family](rng)
    theirs = np.ravel(geometry[family].metric.dist(a, b))[0]
    p, q = (MEMBERS[family](torch.from_numpy(v)) for v in (a, b))
    assert fisher_rao_distance(p, q).item() == pytest.approx(theirs, abs=1e-10)
