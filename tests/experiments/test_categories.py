"""Surfaces with categories for integers, and what the sampler is told of these."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.categories import ARMS, CHOICES, Cell, as_category, told
from fisherbo.sampler.categories import Ordered, read_categories


@pytest.mark.parametrize(
    ("distribution", "choices"),
    [
        (IntDistribution(1, 5), (1, 2, 3, 4, 5)),
        (IntDistribution(1, 15), (1, 3, 5, 7, 9, 11, 13, 15)),
        (IntDistribution(16, 512, log=True), (16, 26, 43, 71, 116, 190, 312, 512)),
    ],
)
def test_integers_become_few_choices_from_end_to_end(distribution, choices):
    assert as_category(distribution) == CategoricalDistribution(choices)
    assert len(choices) <= CHOICES


def test_other_parameters_stay():
    plain = FloatDistribution(0, 1)
    assert as_category(plain) is plain


def test_what_is_told():
    choices, rng = (1, 2, 4, 8), np.random.default_rng(0)
    found = {arm: told(Cell(arm, "task", 0), choices, rng) for arm in ARMS}
    assert found["unordered"] == "unordered"
    assert found["ordered"] == Ordered(choices)
    assert found["distances"][0].tolist() == [0, 1, 2, 3]
    assert sorted(found["shuffled"].choices) == list(choices)
    assert found["shuffled"] != found["ordered"]
    assert len(read_categories(found)) == len(ARMS)
