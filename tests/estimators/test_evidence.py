import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from fisherbo import KFACClassifier, KFACRegressor
from fisherbo.estimators.evidence import LEAST, MOST, first_guess, updated
from fisherbo.estimators.layers import as_module, draw
from fisherbo.estimators.learning import as_rows

unfinished = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def noisy_plane(rows, inputs, noise, seed=0):
    rng = np.random.default_rng(seed)
    X = StandardScaler().fit_transform(rng.normal(size=(rows, inputs)))
    return X, X @ rng.normal(size=inputs) + noise * rng.normal(size=rows)


@unfinished
@pytest.mark.parametrize("noise", [1.0, 3.0, 10.0])
def test_of_a_linear_network_it_is_the_weight_decay_of_bayesian_ridge(noise):
    X, y = noisy_plane(200, 12, noise)
    y = (y - y.mean()) / y.std()
    truth = BayesianRidge(fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0)
    truth.fit(X, y)
    model = KFACRegressor((), max_iter=400, tol=0.0, random_state=0).fit(X, y)
    expected = truth.lambda_ / (truth.alpha_ * len(X))
    # inputs are scaled by at least a sixth of their range, and the bias is a weight as well
    assert model.alpha_ == pytest.approx(expected, rel=0.3)
    np.testing.assert_allclose(model.coefs_[0][:, 0], truth.coef_, atol=0.02)


@unfinished
@pytest.mark.slow
def test_more_noise_is_more_weight_decay():
    for kind in (KFACClassifier, KFACRegressor):
        found = []
        for wrong in (0.0, 0.2, 0.5):
            X, y = make_classification(400, 10, flip_y=wrong, class_sep=2.0, random_state=0)
            y = (
                y + 2 * wrong * np.random.default_rng(0).normal(size=400)
                if kind is KFACRegressor
                else y
            )
            found.append(kind(random_state=0).fit(X, y).alpha_)
        assert found[0] < found[1] < found[2]


@unfinished
@pytest.mark.slow
def test_it_is_about_the_best_weight_decay_for_held_out_rows():
    X, y = make_classification(900, 20, flip_y=0.3, random_state=3)

    def loss(alpha):
        model = KFACClassifier(alpha=alpha, random_state=0).fit(X[:300], y[:300])
        return log_loss(y[300:], model.predict_proba(X[300:]))

    assert loss("auto") < min(map(loss, (1e-4, 1e-3, 1e-2, 1e-1, 1.0))) + 0.03


@unfinished
def test_a_number_is_kept():
    X, y = noisy_plane(100, 3, 1.0)
    assert KFACRegressor(alpha=0.02, random_state=0).fit(X, y).alpha_ == 0.02
    assert KFACRegressor(alpha=0.0, random_state=0).fit(X, y).alpha_ == 0.0


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli", "normal"])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_stays_within_its_bounds_and_takes_no_part_in_training(likelihood, weighted):
    rng = np.random.default_rng(0)
    y = {
        "categorical": rng.integers(0, 3, 30),
        "bernoulli": rng.integers(0, 2, (30, 3)).astype(float),
        "normal": np.zeros((30, 3)),  # RSS may become zero
    }[likelihood]
    weight = rng.uniform(0.5, 2, 30) if weighted else None
    rows = as_rows(rng.normal(size=(30, 50)).astype(np.float32), y, likelihood, weight)
    model = as_module(draw((50, 8, 3), "relu", 0), "relu")
    seen = []
    model[0].register_forward_hook(lambda *call: seen.append(call))
    alpha, generator = first_guess(30), torch.Generator().manual_seed(0)
    for _ in range(50):
        alpha = updated(alpha, model, rows, generator)
        assert LEAST <= alpha <= MOST
    assert not seen
    assert all(w.grad is None for w in model.parameters())
