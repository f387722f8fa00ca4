"""Losses on the simplex: their optima, and a search with each arm's weights."""

import numpy as np
import optuna
import pytest

from experiments.simplex import ARMS, SIZES, SYNTHETIC, Cell, asked, ends, loss_of, probabilities


@pytest.mark.parametrize("problem", SYNTHETIC)
@pytest.mark.parametrize("size", SIZES)
def test_the_optimum_of_a_synthetic_loss_is_known(problem, size):
    least, median = ends(loss_of(problem, size, 0), size)
    assert least == pytest.approx(0, abs=1e-8)
    assert median > 0.1


def test_the_optimum_of_an_ensemble_is_that_of_expectation_maximisation():
    told = probabilities("iris", 0)[:, :5]
    p = np.full(5, 0.2)
    for _ in range(5000):
        p = p * (told / (told @ p)[:, None]).mean(0)
    least, _ = ends(loss_of("iris", 5, 0), 5)
    assert least == pytest.approx(-np.log(told @ p).mean(), abs=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_weights_of_every_arm_are_on_the_simplex(arm):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        p = asked(study.ask(), Cell(arm, "vertex KL", 5, 0))
        assert p.shape == (5,) and p.min() >= 0
        assert p.sum() == pytest.approx(1)
