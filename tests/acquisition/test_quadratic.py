import numpy as np
import optuna
import pytest

from fisherbo import FisherSampler
from fisherbo.acquisition.quadratic import fitted, quadratic_optimum
from fisherbo.gp.transfer import rank_correlation


def convex(d, seed=0, condition=1e4):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return q @ np.diag(np.geomspace(1, condition, d)) @ q.T


@pytest.mark.parametrize("d", [1, 2, 5, 8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_optimum_of_a_quadratic_is_found_to_many_digits(d, scale):
    hessian, optimum = convex(d), np.linspace(0.3, 0.7, d)
    x = optimum + 0.1 * np.random.default_rng(1).standard_normal((4 * (d + 1) * (d + 2), d))
    x = np.clip(x, 0, 1)
    y = 7e-3 - scale * np.einsum("nd,de,ne->n", x - optimum, hessian, x - optimum)
    assert quadratic_optimum(x, y) == pytest.approx(optimum, abs=1e-4)


def test_few_points_determine_a_separable_quadratic():
    rng = np.random.default_rng(2)
    optimum = rng.random(10) * 0.4 + 0.3
    x = rng.random((40, 10))  # a full one has 66 coefficients
    y = -((x - optimum) ** 2 @ np.geomspace(1, 10, 10))
    assert quadratic_optimum(x, y) == pytest.approx(optimum, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_narrow_valleys_along_no_axis_are_followed_to_their_end(seed):
    """Points as a search leaves them: along the valley, 3000 times as long as it is wide."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    hessian = q @ np.diag(np.geomspace(1, 1e7, 5)) @ q.T
    optimum = np.full(5, 0.5)
    valley = 0.1 * rng.standard_normal((60, 5)) @ (q * np.geomspace(1, 1e7, 5) ** -0.5).T
    x = optimum + 0.02 * q[:, 0] + valley
    y = -np.einsum("nd,de,ne->n", x - optimum, hessian, x - optimum)
    found = quadratic_optimum(x, y)
    gap = found - optimum
    assert gap @ hessian @ gap < 1e-8 * -y.max()


def test_a_quadratic_after_a_linear_map_is_the_composition():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((30, 3))
    found = fitted(u, np.sort((u**2).sum(1)), full=True)
    linear, t = rng.standard_normal((3, 3)), rng.standard_normal(3)
    assert found.after(linear)(t)[0] == pytest.approx(found(linear @ t)[0])


def test_coefficients_and_left_out_predictions_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(3)
    u = rng.standard_normal((30, 3))
    v = np.sort((u**2).sum(1) + 0.3 * rng.standard_normal(30))
    found = fitted(u, v, full=True)
    i, j = np.triu_indices(3)
    features = np.column_stack([np.ones(30), u, u[:, i] * u[:, j]])
    weight = np.log(31) - np.log(np.arange(1, 31))

    def regression(kept):
        root = np.sqrt(weight[kept])
        return np.linalg.lstsq(features[kept] * root[:, None], v[kept] * root, rcond=None)[0]

    everything = np.arange(30)
    beta = regression(everything)
    assert found.gradient == pytest.approx(beta[1:4], abs=1e-5)
    assert found.hessian[i, j] == pytest.approx(np.where(i == j, 2, 1) * beta[4:], abs=1e-5)
    left_out = [features[k] @ regression(np.delete(everything, k)) for k in everything]
    assert found.correlation == pytest.approx(rank_correlation(np.array(left_out), v), abs=0.01)
    step = np.array([0.3, -0.2, 0.5])
    value, slope = found(step)
    assert value == pytest.approx(beta[1:] @ _without_one(step))
    numeric = [(found(step + e)[0] - found(step - e)[0]) / 2e-6 for e in 1e-6 * np.eye(3)]
    assert slope == pytest.approx(numeric, abs=1e-6)


def _without_one(u):
    i, j = np.triu_indices(3)
    return np.append(u, u[i] * u[j])


@pytest.mark.parametrize(
    "y",
    [
        np.zeros(60),
        np.random.default_rng(4).standard_normal(60),  # nothing to predict
        np.append(np.ones(40), np.zeros(20)),
    ],
)
def test_what_is_no_quadratic_has_none(y):
    x = np.random.default_rng(5).random((60, 3))
    assert quadratic_optimum(x, y) is None


def test_a_coordinate_that_never_varies_has_none():
    x = np.random.default_rng(6).random((60, 3))
    x[:, 1] = 0.5
    assert quadratic_optimum(x, -((x - 0.4) ** 2).sum(1)) is None


def test_the_optimum_stays_in_the_unit_cube_and_near_the_points():
    rng = np.random.default_rng(7)
    x = 0.6 + 0.2 * rng.random((60, 2))
    found = quadratic_optimum(x, x.sum(1) - 0.01 * (x**2).sum(1))  # better and better outwards
    assert found is not None
    assert (found <= 0.9).all()
    assert (found > 0.8).all()
    x = 0.8 + 0.2 * rng.random((60, 2))
    assert (quadratic_optimum(x, x.sum(1)) == 1).all()


def bowl(trial):
    return sum((trial.suggest_float(name, -1, 1) - 0.2) ** 2 for name in "xyz")


def test_a_smooth_study_converges_to_many_digits():
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(bowl, n_trials=50)
    assert study.best_value < 1e-12


def test_the_next_trial_says_that_it_is_the_optimum_of_a_quadratic():
    from fisherbo.sampler.next_trial import next_trial

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(bowl, n_trials=30)
    told = next_trial(study)
    trial = study.ask()
    params = {name: trial.suggest_float(name, -1, 1) for name in "xyz"}
    assert params == pytest.approx(dict(told.params))
    assert told.reason.startswith("Convergence")


@pytest.mark.parametrize("kind", ["integer", "objectives", "worker"])
def test_a_study_that_a_quadratic_does_not_fit_has_none(kind):
    def objective(trial):
        value = bowl(trial)
        if kind == "integer":
            value += trial.suggest_int("n", 1, 5)
        return (value, value) if kind == "objectives" else value

    directions = ["minimize"] * (2 if kind == "objectives" else 1)
    study = optuna.create_study(directions=directions, sampler=FisherSampler(seed=0))
    if kind == "worker":
        other = study.ask()
        bowl(other)
    study.optimize(objective, n_trials=42)
    if len(study.trials) % 2:
        study.optimize(objective, n_trials=1)
    assert not study.sampler.inspect(study).quadratic
