"""The incumbent: the best value where values repeat exactly, else the best posterior mean."""

from functools import partial

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fisherbo import NOISE_VARIANCE, FisherSampler
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition, with_fantasies
from fisherbo.sampler.models import FittedModel
from fisherbo.sampler.observations import observe
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.suggest import acquisition_of
from fisherbo.sampler.trials import read

SEARCH_SPACE = {"x": optuna.distributions.FloatDistribution(0, 1)}
SPACE = to_space(SEARCH_SPACE)


def trial(x, value=None, **attrs):
    state = TrialState.RUNNING if value is None else TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state, params={"x": x}, distributions=SEARCH_SPACE, value=value, user_attrs=attrs
    )


def observations_of(trials):
    table = read(SPACE, SEARCH_SPACE, trials)
    return observe(SPACE, table, [optuna.study.StudyDirection.MAXIMIZE])


def improvement(*trials):
    """The acquisition of a study that maximises, made of these trials."""
    data = observations_of(trials)
    hyper = Hyper(np.array([0.5]), 1.0, 0.1)
    model = condition(data.x, data.y[:, 0], SPACE.choices, hyper)
    fitted = FittedModel(model, data.pending, partial(with_fantasies, model))
    found, _ = acquisition_of([fitted], [], data.known(SPACE), np.random.default_rng(0))
    assert isinstance(found, ExpectedImprovement)
    return found, model


SIX = [trial(x, 3 * np.sin(9 * x)) for x in np.linspace(0, 1, 6)]


def test_the_best_value_counts_and_what_the_kernel_does_not_resolve_may_improve_on_it():
    found, model = improvement(*SIX)
    warped = found.best
    assert found.noise == model.noise
    assert warped > 0.8  # of the largest of standardised values, not its shrunken mean


@pytest.mark.parametrize(
    "further",
    [
        [trial(0.2, 1.0)],  # another value at a known point
        [trial(0.5, 1.0, **{NOISE_VARIANCE: 0.1})],
        [trial(0.5)],  # under evaluation
    ],
)
def test_posterior_means_count_where_values_are_noisy_or_awaited(further):
    found, model = improvement(*SIX, *further)
    assert found.noise == 0
    points = np.array([[t.params["x"]] for t in [*SIX, *further]])
    assert found.best == pytest.approx(model.mean(points).max())


def test_repeats_of_the_same_value_are_no_noise():
    assert improvement(*SIX, trial(0.2, SIX[1].value))[0].noise > 0


def test_gradients_are_those_of_finite_differences_and_noise_adds_to_variance():
    _, model = improvement(*SIX)
    noisy = ExpectedImprovement(model, 1.0, 0.3)
    x, step = np.array([[0.13], [0.71]]), 1e-6
    slope = (noisy.value(x + step) - noisy.value(x - step)) / (2 * step)
    assert noisy.evaluate(x).gradient[:, 0] == pytest.approx(slope, rel=1e-5)
    rng = np.random.default_rng(0)
    mean, sd = model.predict(x[:1])
    drawn = mean + np.sqrt(sd**2 + 0.3) * rng.standard_normal(400_000)
    assert np.exp(noisy.value(x[:1]))[0] == pytest.approx(np.maximum(drawn - 1, 0).mean(), rel=0.01)


def rough(trial):
    """A slope with a pattern far below any lengthscale that six trials could suggest."""
    x = trial.suggest_float("x", 0, 1)
    return x + 0.3 * np.sin(1e4 * x) ** 2


@pytest.mark.parametrize("seed", range(3))
def test_a_search_of_a_rough_objective_does_not_stay_where_its_best_value_is(seed):
    study = optuna.create_study(sampler=FisherSampler(seed=seed))
    study.optimize(rough, n_trials=60)
    late = np.array([t.params["x"] for t in study.trials[30:]])
    gaps = np.abs(late[:, None] - [t.params["x"] for t in study.trials[:30]]).min(1)
    assert (gaps > 1e-3).mean() > 0.4


def test_the_best_value_is_finite_and_feasible():
    trials = [trial(0.1, np.inf), trial(0.2, 5.0), trial(0.3, 9.0), trial(0.4, 1.0)]
    assert observations_of(trials).age_of_best == 1
    for t, c in zip(trials, (-1.0, -1.0, 1.0, -1.0), strict=True):
        t._system_attrs["constraints:c"] = c
    assert observations_of(trials).age_of_best == 2


def test_beyond_what_the_model_holds_trials_stay_where_it_knows_all(monkeypatch):
    monkeypatch.setattr("fisherbo.sampler.models.MODEL_SIZE", 24)
    monkeypatch.setattr("fisherbo.gp.model.MODEL_SIZE", 24)
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    rng = np.random.default_rng(0)
    floats = {name: optuna.distributions.FloatDistribution(0, 1) for name in "xyz"}
    known = rng.random((60, 3))
    values = ((known - 0.6) ** 2).sum(1) + 0.3 * np.sin(20 * known).sum(1)
    for point, value in zip(known.tolist(), values.tolist(), strict=True):
        params = dict(zip("xyz", point, strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=floats, value=value))
    region = study.sampler.inspect(study).objectives[0].region
    inside = []
    for _ in range(8):
        trial = study.ask(floats)
        point = np.array([trial.params[name] for name in "xyz"])
        inside.append(bool(region.holds(point[None])[0]))
    assert sum(inside[i] for i in range(8) if (60 + i) % 8) == 7
    assert region.holds(known).sum() < 30
