import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    make_classification,
    make_friedman1,
    make_gaussian_quantiles,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fisherbo import KFACClassifier, KFACRegressor
from fisherbo.estimators import perceptron
from fisherbo.estimators.course import LEAST_LOSS, LEAST_RATIO, Course, even_size
from fisherbo.estimators.layers import as_module, draw, expanded, of_module, reduced, row_space
from fisherbo.estimators.learning import Recipe, as_rows, make_optimizer

unfinished = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def recipe(**changed):
    given = {
        **{"solver": "kfac", "learning_rate": 0.3, "damping": 0.01, "momentum": 0.9},
        **{"alpha": 0.01, "by_evidence": False, "batch_size": 1024, "max_iter": 200},
        **{"tol": 0.02, "patience": None, "seed": 0},
    }
    return Recipe(**{**given, **changed})


def trained(rows, layers, how):
    model = as_module(layers, "tanh")
    course = Course(rows, how)
    course.run(model, make_optimizer(model, how, rows.likelihood), 0)
    return course, of_module(model)


def some_rows(count, inputs, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, inputs)).astype(np.float32)
    return as_rows(x, np.tanh(x[:, :1]) + 0.5 * rng.normal(size=(count, 1)), "normal", None)


def warned(model, X, y):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(X, y)
    return bool(told)


def penalised(model, X, y):
    """Training loss and penalty, of a network whose inputs are standardised."""
    outputs = model.predict_proba(X) if isinstance(model, KFACClassifier) else model.predict(X)
    if isinstance(model, KFACClassifier):
        loss = -np.log(outputs[np.arange(len(y)), y]).mean()
    else:
        loss = 0.5 * np.mean((outputs - y) ** 2) / y.var()
    weights = [*model._state.layers]
    return loss + model.alpha / 2 * sum((w**2).sum() + (b**2).sum() for w, b in weights)


CASES = {
    "cancer": (KFACClassifier, load_breast_cancer(return_X_y=True)),
    "diabetes": (KFACRegressor, load_diabetes(return_X_y=True)),
    "wrong labels": (KFACClassifier, make_classification(400, 20, flip_y=0.3, random_state=1)),
    "Friedman": (KFACRegressor, make_friedman1(600, noise=1.0, random_state=1)),
    "quantiles": (KFACClassifier, make_gaussian_quantiles(n_samples=1500, random_state=1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.003])
@pytest.mark.parametrize("kind, data", CASES.values(), ids=CASES)
def test_what_is_called_converged_is_near_what_far_more_epochs_reach(kind, data, alpha):
    model = kind(alpha=alpha, max_iter=3200, random_state=0)
    assert not warned(model, *data)
    assert model.n_iter_ < 3200
    longer = kind(alpha=alpha, max_iter=3200, tol=0.0, random_state=0)
    warned(longer, *data)
    reached, possible = penalised(model, *data), penalised(longer, *data)
    assert reached - possible < 0.1 * max(possible, LEAST_LOSS)


@pytest.mark.parametrize("shrinks", [0.999, 0.99, 0.98, 0.96, 0.95])
def test_what_is_left_is_not_underestimated_where_steps_shrink_it_by_one_factor(shrinks):
    course = Course(some_rows(10, 2), recipe())
    left = shrinks ** np.array([25.0, 50.0, 100.0])
    told = [course._left(gain, minibatches=False) for gain in (np.inf, *-np.diff(left))]
    assert told[:2] == [np.inf, np.inf]
    assert told[2] >= left[2]
    if shrinks < 0.97:  # else the gains have hardly begun to shrink
        assert told[2] < 3 * max(left[2], LEAST_RATIO**2 * (left[1] - left[2]))


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_what_is_left_is_told_where_it_shrinks_as_a_power_of_time(power):
    course = Course(some_rows(10, 2), recipe())
    left = np.array([25.0, 50.0, 100.0]) ** -power
    told = [course._left(gain, minibatches=True) for gain in (np.inf, *-np.diff(left))]
    assert told[2] == pytest.approx(left[2])


def test_too_few_epochs_are_warned_of_and_enough_are_not():
    X, y = CASES["wrong labels"][1]
    assert warned(KFACClassifier(max_iter=10, random_state=0), X, y)
    assert warned(KFACClassifier(max_iter=40, random_state=0), X, y)
    assert not warned(KFACClassifier(max_iter=400, random_state=0), X, y)


def test_a_small_learning_rate_does_not_look_like_convergence():
    rows = some_rows(200, 4)
    layers = draw((4, 10, 1), "tanh", 0)
    course, _ = trained(rows, layers, recipe(learning_rate=1e-3))
    assert not course.converged
    course, _ = trained(rows, layers, recipe(max_iter=2000))
    assert course.converged
    assert len(course.losses) < 2000


def test_rounds_double_and_fill_the_epochs():
    rows, layers = some_rows(200, 4), draw((4, 10, 1), "tanh", 0)
    for most in (1, 2, 30, 77):
        course, _ = trained(rows, layers, recipe(max_iter=most, tol=0.0))
        assert len(course.losses) == most
    ends = []
    for first in (None, 7):
        course, _ = trained(rows, layers, recipe(max_iter=4000, patience=first))
        ends.append(len(course.losses))
    assert ends[0] in [25 * 2**k for k in range(2, 8)]
    assert ends[1] in [7 * 2**k for k in range(2, 10)]


def test_the_better_of_the_last_two_rounds_is_kept():
    rows, layers = some_rows(200, 4), draw((4, 10, 1), "tanh", 0)
    how = recipe(learning_rate=0.3, max_iter=400, tol=0.0, batch_size=20, alpha=0.0)
    course, found = trained(rows, layers, how)
    with torch.no_grad():
        loss = float(rows.loss(as_module(found, "tanh")(rows.x), rows.y))
    assert loss <= min(course.losses[-1], course.losses[0]) * 1.05


def test_batches_of_an_epoch_are_nearly_equal():
    for count in (1, 5, 100, 1024, 1100, 1535, 1537, 3000, 75_000):
        size = even_size(count, 1024)
        last = (count - 1) % size + 1
        assert size <= 1536
        assert size - last <= count // size + 1


def test_training_in_the_span_of_the_rows_is_training():
    rows = some_rows(20, 60)
    basis = row_space(rows.x)
    assert basis.shape == (60, 20)
    assert row_space(rows.x[:, :20]) is None
    x = rows.x
    np.testing.assert_allclose((x @ basis) @ basis.T, x, atol=1e-5)
    layers = draw((60, 8, 1), "tanh", 0)
    how = recipe(max_iter=8, solver="sgd")  # K-FAC's π knows the number of inputs
    _, whole = trained(rows, layers, how)
    few = type(rows)(x @ basis, rows.y, rows.likelihood, rows.weighted)
    _, inside = trained(few, reduced(layers, basis), how)
    with torch.no_grad():
        expected = as_module(whole, "tanh")(x)
        found = as_module(expanded(inside, basis, None), "tanh")(x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    kept = expanded(reduced(layers, basis), basis, layers)
    np.testing.assert_allclose(kept[0][0], layers[0][0], atol=1e-5)  # nothing across it is lost


@unfinished
def test_warm_start_with_more_inputs_than_rows_remembers_the_other_rows():
    X, y = make_friedman1(60, n_features=50, random_state=0)
    model = KFACRegressor(warm_start=True, alpha=1e-3, max_iter=60, random_state=0)
    model.fit(X[:30], y[:30])
    first = model.score(X[:30], y[:30])
    model.set_params(max_iter=1).fit(X[30:], y[30:])
    assert first > 0.9
    assert model.score(X[:30], y[:30]) > 0.5


@unfinished
def test_early_stopping_begins_where_rows_can_be_spared(iris, monkeypatch):
    few = {"max_iter": 3, "random_state": 0}
    assert KFACClassifier(**few).fit(*iris).validation_scores_ is None
    monkeypatch.setattr(perceptron, "EARLY_ROWS", 150)
    early = KFACClassifier(**few).fit(*iris)
    assert len(early.validation_scores_) == 3
    assert early.t_ == 3 * 135
    never = KFACClassifier(early_stopping=False, **few).fit(*iris)
    assert never.validation_scores_ is None
    assert never.t_ == 3 * 150
    assert KFACClassifier(**few).partial_fit(*iris, classes=[0, 1, 2]).t_ == 150


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inputs", [4, 20, 300])
@pytest.mark.parametrize("rows", [150, 1000, 4000])
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_defaults_are_not_behind_an_mlp(task, rows, inputs):
    if rows * inputs > 300_000:
        pytest.skip("the MLP alone takes many seconds")
    if task == "classes":
        X, y = make_classification(
            rows + 1000, inputs, n_informative=min(10, inputs), n_redundant=0, random_state=2
        )
        kinds = KFACClassifier, MLPClassifier
    else:
        X, y = make_friedman1(rows + 1000, max(inputs, 5), noise=1.0, random_state=2)
        kinds = KFACRegressor, MLPRegressor
    X, X_test, y, y_test = train_test_split(X, y, test_size=1000, random_state=0)
    ours, theirs = (make_pipeline(StandardScaler(), kind(random_state=0)) for kind in kinds)
    assert ours.fit(X, y).score(X_test, y_test) > theirs.fit(X, y).score(X_test, y_test) - 0.02
