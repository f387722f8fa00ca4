"""What to use in the end, and noise that the objective knows.

Paired seeds; the recommended point's true value is better on average than the luckiest trial's.
"""

import math

import numpy as np
import optuna
import pytest

from fisherbo import NOISE_VARIANCE, FisherSampler, Recommendation
from fisherbo.errors import InvalidInputError
from fisherbo.gp.warp import unwarp, warp, warped_noise
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.trials import read


def truth(params):
    return (params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2


def noisy(sd, seed, *, tell=False):
    rng = np.random.default_rng(seed)

    def objective(trial):
        params = {name: trial.suggest_float(name, 0, 1) for name in "xy"}
        if tell:
            trial.set_user_attr(NOISE_VARIANCE, sd**2)
        return truth(params) + sd * rng.standard_normal()

    return objective


def run(objective, n_trials, seed=0, **kwargs):
    study = optuna.create_study(sampler=FisherSampler(seed=seed), **kwargs)
    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_without_noise_it_is_the_best_trial_at_its_value(direction):
    sign = 1 if direction == "minimize" else -1
    study = run(lambda t: sign * noisy(0.0, 0)(t), 20, direction=direction)
    found = study.sampler.recommend(study)
    assert isinstance(found, Recommendation)
    assert truth(found.params) < study.best_value * sign + 1e-3
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(study.trials[found.number].value, abs=0.02)


def test_under_noise_its_true_value_beats_the_best_trials():
    gains, covered = [], 0
    for seed in range(8):
        study = run(noisy(0.15, seed), 25, seed)
        found = study.sampler.recommend(study)
        gains.append(truth(study.best_params) - truth(found.params))
        covered += found.low <= truth(found.params) <= found.high
    assert np.mean(gains) > 0
    assert covered >= 5  # of 8; 95 % intervals contain the truth less often after a search


def test_it_changes_nothing_and_is_repeatable():
    study = run(noisy(0.1, 1), 14)
    before = [t.system_attrs for t in study.get_trials()]
    first = study.sampler.recommend(study)
    assert first == study.sampler.recommend(study)
    assert before == [t.system_attrs for t in study.get_trials()]
    assert first == FisherSampler(seed=99).recommend(study)


def test_infeasible_and_unfinished_trials_are_never_recommended():
    study = run(noisy(0.0, 0), 12)
    for _ in range(3):
        trial = study.ask()
        trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("size", 1.0)
        study.tell(trial, -100.0)
    study.ask()
    assert study.sampler.recommend(study).number < 12


def test_studies_that_allow_no_recommendation():
    sampler = FisherSampler(seed=0)
    with pytest.raises(InvalidInputError, match="no complete and feasible trial"):
        sampler.recommend(optuna.create_study())
    with pytest.raises(InvalidInputError, match="one objective, got 2"):
        sampler.recommend(optuna.create_study(directions=["minimize"] * 2))
    alike = run(lambda t: t.suggest_float("x", 1, 1), 2)
    with pytest.raises(InvalidInputError, match="no parameter that varies"):
        sampler.recommend(alike)


def test_one_trial_is_enough():
    study = run(noisy(0.0, 0), 1)
    assert study.sampler.recommend(study).number == 0


def test_unwarp_inverts_the_warp_and_goes_on_straight():
    y = np.array([-3.0, 0.0, 1.0, 2.0, 4.0, -math.inf, -50.0])
    warped = warp(y)
    finite = np.isfinite(y)
    assert unwarp(warped[finite], y, warped) == pytest.approx(y[finite])
    dense = unwarp(np.linspace(-5, 5, 200), y, warped)
    assert (np.diff(dense) >= 0).all()
    slope = (warped[4] - warped[3]) / 2.0
    assert unwarp(np.array([warped[4] + slope]), y, warped) == pytest.approx([5.0])


def noise_of(trials):
    floats = trials[0].distributions
    return read(to_space(floats), floats, trials).noise


def test_known_noise_is_scaled_as_the_values_are():
    study = run(noisy(0.5, 3, tell=True), 12)
    y = np.array([-t.value for t in study.trials])
    noise = noise_of(study.trials)
    known = warped_noise(noise, y, warp(y))
    double = warped_noise(noise, 10 * y, warp(10 * y))
    assert known == pytest.approx(np.full(12, known[0]))
    assert double == pytest.approx(known / 100)
    assert warped_noise(noise_of(run(noisy(0.5, 3), 3).trials), y[:3], warp(y[:3])) is None


def test_a_value_that_is_known_to_be_noisy_is_believed_less():
    def expected(variance):
        study = run(noisy(0.0, 0), 14)
        trial = study.ask({name: study.trials[0].distributions[name] for name in "xy"})
        trial.set_user_attr(NOISE_VARIANCE, variance)
        study.tell(trial, -0.2)
        return study.sampler.recommend(study).value

    trusting, doubting = expected(1e-6), expected(100.0)
    assert trusting < doubting
    assert doubting == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("value", ["much", -1.0, 0, math.nan, math.inf, None, True])
def test_what_is_no_variance_counts_as_not_given(value):
    def objective(trial):
        trial.set_user_attr(NOISE_VARIANCE, value)
        return trial.suggest_float("x", 0, 1)

    run(objective, 12)


def test_what_is_still_to_be_gained_is_of_the_size_of_the_last_gains():
    """A search that converges: the regrets of its last trials are smaller by many orders."""
    y = -np.concatenate([np.linspace(1, 9, 20), 1e-3 ** np.arange(6.0)])
    warped = warp(y)
    beyond = unwarp(warped.max() + np.array([0.1, 1.0]), y, warped)
    assert y.max() < beyond[0] < beyond[1] < 1e-3
