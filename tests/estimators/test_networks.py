import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

import fisherbo
from fisherbo import KFACClassifier, KFACRegressor
from fisherbo.estimators.layers import as_module, draw, in_units, input_scaling, run
from fisherbo.estimators.learning import SPACES, canonical_order, held_out, repeats

FIXED = {"learning_rate": 0.3, "damping": 0.01, "random_state": 0}
FEW = {**FIXED, "max_iter": 3, "tol": 0.0, "n_iter_no_change": 99}
unfinished = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_arrays_and_module_are_one_function_in_the_units_of_the_data(activation):
    rng = np.random.default_rng(0)
    X = rng.normal(5, [1, 100, 0.01], size=(30, 3))
    inputs, targets = input_scaling(X), input_scaling(rng.normal(3, 7, size=(30, 2)))
    layers = draw((3, 8, 4, 2), activation, 0)
    output = as_module(layers, activation)(torch.from_numpy(inputs.apply(X))).detach().numpy()
    expected = output * targets.scale + targets.centre
    found = run(in_units(layers, inputs, targets), activation, X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_scales_bound_the_values_and_forget_the_units():
    rng = np.random.default_rng(0)
    rare = (rng.random((400, 1)) < 0.01) * 16.0
    X = np.hstack([rng.normal(size=(400, 1)), rare, np.full((400, 1), 0.1)])
    scaled = input_scaling(X).apply(X)
    assert np.abs(scaled).max() <= 6
    np.testing.assert_allclose(scaled[:, 2], 0, atol=1e-12)
    factors = np.array([1e3, 1e-3, 7])
    np.testing.assert_allclose(
        input_scaling(X * factors + 5).apply(X * factors + 5), scaled, atol=1e-3
    )


@unfinished
@pytest.mark.parametrize("solver", ["kfac", "ekfac", "adam", "sgd"])
def test_every_solver_learns_and_a_linear_network_finds_the_line(line, iris, solver):
    X, y = line
    lr = {"adam": 0.01, "sgd": 0.05}.get(solver, 0.1)
    options = {**FIXED, "solver": solver, "learning_rate": lr, "alpha": 0.0}
    model = KFACRegressor((), max_iter=400, tol=1e-7, n_iter_no_change=100, **options).fit(X, y)
    truth = Ridge(alpha=0).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0][:, 0], truth.coef_, atol=0.02)
    np.testing.assert_allclose(model.intercepts_[0], truth.intercept_, atol=0.02)
    assert model.loss_curve_[-1] < 0.01 * model.loss_curve_[0]
    assert (model.damping_ is None) == (solver in ("adam", "sgd"))
    assert KFACClassifier(**{**options, "alpha": 1e-3}, max_iter=300).fit(*iris).score(*iris) > 0.93


@unfinished
def test_without_hidden_layers_it_is_the_logistic_regression_of_its_penalty(iris):
    X, y = StandardScaler().fit_transform(iris[0]), iris[1]
    model = KFACClassifier((), alpha=0.01, **FIXED, max_iter=300, tol=1e-6, n_iter_no_change=100)
    model.fit(X, y)
    ones = np.column_stack([X, np.ones(len(X))])  # the bias has the penalty too
    truth = LogisticRegression(C=1 / (0.01 * len(X)), fit_intercept=False, max_iter=1000, tol=1e-8)
    expected = truth.fit(ones, y).predict_proba(ones)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=0.03)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


@unfinished
def test_auto_tunes_within_the_space_and_numbers_are_kept(iris):
    tuned = {"n_tuning_trials": 4, "max_iter": 50}
    model = KFACClassifier(random_state=0, **tuned).fit(*iris)
    space = SPACES["kfac"]
    assert space["learning_rate"].low <= model.learning_rate_ <= space["learning_rate"].high
    assert space["damping"].low <= model.damping_ <= space["damping"].high
    assert model.score(*iris) > 0.95
    half = KFACClassifier(damping=0.25, random_state=0, **tuned).fit(*iris)
    assert half.damping_ == 0.25
    other = KFACClassifier(damping=0.25, random_state=1, **tuned).fit(*iris)
    assert half.learning_rate_ != other.learning_rate_
    few = KFACClassifier(random_state=0, **tuned).fit(iris[0][::3], iris[1][::3])  # too few rows
    untuned = KFACClassifier(random_state=5, max_iter=2).fit(*iris)
    assert few.learning_rate_ == untuned.learning_rate_ == pytest.approx(0.1**0.5)


@unfinished
def test_auto_leaves_global_generators_and_logging_alone(iris, capsys):
    import optuna

    torch.manual_seed(3)
    before, level = torch.get_rng_state(), optuna.logging.get_verbosity()
    KFACClassifier(random_state=0, n_tuning_trials=2).fit(*iris)
    assert torch.equal(before, torch.get_rng_state())
    assert optuna.logging.get_verbosity() == level
    seen = capsys.readouterr()
    assert seen.out == seen.err == ""


@unfinished
def test_whole_weights_are_repeated_rows_and_the_order_of_rows_is_nothing(iris):
    X, y = iris
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 4, 150)
    weighted = KFACClassifier(**FEW).fit(X, y, sample_weight=weight)
    rows = rng.permutation(np.repeat(np.arange(150), weight))
    repeated = KFACClassifier(**FEW).fit(X[rows], y[rows])
    np.testing.assert_array_equal(weighted.coefs_[0], repeated.coefs_[0])
    assert repeats(np.array([0.5, 0, 0.5]))[1] is None
    kept, rest = repeats(np.array([0.5, 0.0, 1.5]))
    assert kept.tolist() == [0, 2]
    assert rest.tolist() == [0.5, 1.5]


def test_fractional_weights_move_the_optimum_to_the_weighted_one(line):
    X, y = line
    y = y + np.where(np.arange(120) < 60, 3.0, 0.0)
    weight = np.where(np.arange(120) < 60, 0.25, 1.75)
    options = {**FIXED, "alpha": 0.0, "max_iter": 500, "tol": 1e-8, "n_iter_no_change": 100}
    model = KFACRegressor((), **options).fit(X, y, sample_weight=weight)
    truth = Ridge(alpha=0).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.predict(X), truth.predict(X), atol=0.05)


@unfinished
def test_partial_fit_is_one_epoch_and_goes_on(iris):
    X, y = iris
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        KFACClassifier(**FEW).partial_fit(X, y)
    model = KFACClassifier(**FIXED).partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    assert model.n_iter_ == len(model.loss_curve_) == 1
    loaded = pickle.loads(pickle.dumps(model))
    for _ in range(30):
        model.partial_fit(X, y)
        loaded.partial_fit(X, y)
    assert len(model.loss_curve_) == 31
    assert model.score(X, y) > 0.9
    np.testing.assert_array_equal(model.coefs_[0], loaded.coefs_[0])  # optimizer state and all
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        KFACRegressor(early_stopping=True).partial_fit(X, y)


@unfinished
def test_warm_start_goes_on_from_the_weights(iris):
    X, y = iris
    model = KFACClassifier(**FEW, warm_start=True).fit(X, y)
    first = model.loss_curve_
    model.fit(X, y)
    assert model.loss_curve_[0] < first[0] / 2
    assert model.t_ == 6 * 150
    with pytest.raises(ValueError, match=r"warm_start can only be used where `y` has the same"):
        model.fit(X[:100], y[:100])
    cold = clone(model).set_params(warm_start=False)
    assert cold.fit(X, y).loss_curve_ == cold.fit(X, y).loss_curve_ == first


@unfinished
def test_early_stopping_keeps_the_weights_of_the_best_score(line):
    X, y = line
    noisy = y + np.random.default_rng(1).normal(size=120)
    model = KFACRegressor(**FIXED, early_stopping=True, n_iter_no_change=6, max_iter=60).fit(
        X, noisy
    )
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_
    seed = int(check_random_state(0).randint(2**31 - 1))
    order = canonical_order(X, noisy.reshape(-1, 1), None)
    held = order[held_out(120, None, 0.1, seed)[1]]
    score = r2_score(noisy[held], model.predict(X[held]))
    assert score == pytest.approx(model.best_validation_score_, rel=1e-4)
    with pytest.raises(ValueError, match="The validation set is too small"):
        KFACRegressor(**FIXED, early_stopping=True).fit(X[:10], y[:10])


def test_the_loss_curve_holds_mean_losses_of_epochs(line):
    X, y = line
    model = KFACRegressor(**{**FIXED, "learning_rate": 1e-9}, max_iter=2, batch_size=50, tol=0.0)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        model.fit(X, y)
    expected = 0.5 * np.mean((model.predict(X) - y) ** 2) / y.var()
    np.testing.assert_allclose(model.loss_curve_, expected, rtol=1e-5)


@unfinished
def test_several_targets_several_labels_text_and_one_class(line, iris):
    X, y = line
    patient = {"alpha": 0.0, "max_iter": 300, "tol": 1e-6, "n_iter_no_change": 50}
    both = KFACRegressor(**FIXED, **patient).fit(X, np.column_stack([y, 100 - 5 * y]))
    assert both.predict(X).shape == (120, 2)
    assert both.score(X, np.column_stack([y, 100 - 5 * y])) > 0.99
    L, labels = make_multilabel_classification(200, n_features=8, n_classes=3, random_state=0)
    many = KFACClassifier(**FIXED, alpha=1e-3).fit(L, labels)
    assert many.predict(L).shape == many.predict_proba(L).shape == (200, 3)
    assert accuracy_score(labels, many.predict(L)) > 0.8
    words = np.array(["setosa", "versicolor", "virginica"])[iris[1]]
    text = KFACClassifier(**FIXED).fit(iris[0], words)
    assert text.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert text.score(iris[0], words) > 0.95
    one = KFACClassifier(**FIXED).fit(iris[0][:50], iris[1][:50])
    assert (one.predict(iris[0]) == 0).all()
    assert (one.predict_proba(iris[0]) == 1).all()
    with pytest.raises(ValueError, match="Multioutput target data is not supported"):
        KFACClassifier(**FIXED).fit(X, np.tile([[0, 1], [1, 2], [2, 0]], (40, 1)))


@unfinished
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_pipelines_and_searches(iris, frame):
    X, y = iris
    names = ["a", "b", "c", "d"]
    data = frame(dict(zip(names, X.T, strict=True)))
    model = make_pipeline(StandardScaler(), KFACClassifier(**FIXED, max_iter=20)).set_output(
        transform="pandas" if frame is pd.DataFrame else "polars"
    )
    assert model.fit(data, y)[-1].feature_names_in_.tolist() == names
    assert cross_val_score(model, data, y, cv=3).mean() > 0.8
    grid = GridSearchCV(KFACClassifier(**FEW), {"alpha": [1e-3, 1e-1]}, cv=2).fit(data, y)
    assert grid.predict(data).shape == (150,)


def test_callbacks_see_each_epoch_with_an_estimator_that_predicts(iris):
    from sklearn.callback import ScoringMonitor

    X, y = iris
    words = np.array(["a", "b", "c"])[y]
    monitor = ScoringMonitor(scoring="accuracy")
    model = KFACClassifier(**FIXED).set_callbacks(monitor).fit(X, words)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == model.n_iter_
    assert rows[-1]["accuracy"] == model.score(X, words)
    assert rows[0]["accuracy"] <= rows[-1]["accuracy"]

    class Stop:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 3

    assert KFACClassifier(**FIXED).set_callbacks(Stop()).fit(X, y).n_iter_ == 4


def test_metadata_requests_weights(iris):
    X, y = iris
    with sklearn.config_context(enable_metadata_routing=True):
        model = KFACClassifier(**FIXED).set_fit_request(sample_weight=True)
        scale = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scale, model)
        pipeline.fit(X, y, sample_weight=np.array([1.0, 0.0, 0.0])[y])
    assert (pipeline.predict(X) == 0).all()  # of the other classes it saw nothing


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "lbfgs"}, "The 'solver' parameter of KFACClassifier must be"),
        ({"learning_rate": "adaptive"}, "The 'learning_rate' parameter of KFACClassifier must be"),
        ({"damping": 0.0}, "The 'damping' parameter of KFACClassifier must be"),
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes must be > 0, got"),
        ({"max_iter": 0}, "The 'max_iter' parameter of KFACClassifier must be"),
    ],
)
def test_bad_settings_are_refused_in_scikit_learns_words(iris, options, words):
    with pytest.raises(ValueError, match=words):
        KFACClassifier(**{**FIXED, **options}).fit(*iris)


def test_the_three_are_public_and_lazy():
    for name in ("FisherSearchCV", "KFACClassifier", "KFACRegressor"):
        assert name in fisherbo.__all__
        assert getattr(fisherbo, name).__module__.startswith("fisherbo.estimators")


@pytest.mark.slow
def test_with_defaults_it_reads_digits():
    X, y = load_digits(return_X_y=True)
    assert cross_val_score(KFACClassifier(random_state=0), X, y, cv=3).mean() > 0.93


@unfinished
@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(lambda n: np.where(np.arange(n) == 0, 2, np.arange(n) % 2), id="one of three"),
        pytest.param(lambda n: (np.arange(n) == 0).astype(int), id="one of two"),
        pytest.param(lambda n: np.arange(n) // 2, id="more classes than rows held out"),
        pytest.param(
            np.arange,
            id="a class a row",
            marks=pytest.mark.filterwarnings("ignore:The number of unique classes"),
        ),
    ],
)
def test_early_stopping_takes_classes_of_few_rows(line, classes):
    X, _ = line
    y = classes(len(X))
    model = KFACClassifier(early_stopping=True, **FEW).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_
    np.testing.assert_array_equal(model.classes_, np.unique(y))


def test_the_only_row_of_a_class_is_trained_on():
    classes = np.arange(40) % 2
    classes[3] = 2
    for seed in range(30):
        training, held = held_out(40, classes, 0.2, seed)
        assert 3 in training
        assert sorted([*training, *held]) == list(range(40))
        assert np.bincount(classes[held])[:2].tolist() == [4, 4]  # stratified without it
