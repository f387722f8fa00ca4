"""The ready space of an estimator is that of `fisherbo.suggest`, in a search's words."""

import optuna
import pytest
from sklearn import utils
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import fisherbo
from fisherbo import FisherSearchCV
from fisherbo.estimators.ready import ready_space, ready_start
from fisherbo.estimators.spaces import as_space
from fisherbo.tuning.model_spaces import SPACES

optuna.logging.set_verbosity(optuna.logging.WARNING)
X, Y = load_iris(return_X_y=True)
ESTIMATORS = dict(utils.all_estimators())
OF_SKLEARN = [name for space in SPACES if space.package == "sklearn" for name in space.names]


def drawn(space, count=60):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        trial = study.ask()
        space.suggest(trial)
        yield space.decode(trial.params)


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_a_search_knows_the_same_arguments_as_a_trial(name):
    estimator = ESTIMATORS[name]()
    of_search = {frozenset(p) for p in drawn(as_space(ready_space(estimator)))}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    of_trials = {frozenset(fisherbo.suggest(study.ask(), name)) for _ in range(60)}
    assert of_search == of_trials


@pytest.mark.parametrize("name", OF_SKLEARN)
def test_the_start_is_the_default_point(name):
    estimator = ESTIMATORS[name]()
    space = as_space(ready_space(estimator))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(ready_start(estimator, space))
    first = study.ask()
    space.suggest(first)
    other = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    other.enqueue_trial(fisherbo.default_point(name))
    wanted = fisherbo.suggest(other.ask(), name)
    wanted.pop("gamma", None)  # has no default
    assert wanted.items() <= space.decode(first.params).items()


def test_branches_of_a_perceptron_have_their_number_of_layers():
    sizes = {p["hidden_layer_sizes"] for p in drawn(as_space(ready_space(MLPClassifier())))}
    assert {len(layers) for layers in sizes} == {1, 2, 3}
    assert all(len(set(layers)) == 1 and 16 <= layers[0] <= 264 for layers in sizes)


def test_a_search_tunes_the_last_step_and_begins_with_the_defaults():
    pipeline = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=30))
    search = FisherSearchCV(pipeline, "default", n_trials=8, cv=3, random_state=0).fit(X, Y)
    found = search.cv_results_["params"]
    prefix = "kneighborsclassifier__"
    assert found[0] == fisherbo.default_point("KNeighborsClassifier", prefix=prefix)
    assert len(found) == 8
    assert search.best_score_ >= search.cv_results_["mean_test_score"][0]


def test_conditions_hold_in_a_search():
    search = FisherSearchCV(SVC(), "default", n_trials=15, cv=2, random_state=0).fit(X, Y)
    for params in search.cv_results_["params"]:
        assert ("gamma" in params) == (params["kernel"] != "linear")
        assert ("degree" in params) == (params["kernel"] == "poly")


def test_a_search_goes_on_without_trying_the_defaults_again(tmp_path):
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    options = {"cv": 2, "storage": str(tmp_path / "a.db"), "random_state": 0}
    FisherSearchCV(forest, "default", n_trials=3, **options).fit(X, Y)
    search = FisherSearchCV(forest, "default", n_trials=5, **options).fit(X, Y)
    found = search.cv_results_["params"]
    assert len(found) == 5
    assert sum(p == found[0] for p in found) == 1


def test_an_estimator_without_a_ready_space_is_refused():
    with pytest.raises(ValueError, match="no search space for 'GaussianNB'"):
        FisherSearchCV(GaussianNB(), "default").fit(X, Y)
    with pytest.raises(ValueError, match="param_distributions"):
        FisherSearchCV(SVC(), "defaults").fit(X, Y)
