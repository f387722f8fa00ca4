"""scikit-learn's own checks of estimators, on all three."""

import re
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

import fisherbo
from fisherbo import FisherSearchCV, KFACClassifier, KFACRegressor

FIXED = {"learning_rate": 0.1, "damping": 0.1, "max_iter": 40}
# GridSearchCV and RandomizedSearchCV of a Ridge fail it themselves
# (sklearn.utils._test_common.instance_generator.PER_ESTIMATOR_XFAIL_CHECKS).
SEARCH_OF_RIDGE = {"check_supervised_y_2d": "DataConversionWarning not caught"}


# names of tests hold the arguments' texts, which have to be the same in every process
TENTH_TO_ONE = FloatDistribution(0.1, 1.0, log=True)


class Sampler(RandomSampler):
    def __repr__(self):
        return "RandomSampler(seed=0)"


def expected(estimator):
    inner = getattr(estimator, "estimator", None)
    return SEARCH_OF_RIDGE if isinstance(inner, Ridge) else {}


def search(estimator, space):
    return FisherSearchCV(
        estimator, space, n_trials=3, cv=2, error_score="raise", sampler=Sampler(seed=0)
    )


@parametrize_with_checks(
    [
        search(Ridge(), {"alpha": TENTH_TO_ONE}),
        search(LogisticRegression(), {"C": TENTH_TO_ONE}),
        KFACClassifier(**FIXED),
        KFACRegressor(**FIXED),
    ],
    expected_failed_checks=expected,
    xfail_strict=True,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_estimators_keep_scikit_learns_rules(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        FisherSearchCV(Ridge(), {"alpha": TENTH_TO_ONE}, n_trials=12, cv=2, error_score="raise"),
        KFACClassifier(max_iter=20),
        KFACRegressor(max_iter=20),
    ],
    expected_failed_checks=expected,
    xfail_strict=True,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_estimators_that_tune_by_models_keep_them_too(estimator, check):
    check(estimator)


def test_undocumented_names_of_scikit_learn_are_in_one_module():
    private = re.compile(
        r"sklearn[\w.]*\._[a-z]|from sklearn[\w.]* import (\([^)]*|.*)\b_[a-z]|_skl_"
    )
    sources = Path(fisherbo.__file__).parent.rglob("*.py")
    assert {path.name for path in sources if private.search(path.read_text())} == {
        "sklearn_private.py"
    }
