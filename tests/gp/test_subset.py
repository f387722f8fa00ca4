"""Active sets hold the best, their neighbourhood and the whole range of values."""

import numpy as np
import pytest

from fisherbo.gp.subset import active_set, region_known


def test_few_observations_are_all_active():
    assert active_set(np.zeros((5, 2)), np.arange(5.0), np.ones(2), 5).tolist() == [0, 1, 2, 3, 4]


def test_many_observations_are_the_best_the_nearest_and_the_rest_of_the_range():
    rng = np.random.default_rng(0)
    x, y = rng.random((1000, 3)), rng.standard_normal(1000)
    lengthscale = np.array([0.1, 1.0, 1e6])
    chosen = active_set(x, y, lengthscale, 100)
    assert len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
    assert set(np.argsort(-y)[:25]) <= set(chosen)
    distance = (((x - x[np.argmax(y)]) / lengthscale) ** 2).sum(1)
    assert set(np.argsort(distance)[:50]) <= set(chosen)
    assert np.argmin(y) in chosen


def test_it_depends_on_the_data_alone():
    rng = np.random.default_rng(1)
    x, y = rng.random((300, 2)), np.zeros(300)
    assert (active_set(x, y, np.ones(2), 64) == active_set(x, y, np.ones(2), 64)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_known_region_is_where_the_active_set_has_all_observations(seed):
    rng = np.random.default_rng(seed)
    x, y, lengthscale = rng.random((300, 3)), rng.standard_normal(300), rng.uniform(0.2, 2, 3)
    region = region_known(x, y, lengthscale, 80)
    inside = region.holds(x)
    held = np.zeros(300, dtype=bool)
    held[active_set(x, y, lengthscale, 80)] = True
    assert held[inside].all()
    best = np.argsort(-y)[:20]
    assert np.delete(inside, best).sum() == 40
    farther = region.centre + (x - region.centre) * 1e3
    assert region.holds(farther).sum() <= 1  # the best itself
    assert region_known(x[:80], y[:80], lengthscale, 80) is None
