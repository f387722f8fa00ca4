import pickle
import time
import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from optuna.pruners import WilcoxonPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from fisherbo import FisherPruner, FisherSearchCV
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.reports import reports_of

C = {"C": loguniform(1e-3, 1e3)}


def quick(estimator=None, space=None, **options):
    """A search by random candidates: what is tested is not the sampler."""
    options = {"n_trials": 5, "cv": 3, "sampler": RandomSampler(seed=0), **options}
    return FisherSearchCV(SVC() if estimator is None else estimator, space or C, **options)


class Fragile(ClassifierMixin, BaseEstimator):
    """Constant, with a score of `level`; does not fit where `level` is negative."""

    def __init__(self, level=0.5):
        self.level = level

    def fit(self, X, y):
        if self.level < 0:
            raise ArithmeticError("level is negative")
        self.classes_ = np.unique(y)
        return self

    def score(self, X, y):
        return self.level


class Noted(Fragile):
    """Notes the numbers of rows that it was fitted on."""

    fits: ClassVar[list[int]] = []

    def fit(self, X, y):
        Noted.fits.append(len(X))
        return super().fit(X, y)


def test_results_have_the_keys_and_attributes_of_randomized_search(iris):
    X, y = iris
    ours = quick(return_train_score=True).fit(X, y)
    theirs = RandomizedSearchCV(
        SVC(), C, n_iter=5, cv=3, return_train_score=True, random_state=0
    ).fit(X, y)
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    learned = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert learned <= set(vars(ours)) | set(dir(ours))
    for key, column in theirs.cv_results_.items():
        assert type(ours.cv_results_[key]) is type(column), key
    assert ours.best_score_ == ours.cv_results_["mean_test_score"].max()
    assert ours.best_params_ == ours.cv_results_["params"][ours.best_index_]
    assert ours.score(X, y) == ours.best_estimator_.score(X, y)
    assert ours.study_.best_value == ours.best_score_


def test_candidates_are_scored_as_grid_search_scores_them(iris):
    X, y = iris
    ours = quick(return_train_score=True).fit(X, y)
    grid = [{name: [value] for name, value in p.items()} for p in ours.cv_results_["params"]]
    theirs = GridSearchCV(SVC(), grid, cv=3, return_train_score=True).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "split2_train_score", "rank_test_score"):
        np.testing.assert_array_equal(ours.cv_results_[key], theirs.cv_results_[key])


def test_nested_cross_validation_is_stratified_and_leaks_nothing(iris, tmp_path):
    X, y = iris  # sorted by class: unstratified thirds would score 0
    assert cross_val_score(quick(), X, y, cv=3).min() > 0.8
    search = quick(storage=str(tmp_path / "study.db"))
    kept = [clone(search).fit(X[rows], y[rows]) for rows in (slice(0, None, 2), slice(1, None, 2))]
    assert [len(s.study_.trials) for s in kept] == [5, 5]
    assert kept[0].study_.study_name != kept[1].study_.study_name
    twice = quick()
    first = twice.fit(X, y).study_
    assert twice.fit(X[:100], y[:100]).study_ is not first
    assert len(twice.study_.trials) == len(first.trials) == 5


def test_clone_and_pickle_keep_the_search(iris):
    X, y = iris
    search = quick(random_state=3).fit(X, y)
    copied = clone(search)
    assert not hasattr(copied, "study_")
    np.testing.assert_array_equal(
        copied.fit(X, y).cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )
    loaded = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    assert len(loaded.study_.trials) == 5


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_pipelines_column_transformers_and_set_output(iris, frame):
    X, y = iris
    columns = {f"x{i}": X[:, i] for i in range(4)} | {
        "kind": ["a" if v > 3 else "b" for v in X[:, 2]]
    }
    data = frame(columns)
    encode = ColumnTransformer(
        [
            ("number", MinMaxScaler(), ["x0", "x1", "x2", "x3"]),
            ("kind", OneHotEncoder(sparse_output=False), ["kind"]),
        ]
    ).set_output(transform="pandas" if frame is pd.DataFrame else "polars")
    pipeline = Pipeline([("encode", encode), ("clf", LogisticRegression())])
    search = quick(
        pipeline, {"clf__C": C["C"], "encode__number": [MinMaxScaler(), StandardScaler()]}
    )
    search.fit(data, y)
    assert list(search.feature_names_in_) == list(columns)
    assert search.predict(data).shape == (150,)
    assert search.best_score_ > 0.8
    reduced = make_pipeline(quick(PCA(), {"n_components": [1, 2]}, n_trials=2))
    kind = "pandas" if frame is pd.DataFrame else "polars"
    assert isinstance(reduced.set_output(transform=kind).fit(X).transform(X), frame)


def test_several_metrics_one_is_improved_or_all_are(iris):
    X, y = iris
    metrics = ["accuracy", "neg_log_loss"]
    space, model = {"C": loguniform(1e-3, 1e2)}, LogisticRegression(max_iter=1000)
    one = quick(model, space, scoring=metrics, refit="neg_log_loss").fit(X, y)
    assert one.multimetric_
    assert set(one.scorer_) == set(metrics)
    assert (
        one.study_.best_value == one.best_score_ == one.cv_results_["mean_test_neg_log_loss"].max()
    )

    def second(results):
        return int(np.argsort(results["rank_test_accuracy"])[1])

    all_ = quick(model, space, scoring=metrics, refit=second).fit(X, y)
    assert len(all_.study_.directions) == 2
    assert all_.best_index_ == second(all_.cv_results_)
    assert not hasattr(all_, "best_score_")
    with pytest.raises(ValueError, match="For multi-metric scoring, the parameter refit must be"):
        quick(model, space, scoring=metrics).fit(X, y)

    def told(estimator, X, y):
        return {"a": estimator.score(X, y), "b": 1.0}

    named = quick(model, space, scoring=told, refit="a").fit(X, y)
    assert named.best_score_ == named.cv_results_["mean_test_a"].max()


def test_metadata_is_routed(line):
    X, y = line
    groups = np.repeat(np.arange(6), 20)
    weight = np.linspace(0, 1, 120)
    space = {"alpha": loguniform(1e-3, 1e3)}
    with sklearn.config_context(enable_metadata_routing=True):
        model = Ridge().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        search = quick(model, space, cv=GroupKFold(3)).fit(
            X, y, groups=groups, sample_weight=weight
        )
        chosen = Ridge(**search.best_params_).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(search.best_estimator_.coef_, chosen.coef_)
        with pytest.raises(TypeError, match="unexpected argument"):
            quick(model, space).fit(X, y, nonsense=weight)
    plain = quick(Ridge(), space, cv=GroupKFold(3)).fit(X, y, groups=groups)
    assert plain.n_splits_ == 3


def test_steps_of_a_pipeline_bring_their_own_parameters(iris):
    X, y = iris
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", SVC())])
    space = [
        {"clf": [SVC()], "clf__C": C["C"], "scale": ["passthrough", StandardScaler()]},
        {"clf": [RandomForestClassifier(n_estimators=5)], "clf__max_depth": [1, 2, 3]},
        {"clf": [GaussianNB()]},
    ]
    search = FisherSearchCV(pipeline, space, n_trials=16, cv=3, random_state=0).fit(X, y)
    for params in search.cv_results_["params"]:
        forest = isinstance(params["clf"], RandomForestClassifier)
        assert ("clf__max_depth" in params) == forest
        assert ("clf__C" in params) == isinstance(params["clf"], SVC)
    assert len({type(p["clf"]) for p in search.cv_results_["params"]}) == 3
    assert type(search.best_estimator_["clf"]) is type(search.best_params_["clf"])


def test_a_pruned_candidate_is_never_chosen_and_the_refit_sees_all_rows(cancer):
    X, y = cancer
    Noted.fits.clear()
    search = quick(
        Noted(), {"level": uniform(0, 1)}, n_trials=12, cv=5, pruning=True, error_score="raise"
    ).fit(X, y)
    pruned = search.cv_results_["pruned"]
    levels = np.array([p["level"] for p in search.cv_results_["params"]])
    best = np.maximum.accumulate(levels)
    np.testing.assert_array_equal(pruned, levels < best)  # all folds agree: three are enough
    assert 0 < pruned.sum() < 12
    assert Noted.fits == [160] * (3 * int(pruned.sum()) + 5 * int((~pruned).sum())) + [200]
    assert search.best_params_["level"] == levels.max()
    mean = search.cv_results_["mean_test_score"]
    np.testing.assert_array_equal(np.isnan(mean), pruned)
    assert np.isnan(search.cv_results_["split3_test_score"][pruned]).all()
    assert not np.isnan(search.cv_results_["split2_test_score"]).any()
    assert (
        search.cv_results_["rank_test_score"][~pruned].max()
        < search.cv_results_["rank_test_score"][pruned].min()
    )
    states = [trial.state for trial in search.study_.trials]
    assert [state == TrialState.PRUNED for state in states] == pruned.tolist()


def test_with_pruning_a_candidate_that_fails_has_no_further_folds(cancer):
    X, y = cancer
    Noted.fits.clear()

    def told(estimator, X, y):
        return {"a": estimator.level, "b": 1.0}

    search = quick(
        Noted(), {"level": uniform(-1, 2)}, cv=5, n_trials=10, pruning=True, scoring=told, refit="a"
    )
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        search.fit(X, y)
    failed = np.array([p["level"] < 0 for p in search.cv_results_["params"]])
    assert failed.any()
    assert not search.cv_results_["pruned"][failed].any()
    assert np.isnan(search.cv_results_["mean_test_b"][failed]).all()
    assert sum(n == 160 for n in Noted.fits) < 5 * 10 - 4 * failed.sum() + 1
    assert search.best_params_["level"] == max(p["level"] for p in search.cv_results_["params"])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_pruners_of_optuna_serve_and_several_objectives_do_not(cancer):
    X, y = cancer
    eager = quick(
        Fragile(), {"level": uniform(0, 1)}, cv=5, pruning=WilcoxonPruner(p_threshold=0.3)
    )
    assert eager.fit(X, y).cv_results_["pruned"].any()
    both = quick(DummyClassifier(), {"constant": [0, 1]}, scoring=["accuracy", "f1"], refit=False)
    with pytest.raises(ValueError, match="pruning needs one metric, got 2"):
        both.set_params(pruning=True).fit(X, y)


@pytest.mark.parametrize("scoring", [None, ["accuracy", "f1"]])
def test_the_pruner_of_learning_curves_is_told_the_mean_of_the_folds(cancer, scoring):
    X, y = cancer
    search = FisherSearchCV(
        SVC(),
        {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-5, 10)},
        n_trials=25,
        cv=6,
        scoring=scoring,
        refit=False,
        pruning=FisherPruner(),
        random_state=0,
    ).fit(X, y)
    results, pruned = search.cv_results_, search.cv_results_["pruned"]
    assert 0 < pruned.sum() < 25
    for j, metric in enumerate(scoring or ["score"]):
        for trial, folds in zip(search.study_.trials, zip(
            *(results[f"split{k}_test_{metric}"] for k in range(6)), strict=True
        ), strict=True):  # fmt: skip
            told = list(reports_of(trial, len(scoring or [1]))[j].values())
            expected = np.cumsum(folds)[: len(told)] / np.arange(1, len(told) + 1)
            np.testing.assert_allclose(told, expected)
            if trial.state == TrialState.COMPLETE:
                assert trial.values[j] == pytest.approx(told[-1])


def test_the_time_budget_ends_the_search(iris):
    X, y = iris

    class Slow(Fragile):
        def fit(self, X, y):
            time.sleep(0.05)
            return super().fit(X, y)

    search = quick(Slow(), {"level": uniform(0, 1)}, n_trials=1000, timeout=0.5).fit(X, y)
    assert 1 <= len(search.cv_results_["params"]) <= 4
    assert search.best_estimator_.level == search.best_params_["level"]


def test_the_model_is_used_after_a_fifth_of_the_trials(line):
    def levels(n_trials):
        search = FisherSearchCV(
            Fragile(),
            {"level": uniform(0, 1)},
            n_trials=n_trials,
            cv=2,
            refit=False,
            random_state=0,
        )
        return list(search.fit(*line).cv_results_["param_level"])

    short, middling, long = levels(12), levels(40), levels(60)
    assert short[:5] == middling[:5]
    assert short[5] != middling[5]
    assert middling[:8] == long[:8]
    assert middling[8] != long[8]


def test_a_search_goes_on_where_it_stopped(iris, tmp_path):
    X, y = iris
    storage = str(tmp_path / "study.db")
    space = {"C": C["C"], "kernel": ["rbf", "linear"]}

    def search(n_trials, **options):
        return FisherSearchCV(SVC(), space, n_trials=n_trials, cv=3, random_state=1, **options)

    whole = search(14).fit(X, y)
    begun = search(6, storage=storage).fit(X, y)
    ended = search(14, storage=storage).fit(X, y)
    assert ended.study_.study_name == begun.study_.study_name
    assert ended.cv_results_["params"] == whole.cv_results_["params"]
    np.testing.assert_array_equal(
        ended.cv_results_["split1_test_score"], whole.cv_results_["split1_test_score"]
    )
    assert ended.best_params_ == whole.best_params_
    assert len(search(14, storage=storage).fit(X, y).study_.trials) == 14  # nothing is left to do


def test_a_search_of_several_metrics_goes_on_too(iris, tmp_path):
    X, y = iris
    options = {"storage": str(tmp_path / "study.db"), "scoring": ["accuracy", "f1_macro"]}
    quick(n_trials=2, refit="f1_macro", **options).fit(X, y)
    ended = quick(n_trials=4, refit="f1_macro", **options).fit(X, y)
    assert len(ended.study_.trials) == len(ended.cv_results_["mean_test_accuracy"]) == 4


def test_a_search_that_was_interrupted_leaves_no_trial_running(iris, tmp_path):
    X, y = iris
    calls = tmp_path / "calls"  # kept apart: what a scorer captures is a part of it
    calls.touch()

    def stop(estimator, X, y):
        calls.write_text(calls.read_text() + "x")
        if len(calls.read_text()) == 8:
            raise KeyboardInterrupt
        return estimator.score(X, y)

    options = {"storage": str(tmp_path / "study.db"), "study_name": "mine", "scoring": stop}
    with pytest.raises(KeyboardInterrupt):
        quick(**options).fit(X, y)
    resumed = quick(**options).fit(X, y)
    states = [trial.state for trial in resumed.study_.trials]
    assert states.count(TrialState.COMPLETE) == 5
    assert states.count(TrialState.FAIL) == 1
    assert len(resumed.cv_results_["params"]) == 5


def test_a_named_study_of_other_data_is_refused(iris, tmp_path):
    X, y = iris
    search = quick(storage=str(tmp_path / "study.db"), study_name="mine").fit(X, y)
    assert search.study_.study_name == "mine"
    with pytest.raises(InvalidInputError, match="made with other data"):
        search.fit(X[:100], y[:100])
    with pytest.raises(InvalidInputError, match="made with other space"):
        clone(search).set_params(param_distributions={"C": [1.0, 2.0, 3.0]}).fit(X, y)


@pytest.mark.slow
def test_batches_run_in_processes_and_differ_within(iris):
    X, y = iris
    search = FisherSearchCV(
        SVC(), C, n_trials=16, cv=3, n_jobs=2, batch_size=4, random_state=0, pruning=False
    ).fit(X, y)
    values = [p["C"] for p in search.cv_results_["params"]]
    for start in range(0, 16, 4):
        assert len(set(values[start : start + 4])) == 4
    alone = FisherSearchCV(SVC(), C, n_trials=16, cv=3, batch_size=4, random_state=0).fit(X, y)
    assert [p["C"] for p in alone.cv_results_["params"]] == values
    pruned = FisherSearchCV(SVC(), C, n_trials=8, cv=5, n_jobs=2, pruning=True).fit(X, y)
    assert len(pruned.cv_results_["params"]) == 8


def test_randomised_splits_are_drawn_once(line):
    X, y = line
    search = quick(Ridge(), {"alpha": [1.0, 1.0]}, cv=ShuffleSplit(3), n_trials=2).fit(X, y)
    first, second = (search.cv_results_[f"split{k}_test_score"] for k in (0, 1))
    assert first[0] == first[1]
    assert second[0] == second[1]


def test_finite_spaces_are_gone_through_once(iris):
    X, y = iris
    search = quick(space={"C": [0.1, 1, 10], "kernel": ["rbf", "linear"]}, n_trials=50)
    with pytest.warns(
        UserWarning, match="The total space of parameters 6 is smaller than n_trials"
    ):
        search.fit(X, y)
    points = {tuple(p.values()) for p in search.cv_results_["params"]}
    assert len(points) == len(search.cv_results_["params"]) == 6


class Tape:
    """Callback of scikit-learn that notes the tasks, and stops after some batches."""

    def __init__(self, batches=99):
        self.batches = batches
        self.begun, self.ended, self.torn = [], [], 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.torn += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        return self.ended.count("batch") >= self.batches


def test_callbacks_hear_of_every_task_and_may_stop_the_search(iris):
    X, y = iris
    tape = Tape()
    quick(batch_size=2).set_callbacks(tape).fit(X, y)
    assert sorted(tape.begun) == sorted(tape.ended)
    counts = {name: tape.begun.count(name) for name in set(tape.begun)}
    assert counts == {
        "fit": 1,
        "search": 1,
        "batch": 3,
        "candidate-split-evaluation": 15,
        "refit-with-best-params": 1,
    }
    assert tape.torn == 1
    search = quick().set_callbacks(Tape(batches=2)).fit(X, y)
    assert len(search.cv_results_["params"]) == 2


def test_the_progress_bar_of_scikit_learn_shows_the_search(iris, capsys):
    from sklearn.callback import ProgressBar

    X, y = iris
    quick().set_callbacks(ProgressBar(max_propagation_depth=0)).fit(X, y)
    shown = capsys.readouterr().out
    assert "FisherSearchCV - search" in shown
    assert "100%" in shown


def test_bad_spaces_and_names_are_refused_before_anything_is_fitted(iris):
    X, y = iris
    with pytest.raises(ValueError, match="Invalid parameter 'CC' for estimator SVC"):
        quick(space={"CC": [1, 2]}).fit(X, y)
    with pytest.raises(ValueError, match="Invalid parameter 'gama'"):
        quick(space=[C, {"gama": [1.0, 2.0]}]).fit(X, y)
    with pytest.raises(ValueError, match="No fits were performed"):
        FisherSearchCV(SVC(), []).fit(X, y)
    with pytest.raises(ValueError, match="need to be a non-empty sequence, got"):
        quick(space={"C": []}).fit(X, y)
    with pytest.raises(TypeError, match="is not iterable or a distribution"):
        quick(space={"C": 1.0}).fit(X, y)
    with pytest.raises(ValueError, match="The 'n_trials' parameter of FisherSearchCV must be"):
        quick(n_trials=0).fit(X, y)
    with pytest.raises(ValueError, match="The 'sampler' parameter of FisherSearchCV must be"):
        quick(sampler="tpe").fit(X, y)
    with pytest.warns(UserWarning, match="The total space of parameters 1 is smaller"):
        assert FisherSearchCV(SVC(), {}).fit(X, y).best_params_ == {}


def test_failing_folds_are_told_of_as_in_scikit_learn(iris):
    X, y = iris
    bad, mixed = {"level": uniform(-2, 1)}, {"level": uniform(-1, 2)}
    with pytest.raises(ValueError, match="All the 15 fits failed"):
        quick(Fragile(), bad).fit(X, y)
    with pytest.raises(ArithmeticError, match="level is negative"):
        quick(Fragile(), bad, error_score="raise").fit(X, y)
    with pytest.warns(FitFailedWarning, match="fits failed out of a total of 30"):
        with pytest.warns(UserWarning, match="One or more of the test scores are non-finite"):
            search = quick(Fragile(), mixed, n_trials=10).fit(X, y)
    negative = np.array([p["level"] < 0 for p in search.cv_results_["params"]])
    failed = np.array([t.state == TrialState.FAIL for t in search.study_.trials])
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), negative)
    np.testing.assert_array_equal(failed, negative)
    assert negative.any()
    assert search.best_params_["level"] >= 0
    with pytest.warns(FitFailedWarning):
        scored = quick(Fragile(), mixed, n_trials=10, error_score=-1.0).fit(X, y)
    assert (scored.cv_results_["mean_test_score"][negative] == -1).all()


def test_nothing_is_printed_or_changed_globally(iris, capsys):
    import optuna

    X, y = iris
    before = optuna.logging.get_verbosity()
    filters = list(warnings.filters)
    np.random.seed(5)  # noqa: NPY002  # the global state is what is watched
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    space = {"var_smoothing": loguniform(1e-12, 1)}
    FisherSearchCV(GaussianNB(), space, n_trials=12, cv=3, random_state=0).fit(X, y)
    assert optuna.logging.get_verbosity() == before
    assert warnings.filters == filters
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    seen = capsys.readouterr()
    assert seen.out == seen.err == ""
