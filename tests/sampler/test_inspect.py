import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

import fisherbo
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.options import AlgorithmOptions

SPACE = {"x": FloatDistribution(-5, 5), "n": IntDistribution(1, 20)}


def made(direction="minimize", count=15, sampler=None, objective=None):
    sampler = fisherbo.FisherSampler(seed=3) if sampler is None else sampler
    study = optuna.create_study(direction=direction, sampler=sampler)
    sign = 1 if direction == "minimize" else -1

    def value(trial):
        x, n = trial.suggest_float("x", -5, 5), trial.suggest_int("n", 1, 20)
        return sign * ((x - 2) ** 2 + 0.1 * (n - 7) ** 2)

    study.optimize(objective or value, n_trials=count)
    return study


def test_the_next_point_is_the_one_that_is_asked_next():
    study = made()
    seen = study.sampler.inspect(study)
    assert dict(seen.params(seen.next)) == study.ask(SPACE).params


def test_nothing_is_written():
    study = made(sampler=optuna.samplers.RandomSampler(seed=0))
    before = [trial.system_attrs for trial in study.trials]
    fisherbo.FisherSampler(seed=0).inspect(study)
    assert [trial.system_attrs for trial in study.trials] == before


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_quantiles_are_in_units_of_the_objective(direction):
    study = made(direction, count=25)
    seen = study.sampler.inspect(study)
    x, y = seen.observed()
    np.testing.assert_allclose(y, [trial.value for trial in study.trials])
    median, better = seen.quantiles(x, np.array([0.0, 2.0]))
    assert np.corrcoef(median, y)[0, 1] > 0.95
    sign = 1 if direction == "maximize" else -1
    assert (sign * (better - median) >= 0).all()
    recommended = study.sampler.recommend(study)
    assert dict(seen.params(seen.best())) == recommended.params
    here = seen.quantiles(seen.best()[None], np.zeros(1))
    assert here[0, 0] == pytest.approx(recommended.value, rel=1e-6, abs=1e-9)


def test_the_acquisition_at_the_next_point_beats_all_but_a_thousandth_of_the_space():
    study = made(count=20)
    seen = study.sampler.inspect(study)
    u = np.random.default_rng(0).random((4000, 2))
    elsewhere = seen.acquisition.value(seen.space.snap(u))
    assert (elsewhere > seen.acquisition.value(seen.next[None])[0]).mean() < 1e-3


def test_the_acquisition_is_largest_at_the_next_point():
    study = made(count=20)
    seen = study.sampler.inspect(study)
    u = np.random.default_rng(0).random((4000, 2))
    assert seen.acquisition.value(seen.space.snap(u)).max() <= (
        seen.acquisition.value(seen.next[None])[0] + 0.05
    )


def test_an_independent_sampler_draws_the_next_point():
    sampler = fisherbo.FisherSampler(
        seed=0, independent_sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study = made(count=5, sampler=sampler)
    assert sampler.inspect(study).next is None


def test_studies_of_which_nothing_can_be_said():
    sampler = fisherbo.FisherSampler(seed=0)
    with pytest.raises(InvalidInputError, match="no parameter that varies"):
        sampler.inspect(optuna.create_study())
    study = optuna.create_study()
    study.ask(SPACE)
    with pytest.raises(InvalidInputError, match="must have a trial with a value"):
        sampler.inspect(study)


def test_the_acquisition_is_what_is_maximised_in_every_trial():
    """Also while the best value is old, where every other trial keeps away from known points."""

    def value(trial):
        return (trial.suggest_float("x", 0, 1) - 0.3) ** 2 + (
            trial.suggest_float("y", 0, 1) - 0.6
        ) ** 2

    sampler = fisherbo.FisherSampler(seed=3, _options=AlgorithmOptions(quadratic_from=np.inf))
    study = made(count=12, objective=value, sampler=sampler)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2), -1).reshape(-1, 2)
    kept_away = 0
    for _ in range(14):
        seen = study.sampler.inspect(study)
        everywhere = seen.acquisition.value(grid)
        kept_away += not np.isfinite(everywhere).all()
        assert seen.acquisition.value(seen.next[None])[0] > everywhere.max() - 0.4
        study.optimize(value, n_trials=1)
    assert kept_away > 1
