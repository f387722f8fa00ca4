"""Ratio rule, KL ball and box."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fisherbo.geometry.lapack import solve
from fisherbo.geometry.trust_region import by_agreement, free_in_box, held, kl_share

lengths = st.floats(1e-8, 1e8)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [(2.0, 0.5), (0.76, 0.5), (0.75, 1.0), (0.25, 1.0), (0.24, 4.0), (-1.0, 4.0), (math.nan, 4.0)],
)
def test_damping_follows_the_agreement_of_gain_and_prediction(
    actual: float, expected: float
) -> None:
    assert by_agreement(actual, 1.0, 0.5, 4.0) == expected
    both = by_agreement(np.array([actual, actual * 3]), np.array([1.0, 3.0]), 0.5, 4.0)
    assert both.tolist() == [expected, expected]


@given(lengths, lengths)
def test_a_share_of_a_step_stays_within_the_limit_and_is_the_largest(
    squared_length: float, limit: float
) -> None:
    share = kl_share(squared_length, limit)
    reached = share**2 * squared_length
    assert reached <= limit * (1 + 1e-9)
    assert share == 1 or math.isclose(reached, limit)


@pytest.mark.parametrize("squared_length", [0.0, -1.0])
def test_a_step_without_length_is_taken_whole(squared_length: float) -> None:
    assert kl_share(squared_length, 1e-3) == 1


def test_a_damped_newton_step_in_a_box_solves_the_conditions_of_kuhn_and_tucker() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        root = rng.normal(size=(4, 4))
        metric, gradient = root @ root.T + np.eye(4), rng.normal(size=4)
        x = rng.choice([0.0, 0.5, 1.0], size=4)
        free = free_in_box(gradient, x, 0.0, 1.0)
        step = solve(held(metric, free), np.where(free, gradient, 0.0))
        assert_allclose(step[~free], 0)
        assert_allclose((gradient - metric @ step)[free], 0, atol=1e-9)
        outward = (gradient > 0) == (x == 1)
        assert np.array_equal(~free, outward & (x != 0.5))


def test_batches_are_held_as_their_members_are() -> None:
    rng = np.random.default_rng(1)
    metric, free = rng.normal(size=(3, 2, 2)), rng.random((3, 2)) < 0.5
    each = [held(m, f) for m, f in zip(metric, free, strict=True)]
    assert np.array_equal(held(metric, free), each)
