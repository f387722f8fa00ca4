import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from fisherbo.estimators.spaces import BRANCH, as_space

optuna.logging.set_verbosity(optuna.logging.WARNING)


def drawn(space, n=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    made = []
    for _ in range(n):
        trial = study.ask()
        space.suggest(trial)
        made.append((dict(trial.params), space.decode(trial.params)))
        study.tell(trial, 0.0)
    return made


@pytest.mark.parametrize(
    ("value", "label", "distribution"),
    [
        (stats.uniform(2, 3), "a", FloatDistribution(2, 5)),
        (stats.loguniform(1e-3, 10), "a", FloatDistribution(1e-3, 10, log=True)),
        (stats.randint(1, 9), "a", IntDistribution(1, 8)),
        (range(2, 12, 3), "a", IntDistribution(2, 11, step=3)),
        ([3, 1, 2], "a", IntDistribution(1, 3)),
        ([0.1, 1.0, 10.0], "a[index]", IntDistribution(0, 2)),
        (np.array([1, 10, 100]), "a[index]", IntDistribution(0, 2)),
        (["x", None, True, 2.5], "a", CategoricalDistribution(["x", None, True, 2.5])),
        (
            [SVC(), LogisticRegression()],
            "a",
            CategoricalDistribution(["0:SVC", "1:LogisticRegression"]),
        ),
        ([True, 1], "a", CategoricalDistribution(["0:True", "1:1"])),
        (IntDistribution(1, 64, log=True), "a", IntDistribution(1, 64, log=True)),
    ],
)
def test_each_kind_of_parameter_has_its_distribution(value, label, distribution):
    (branch,) = as_space({"a": value}).branches
    assert branch.axes["a"].label == label
    assert branch.axes["a"].distribution == distribution


def test_lists_give_back_their_own_values():
    values = [np.float32(0.5), np.float32(8.0), np.float32(2.0)]
    assert {p["a"] for _, p in drawn(as_space({"a": values}))} == set(values)
    steps = [SVC(), "passthrough"]
    assert {id(p["a"]) for _, p in drawn(as_space({"a": steps}))} == {id(s) for s in steps}


def test_other_distributions_are_their_quantile_functions():
    for held, told in drawn(as_space({"a": stats.norm(3, 2), "b": stats.poisson(4)})):
        assert told["a"] == pytest.approx(stats.norm(3, 2).ppf(held["a[quantile]"]))
        assert isinstance(told["b"], int)
        assert told["b"] == stats.poisson(4).ppf(held["b[quantile]"])


def test_what_can_only_be_drawn_from_gives_what_it_drew():
    class Dice:
        def rvs(self, *, random_state=None):
            return random_state.choice([1, 2, 6])

    assert {p["a"] for _, p in drawn(as_space({"a": Dice()}), 60)} == {1, 2, 6}


def test_branches_have_parameters_of_their_own():
    space = as_space(
        [
            {"clf": [SVC()], "clf__C": stats.loguniform(1e-2, 1e2), "k": [1, 2]},
            {"clf": [LogisticRegression()], "clf__C": stats.loguniform(1e-4, 1), "k": [1, 2]},
            {"clf": ["passthrough"]},
        ]
    )
    seen = {held[BRANCH]: (set(held), set(told)) for held, told in drawn(space)}
    assert seen["0:SVC"] == ({BRANCH, "clf__C@0", "k"}, {"clf", "clf__C", "k"})
    assert seen["1:LogisticRegression"][0] == {BRANCH, "clf__C@1", "k"}
    assert seen["2"] == ({BRANCH}, {"clf"})


def test_size_counts_the_points_and_the_grid_lists_them():
    finite = as_space([{"a": [1, 5], "b": ["x", "y", "z"]}, {"a": [7]}])
    grid = [tuple(sorted(finite.decode(point).items())) for point in finite.grid()]
    assert finite.size == len(set(grid)) == 7
    assert as_space({"a": stats.uniform()}).size == np.inf
    assert as_space({"a": FloatDistribution(0, 1, step=0.25)}).size == 5


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ({"a": []}, ValueError, "Parameter grid for parameter 'a' need to be a non-empty sequence"),
        ({"a": 3.0}, TypeError, "is not iterable or a distribution"),
        ({"a": "rbf"}, TypeError, "Single values need to be wrapped in a list with one element"),
        ({"a": np.ones((2, 2))}, ValueError, "Parameter array for 'a' should be one-dimensional"),
        ([["a", 1]], TypeError, "Parameter distribution is not a dict"),
        (3, TypeError, "Parameter distribution is not a dict or a list"),
    ],
)
def test_wrong_kinds_are_refused_in_scikit_learns_words(value, kind, words):
    with pytest.raises(kind, match=words):
        as_space(value)


@pytest.mark.parametrize(
    ("value", "constant"),
    [
        (stats.uniform(3, 0), 3.0),
        (stats.norm(2, 0), 2.0),
        (stats.randint(5, 6), 5),
        (stats.rv_discrete(values=([4], [1.0]))(), 4),
        (stats.rv_discrete(values=([4], [1.0])), 4),
    ],
)
def test_a_distribution_of_one_value_is_a_constant(value, constant):
    (branch,) = as_space({"a": value, "b": [1, 2]}).branches
    assert branch.constants == {"a": constant}
    assert as_space({"a": value}).size == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (stats.uniform(3, -1), r"uniform\(3, -1\)"),
        (stats.loguniform(2, b=1), r"loguniform\(2, b=1\)"),
        (stats.randint(5, 5), r"randint\(5, 5\)"),
        (stats.expon(scale=np.nan), r"expon\(scale=nan\)"),
    ],
)
def test_a_distribution_of_no_value_is_refused_by_name_in_scipys_words(value, words):
    with pytest.raises(ValueError, match=rf"parameter 'a' .*{words}.*Domain error in arguments"):
        as_space({"a": value})


@pytest.mark.parametrize(
    "value", [stats.uniform([0, 1], 1), stats.uniform(np.nan, 1), stats.dirichlet([1, 1])]
)
def test_a_distribution_of_anything_but_finite_numbers_is_refused_by_name(value):
    with pytest.raises(TypeError, match="'a' is a distribution of values that are not numbers"):
        as_space({"a": value})


def test_points_are_told_apart_but_for_rounding():
    space = as_space({"a": FloatDistribution(0, 1, step=0.1), "b": ["x", "y"]})
    keys = {space.key(point) for point in space.grid()}
    assert len(keys) == space.size == 22
    assert space.key({"a": 0.1 + 0.2, "b": "x"}) == space.key({"a": 0.3, "b": "x"})
