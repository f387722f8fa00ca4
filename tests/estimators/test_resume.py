"""With a storage: which searches go on with a study, and what is left of one that was cut short."""

import itertools
import operator
import os
import pickle
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import optuna
import pandas as pd
import pytest
import sklearn
from joblib import Memory
from optuna.samplers import BruteForceSampler, GridSampler, RandomSampler
from optuna.trial import TrialState
from scipy.stats import expon, loguniform, rv_histogram
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, fbeta_score, make_scorer
from sklearn.model_selection import RandomizedSearchCV, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from fisherbo import FisherSearchCV
from fisherbo.errors import InvalidInputError

C = {"C": loguniform(0.1, 10)}
PIPE_C = {"clf__C": loguniform(0.1, 10)}


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "study.db")


@pytest.fixture
def pair(iris):
    """Two classes of few rows, which everything is quick on."""
    X, y = iris
    return X[30:70], y[30:70]


def quick(estimator=None, space=None, **options):
    options = {"n_trials": 2, "cv": 2, "sampler": RandomSampler(seed=0), **options}
    return FisherSearchCV(SVC() if estimator is None else estimator, space or C, **options)


def pipe(*steps, **options):
    return Pipeline([*steps, ("clf", SVC())], **options)


class Told(ClassifierMixin, BaseEstimator):
    """Takes a parameter of `fit` that pickle refuses."""

    def __init__(self, level=0.5):
        self.level = level

    def fit(self, X, y, metric=None, sample_weight=None):
        self.classes_ = np.unique(y)
        self.level_ = self.level if metric is None else metric(self.level)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.level_


def mask(begin):
    chosen = np.zeros(2000, bool)
    chosen[begin : begin + 2] = True
    return pipe(("mask", ColumnTransformer([("kept", "passthrough", chosen)])))


def scaled(factor):
    return pipe(("scale", FunctionTransformer(lambda X: X * factor)))


def score(level):
    return lambda estimator, X, y: level


def weighted(beta):
    def score(y, found):
        return fbeta_score(y, found, beta=beta, average="macro")

    return make_scorer(score)


def splits(seed):
    return StratifiedKFold(2, shuffle=True, random_state=np.random.RandomState(seed))


def forest(seed):
    return RandomForestClassifier(2, random_state=np.random.RandomState(seed))


SECONDS = {
    "list of numbers": lambda i: quick(space={"C": [[1e-4, 1e-3, 1e-2], [0.5, 1.0, 20.0]][i]}),
    "order of choices": lambda i: quick(space={"kernel": ["rbf", "linear", "poly"][:: 1 - 2 * i]}),
    "tuples": lambda i: quick(
        MLPClassifier(max_iter=2, random_state=0),
        {"hidden_layer_sizes": [[(1,), (2,), (3,)], [(4,), (5,), (6,)]][i]},
    ),
    "estimators": lambda i: quick(pipe(), {"clf": [SVC(C=[1e-4, 1][i]), SVC(C=9), SVC(C=99)]}),
    "one estimator": lambda i: quick(pipe(), {"clf": [SVC(kernel=["rbf", "poly"][i])], **PIPE_C}),
    "distribution": lambda i: quick(space={"C": expon(scale=[1e-3, 10][i])}),
    "function of a step": lambda i: quick(scaled([0, 1][i]), PIPE_C),
    "functions in the space": lambda i: quick(
        pipe(("scale", FunctionTransformer())),
        {"scale__func": [lambda X, i=i: i * X, operator.neg, operator.pos]},
    ),
    "long array": lambda i: quick(mask([990, 1000][i]), PIPE_C),
    "scorer": lambda i: quick(scoring=score([0.25, 0.75][i])),
    "what a scorer captures": lambda i: quick(scoring=weighted([0.1, 10][i])),
    "one scorer of several": lambda i: quick(
        scoring={"a": "accuracy", "b": weighted([0.1, 10][i])}, refit="a"
    ),
    "name of a scorer": lambda i: quick(scoring=["accuracy", "f1_macro"][i]),
    "seed of the splits": lambda i: quick(cv=splits(i)),
    "seed of the estimator": lambda i: quick(forest(i), {"max_depth": [1, 2, 3]}),
    "error score": lambda i: quick(error_score=[0.0, 1.0][i]),
    "train scores": lambda i: quick(return_train_score=[False, True][i]),
    "pipeline's output": lambda i: quick(
        pipe(("scale", StandardScaler())).set_output(transform=["default", "pandas"][i]), PIPE_C
    ),
}


@pytest.mark.parametrize("make", SECONDS.values(), ids=SECONDS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_decides_a_score_begins_a_new_study_and_the_same_goes_on(pair, storage, make):
    X, y = pair
    X = np.tile(X, 500) if "mask" in make(0).estimator.get_params() else X
    first = make(0).set_params(storage=storage).fit(X, y)
    changed = make(1).set_params(storage=storage).fit(X, y)
    assert changed.study_.study_name != first.study_.study_name
    alone = make(1).fit(X, y)
    assert changed.cv_results_["params"].__repr__() == alone.cv_results_["params"].__repr__()
    for column in alone.cv_results_:
        if column.startswith("split"):
            np.testing.assert_array_equal(changed.cv_results_[column], alone.cv_results_[column])
    again = make(0).set_params(storage=storage).fit(X, y)
    assert again.study_.study_name == first.study_.study_name
    assert len(again.study_.trials) == 2


DATA = {
    "rows": lambda X, y: (X[1:], y[1:], {}),
    "one value": lambda X, y: (np.where(X == X[3, 2], 9.0, X), y, {}),
    "classes": lambda X, y: (X, y[::-1], {}),
    "type": lambda X, y: (X.astype(np.float32), y, {}),
    "frame": lambda X, y: (pd.DataFrame(X), y, {}),
    "names of columns": lambda X, y: (pd.DataFrame(X, columns=list("abcd")), y, {}),
    "weights": lambda X, y: (X, y, {"sample_weight": np.arange(len(y)) + 1.0}),
}


def test_other_data_begin_new_studies(pair, storage):
    search = quick(Told(), {"level": [0.1, 0.2, 0.3]}, storage=storage, scoring="accuracy")
    search.set_params(estimator=LogisticRegression(max_iter=1000), param_distributions=C)
    names = [search.fit(*pair).study_.study_name]
    for change in DATA.values():
        X, y, params = change(*pair)
        for _ in range(2):
            names.append(search.fit(X, y, **params).study_.study_name)
            assert len(search.study_.trials) == 2
    assert names[1::2] == names[2::2]
    assert len(set(names)) == 1 + len(DATA)


SPACE = {"clf__C": loguniform(0.1, 10), "clf__gamma": loguniform(0.1, 1)}
SAME = {
    "n_trials": {"n_trials": 4},
    "random_state": {"random_state": 5},
    "sampler": {"sampler": None},
    "n_jobs": {"n_jobs": 1},
    "batch_size": {"batch_size": 2},
    "timeout": {"timeout": 99.0},
    "pruning": {"pruning": True},
    "verbose": {"verbose": 1, "estimator__verbose": True},
    "order of names": {"param_distributions": dict(reversed(SPACE.items()))},
    "memory": {"estimator__memory": Memory(None, verbose=0)},
}


@pytest.mark.parametrize("options", SAME.values(), ids=SAME)
def test_what_decides_no_score_goes_on_with_the_study(pair, storage, options, capfd):
    def search():
        return quick(pipe(("scale", StandardScaler())), SPACE, storage=storage)

    first = search().fit(*pair)
    ended = search().set_params(**options).fit(*pair)
    assert ended.study_.study_name == first.study_.study_name
    assert len(ended.study_.trials) == options.get("n_trials", 2)
    assert ended.cv_results_["params"][:2] == first.cv_results_["params"]


def test_fitted_estimators_and_the_global_random_state_do_not_count(pair, storage):
    estimator = SVC()
    space = {"C": expon(), "gamma": rv_histogram(([1, 2], [0.5, 1, 1.5])), "tol": [1e-3, 1e-4]}
    search = quick(estimator, space, storage=storage)
    first = search.fit(*pair).study_.study_name
    estimator.fit(*pair)
    for copied in (search, clone(search), pickle.loads(pickle.dumps(clone(search)))):
        np.random.random()  # noqa: NPY002  # scipy's distributions hold the state that this moves
        assert copied.fit(*pair).study_.study_name == first


def test_nested_cross_validation_goes_on_with_the_study_of_each_fold(pair, storage):
    search = quick(storage=storage)
    for _ in range(2):
        cross_val_score(search, *pair, cv=2)
        assert len(optuna.get_all_study_names(f"sqlite:///{storage}")) == 2


def test_another_version_of_scikit_learn_begins_a_new_study(pair, storage, monkeypatch):
    search = quick(storage=storage, scoring="accuracy")
    first = search.fit(*pair).study_.study_name
    monkeypatch.setattr(sklearn, "__version__", "0.0")
    assert search.fit(*pair).study_.study_name != first


def test_parameters_of_fit_that_pickle_refuses_are_read(pair, storage):
    def fit(factor):
        search = quick(Told(), {"level": [0.1, 0.2, 0.3]}, storage=storage)
        return search.fit(*pair, metric=lambda level: factor * level)

    first, second, again = fit(1), fit(2), fit(1)
    assert first.study_.study_name == again.study_.study_name != second.study_.study_name
    assert len(again.study_.trials) == 2
    assert second.best_score_ == 2 * second.best_params_["level"]


def test_what_cannot_be_read_is_told_of_and_never_gone_on_with(pair, storage):
    lock = threading.Lock()

    def locked(estimator, X, y):
        with lock:
            return estimator.score(X, y)

    search = quick(scoring=locked, storage=storage)
    names = []
    for _ in range(2):
        with pytest.warns(UserWarning, match="scoring of this search holds _thread.lock"):
            names.append(search.fit(*pair).study_.study_name)
        assert len(search.study_.trials) == 2
    assert names[0] != names[1]
    search.set_params(study_name="mine")
    with pytest.warns(UserWarning, match="no later search will go on with it"):
        search.fit(*pair)
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(
            InvalidInputError, match="'mine' in this storage was made with other scoring"
        ),
    ):
        search.fit(*pair)
    search.set_params(storage=None).fit(*pair)  # nothing to tell apart


def test_a_named_study_tells_in_what_it_differs(pair, storage):
    def search(factor, **options):
        space = {"clf__C": [1.0, 2.0, 5.0]}
        return quick(scaled(factor), space, storage=storage, study_name="mine", **options)

    search(1).fit(*pair)
    search(1).fit(*pair)
    with pytest.raises(InvalidInputError, match="was made with other estimator; choose"):
        search(2).fit(*pair)
    with pytest.raises(InvalidInputError, match="was made with other splits; choose"):
        search(1, cv=3).fit(*pair)


def test_verbose_tells_which_study_it_is(pair, storage, capsys):
    def begun(**options):
        quick(storage=storage, verbose=1, **options).fit(*pair)
        return capsys.readouterr().out.splitlines()[0]

    assert begun().startswith("Beginning study 'search-")
    assert begun().endswith("which has 2 candidates")
    assert begun(scoring="f1_macro").endswith("the first with this scoring")


SCRIPT = """
import sys
import numpy as np
from optuna.samplers import RandomSampler
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from fisherbo import FisherSearchCV

KINDS = {"some", "kinds", "of", "words"}

def score(estimator, X, y):
    return estimator.score(X, y) * len(KINDS)

X, y = load_iris(return_X_y=True)
model = make_pipeline(FunctionTransformer(lambda X: np.log(X)), SVC())
search = FisherSearchCV(
    model, {"svc__C": loguniform(0.1, 10)}, n_trials=int(sys.argv[2]), cv=2, storage=sys.argv[1],
    scoring=score, sampler=RandomSampler(seed=0), refit=False
).fit(X, y)
print(search.study_.study_name, len(search.study_.trials), search.best_score_ > 2)
"""


@pytest.mark.slow
def test_a_script_goes_on_in_another_process_until_its_code_changes(tmp_path, storage):
    script = tmp_path / "script.py"
    hash_seed = itertools.count(1)

    def run(text, n_trials):
        script.write_text(text)
        done = subprocess.run(
            [sys.executable, script, storage, str(n_trials)],
            env=os.environ | {"PYTHONHASHSEED": str(next(hash_seed))},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    name, *rest = run(SCRIPT, 2)
    assert rest == ["2", "True"]
    assert run("# a comment\n" + SCRIPT, 3) == [name, "3", "True"]
    changed, *rest = run(SCRIPT.replace("np.log(X)", "np.log1p(X)"), 2)
    assert changed != name
    assert rest == ["2", "True"]
    lower, *rest = run(SCRIPT.replace('"some", ', "").replace("estimator.score(X, y)", "0.5"), 2)
    assert lower not in (name, changed)
    assert rest == ["2", "False"]


class Stops(Told):
    """Raises in the fit after so many, counted in a file."""

    def __init__(self, level=0.5, file=None, fits=5, error=KeyboardInterrupt):
        super().__init__(level)
        self.file, self.fits, self.error = file, fits, error

    def fit(self, X, y):
        done = os.path.getsize(self.file) if os.path.exists(self.file) else 0
        with open(self.file, "a") as file:
            file.write("x")
        if done == self.fits:
            raise self.error("stop")
        return super().fit(X, y)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
@pytest.mark.parametrize("stored", [True, False])
def test_what_was_found_until_an_error_is_kept(pair, storage, tmp_path, error, stored):
    search = quick(
        Stops(file=str(tmp_path / "fits"), error=error),
        {"level": loguniform(0.1, 1)},
        n_trials=6,
        error_score="raise",
        storage=storage if stored else None,
    )
    with pytest.raises(error, match="stop"):
        search.fit(*pair)
    states = [trial.state for trial in search.study_.trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL]
    levels = [params["level"] for params in search.cv_results_["params"]]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], levels)
    assert search.best_score_ == search.best_params_["level"] == max(levels)
    assert not hasattr(search, "best_estimator_")
    with pytest.raises(NotFittedError):
        search.predict(pair[0])
    search.fit(*pair)
    assert len(search.cv_results_["params"]) == 6
    assert (search.cv_results_["params"][0]["level"] == levels[0]) or not stored
    assert search.predict(pair[0]).shape == pair[1].shape


def test_a_search_that_is_cut_short_leaves_nothing_of_the_one_before(pair, tmp_path):
    file = tmp_path / "fits"
    search = quick(Stops(file=str(file), fits=6), {"level": loguniform(0.1, 1)}, n_trials=2)
    search.fit(*pair)
    assert hasattr(search, "best_estimator_")
    file.write_text("x" * 6)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*pair)
    assert search.study_.trials[0].state == TrialState.FAIL
    assert not {"best_estimator_", "best_params_", "cv_results_", "scorer_"} & vars(search).keys()


def test_all_points_of_a_finite_space_are_evaluated_after_an_interrupt(pair, storage, tmp_path):
    levels = [0.1, 0.2, 0.5, 0.7]
    options = {"n_trials": 4, "cv": 2, "storage": storage}
    search = quick(Stops(file=str(tmp_path / "fits"), fits=3), {"level": levels}, **options)
    with pytest.raises(KeyboardInterrupt):
        search.fit(*pair)
    search.fit(*pair)
    assert sorted(p["level"] for p in search.cv_results_["params"]) == levels


KILLED = """
import os, signal, sys
from sklearn.datasets import load_iris
from sklearn.svm import SVC
from fisherbo import FisherSearchCV

def score(estimator, X, y):
    if estimator.C == 5.0 and os.path.exists(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return estimator.score(X, y)

search = FisherSearchCV(SVC(), {"C": [1.0, 2.0, 5.0, 9.0]}, n_trials=4, cv=2, storage=sys.argv[1],
    scoring=score).fit(*load_iris(return_X_y=True))
print(*[p["C"] for p in search.cv_results_["params"]])
print(*[trial.state.name for trial in search.study_.trials])
"""


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_database_in_memory_needs_no_heartbeat(pair):
    assert len(quick(storage="sqlite://").fit(*pair).study_.trials) == 2


@pytest.mark.slow
def test_a_killed_process_costs_its_candidate_alone(tmp_path, storage):
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    flag = tmp_path / "kill"
    flag.touch()
    command = [sys.executable, script, storage, flag]
    assert subprocess.run(command, check=False).returncode < 0
    flag.unlink()
    with sqlite3.connect(storage) as database:  # as if it were long ago
        database.execute("update trial_heartbeats set heartbeat = '2000-01-01 00:00:00'")
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(map(float, told[0].split())) == [1.0, 2.0, 5.0, 9.0]
    assert sorted(told[1].split()) == ["COMPLETE"] * 4 + ["FAIL"]


@pytest.mark.parametrize("kind", [GridSampler, BruteForceSampler])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_of_finite_spaces_may_end_the_search(pair, kind):
    sampler = kind({"kernel": ["rbf", "linear", "poly"]}) if kind is GridSampler else kind()
    space = {"kernel": ["rbf", "linear", "poly"], "C": [1.0]}
    for n_trials in (2, 3):
        search = quick(space=space, sampler=sampler, n_trials=n_trials).fit(*pair)
        assert len(search.study_.trials) == n_trials
        assert len({p["kernel"] for p in search.cv_results_["params"]}) == n_trials


def test_a_sampler_may_stop_before_there_are_enough(pair):
    class Few(RandomSampler):
        def after_trial(self, study, trial, state, values):
            if trial.number == 1:
                study.stop()

    search = quick(sampler=Few(seed=0), n_trials=9).fit(*pair)
    assert len(search.study_.trials) == 2
    with pytest.raises(RuntimeError, match="inside an objective function"):
        search.study_.stop()  # as before


@pytest.mark.parametrize("refit", ["nope", True])
@pytest.mark.parametrize("pruning", [False, True])
def test_refit_must_name_a_score_of_the_callable(pair, refit, pruning):
    def told(estimator, X, y):
        return {"accuracy": accuracy_score(y, estimator.predict(X))}

    options = {"scoring": told, "refit": refit}
    with pytest.raises(ValueError) as theirs:
        RandomizedSearchCV(SVC(), C, n_iter=2, **options).fit(*pair)
    search = quick(n_trials=5, pruning=pruning, cv=3, **options)
    with pytest.raises(ValueError) as ours:
        search.fit(*pair)
    assert str(ours.value) == str(theirs.value)
    assert [trial.state for trial in search.study_.trials] == [TrialState.FAIL]  # at once


WORKERS = """
import sys
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.svm import SVC

class Spy(SVC):
    def fit(self, X, y):
        self.heavy_ = "torch" in sys.modules or "fisherbo" in sys.modules
        return super().fit(X, y)

def heavy(estimator, X, y):
    return float(estimator.heavy_)

if __name__ == "__main__":
    from fisherbo import FisherSearchCV

    space = {"C": loguniform(0.1, 10)}
    search = FisherSearchCV(Spy(), space, n_trials=2, n_jobs=2, cv=2, scoring=heavy)
    print(search.fit(*load_iris(return_X_y=True)).best_score_)
"""


@pytest.mark.slow
def test_workers_import_nothing_that_the_estimator_does_not(tmp_path):
    (tmp_path / "script.py").write_text(WORKERS)
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.0"
