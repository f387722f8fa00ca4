"""Natural-gradient ascent on functions whose maximum is known."""

import numpy as np
import pytest

from fisherbo.optimize.descent import Evaluation, natural_ascent

PEAK = np.array([0.3, 0.7])


def bump(x):
    """Log of a normal density: the score metric's home."""
    gradient = -(x - PEAK) / 0.05
    return Evaluation(0.5 * ((x - PEAK) * gradient).sum(1), gradient, np.full(2, 1.0))


def holed(x):
    """The same, −∞ right of a half."""
    e = bump(x)
    return Evaluation(np.where(x[:, 0] > 0.5, -np.inf, e.value), e.gradient, e.diagonal)


STARTS = np.random.default_rng(0).random((12, 2))
BOTH = np.array([True, True])


def test_every_start_climbs_to_the_peak():
    result = natural_ascent(bump, STARTS, BOTH, tolerance=1e-6)
    assert result.stopped == "converged"
    assert result.value.max() == pytest.approx(0, abs=1e-4)


def test_the_best_starts_alone_climb():
    evaluated = []

    def watched(x):
        evaluated.append(len(x))
        return bump(x)

    result = natural_ascent(watched, STARTS, BOTH, climbers=3)
    assert evaluated[0] == 12
    assert set(evaluated[1:]) == {3}
    assert len(result.x) == 3
    alone = natural_ascent(bump, STARTS[np.argsort(-bump(STARTS).value)[:3]], BOTH)
    assert np.array_equal(result.x, alone.x)


def test_starts_that_are_not_allowed_do_not_climb():
    result = natural_ascent(holed, STARTS, BOTH, climbers=11)
    assert len(result.x) == (STARTS[:, 0] <= 0.5).sum()
    assert np.isfinite(result.value).all()
    outside = STARTS[STARTS[:, 0] > 0.5]
    nothing = natural_ascent(holed, outside, BOTH, climbers=2)
    assert (nothing.value == -np.inf).all()
    assert nothing.steps == 0
