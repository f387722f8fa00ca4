"""Order and distances of categories: what the model makes of them, and what is refused."""

import itertools
import pickle

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution

import fisherbo
from fisherbo import FisherPruner, FisherSampler, StopWhenConverged, ordered
from fisherbo.errors import InvalidInputError
from fisherbo.optimize.search import neighbours
from fisherbo.sampler.categories import (
    DistanceDistribution,
    OrderedDistribution,
    described,
    labels,
    read_categories,
    vectors_of,
)
from fisherbo.sampler.search_space import from_params, to_params, to_space, with_conditions

SIZES = ("l", "xs", "m", "s", "xl")  # as the study has them
ORDER = ("xs", "s", "m", "l", "xl")
LINE = {(a, b): abs(i - j) for (i, a), (j, b) in itertools.combinations(enumerate(ORDER), 2)}


def space_with(told, choices=SIZES):
    return described({"size": CategoricalDistribution(choices)}, read_categories({"size": told}))


def loss(trial):
    size = ORDER.index(trial.suggest_categorical("size", SIZES))
    return abs(size - 1) + (trial.suggest_float("x", 0, 1) - 0.3) ** 2


def run(n, sampler, objective=loss, **kwargs):
    study = optuna.create_study(sampler=sampler, **kwargs)
    study.optimize(objective, n_trials=n)
    return study


def test_an_ordered_category_is_a_discrete_coordinate_in_its_order():
    told = space_with(ordered(*ORDER))
    space = to_space(told)
    assert space.discrete.all() and not space.categorical.any() and space.listed.all()
    x = from_params(space, told, [{"size": size} for size in ORDER])[:, 0]
    assert x == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert [to_params(space, told, row)["size"] for row in x[:, None]] == list(ORDER)
    assert labels(told) == ("size:ordered",)


def test_the_search_may_move_to_any_other_of_a_few_ordered_choices():
    space = to_space(space_with(ordered(*ORDER)))
    near = neighbours(space, np.array([[0.25]]), np.random.default_rng(0))
    assert sorted(near[:, 0]) == pytest.approx([0, 0.5, 0.75, 1])
    many = tuple(range(40))
    space = to_space(space_with(ordered(*many), many))
    assert len(neighbours(space, np.array([[20 / 39]]), np.random.default_rng(0))) == 2


@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 50))
def test_distances_of_points_are_reproduced(k, e, seed):
    points = np.random.default_rng(seed).standard_normal((k, e))
    wanted = np.linalg.norm(points[:, None] - points, axis=-1)
    vectors = vectors_of("p", wanted)
    found = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    pairs = np.triu_indices(k, 1)
    assert np.mean(found[pairs] ** 2) == pytest.approx(1)
    assert found == pytest.approx(wanted / np.sqrt(np.mean(wanted[pairs] ** 2)), abs=1e-6)


def test_distances_that_no_points_have_are_moved_to_the_nearest():
    """A star: three choices 1 from the middle and 2 from each other."""
    star = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0]], dtype=float)
    vectors = vectors_of("p", star)
    gram = vectors @ vectors.T
    centring = np.eye(4) - 0.25
    values, axes = np.linalg.eigh(-0.5 * centring @ star**2 @ centring)
    nearest = axes @ np.diag(np.maximum(values, 0)) @ axes.T
    assert values[0] < -0.1
    assert gram / np.trace(gram) == pytest.approx(nearest / np.trace(nearest))


@given(st.permutations(range(5)))
def test_a_mapping_says_the_same_as_a_matrix_whatever_the_order_of_choices(permutation):
    choices = tuple(ORDER[i] for i in permutation)
    matrix = np.abs(np.subtract.outer(permutation, permutation))
    one, other = (space_with(told, choices)["size"].vectors for told in (LINE, matrix))
    far = [np.linalg.norm(v[:, None] - v, axis=-1) for v in (one, other)]
    assert far[0] == pytest.approx(far[1])


@pytest.mark.parametrize("told", [ordered(*ORDER), LINE])
def test_what_is_told_helps(told):
    """Thirty choices on a line: with the order the best one is found in 25 trials."""
    choices = [f"c{i}" for i in range(30)]
    if told is LINE:
        told = np.abs(np.subtract.outer(range(30), range(30)))
    else:
        told = ordered(*choices)

    def objective(trial):
        return abs(int(trial.suggest_categorical("c", choices)[1:]) - 22) ** 1.5

    found = [run(25, FisherSampler(seed=s, categories={"c": told}), objective) for s in range(3)]
    assert [study.best_value for study in found] == [0, 0, 0]


@pytest.mark.parametrize("choices", ["abc", "cab"])
def test_whatever_the_order_of_unordered_choices_the_best_is_found(choices):
    def objective(trial):
        place = "bca".index(trial.suggest_categorical("c", list(choices)))
        return place + trial.suggest_float("x", 0, 1)

    assert run(25, FisherSampler(seed=0), objective).best_value < 0.05


@pytest.mark.parametrize("told", [ordered(*ORDER), LINE])
def test_a_resumed_study_goes_on_as_an_uninterrupted_one(told):
    def sampler():
        return FisherSampler(seed=3, categories={"size": told})

    whole = run(20, sampler())
    parts = run(12, sampler())
    parts.sampler = pickle.loads(pickle.dumps(sampler()))
    parts.optimize(loss, n_trials=8)
    assert [t.params for t in parts.trials] == [t.params for t in whole.trials]


def test_recommendation_inspection_pruner_and_end_know_the_order():
    def objective(trial):
        value = loss(trial)
        for step in range(4):
            trial.report(value + 1 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    sampler = FisherSampler(seed=0, categories={"size": ordered(*ORDER)})
    study = run(20, sampler, objective, pruner=FisherPruner())
    assert sampler.recommend(study).params["size"] == "s"
    seen = sampler.inspect(study)
    assert not seen.space.categorical.any()
    assert isinstance(seen.search_space["size"], OrderedDistribution)
    assert StopWhenConverged(regret=1.0).remaining_regret(study) is not None
    kept = [k for t in study.trials for k in t.system_attrs]
    assert "fisherbo:curves" in kept and "fisherbo:fit" in kept


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_enqueued_and_fixed_choices_are_held():
    sampler = FisherSampler(seed=0, categories={"size": ordered(*ORDER)})
    study = run(12, sampler)
    study.enqueue_trial({"size": "xl"})
    study.optimize(loss, n_trials=1)
    assert study.trials[-1].params["size"] == "xl"
    study.sampler = optuna.samplers.PartialFixedSampler({"size": "m"}, sampler)
    study.optimize(loss, n_trials=2)
    assert [t.params["size"] for t in study.trials[-2:]] == ["m", "m"]


def test_a_parameter_may_depend_on_any_of_the_ordered_choices():
    told = space_with(ordered(1, 2, 3), (3, 1, 2)) | {"y": FloatDistribution(0, 1)}
    rows = from_params(to_space(told), told, [{"size": 1}, {"size": 2, "y": 0.2}, {"size": 3}])
    space = with_conditions(to_space(told), rows)
    assert space.exists(rows)[:, 1].tolist() == [False, True, False]


def test_a_changed_description_does_not_take_the_old_fit():
    study = run(14, FisherSampler(seed=0))
    study.sampler = FisherSampler(seed=0, categories={"size": ordered(*ORDER)})
    study.optimize(loss, n_trials=4)
    assert "fisherbo:fit" in study.trials[14].system_attrs


def test_a_name_that_no_trial_has_is_told_once(caplog):
    run(14, FisherSampler(seed=0, categories={"sise": ordered("a", "b")}))
    told = [r.message for r in caplog.records if "sise" in r.message]
    assert len(told) == 1 and "spelling" in told[0]


@pytest.mark.parametrize("choices", [(), ("a",), ("a", "b", "a"), (1, 1.0)])
def test_too_few_or_repeated_choices_are_refused(choices):
    with pytest.raises(InvalidInputError, match="choice"):
        ordered(*choices)


def test_true_and_1_are_two_choices():
    assert ordered(True, 1).choices == (True, 1)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("size", "must be fisherbo.ordered"),
        (3, "must be fisherbo.ordered"),
        (["s", "m"], "must be fisherbo.ordered"),
        ({"s": 1.0}, "pairs of choices"),
        ({("a", "b"): 1.0, ("b", "c"): 1.0}, "none of 'a' and 'c'"),
        ({("a", "b"): 1.0, ("b", "a"): 2.0}, "not symmetric"),
        (np.zeros((2, 3)), "shape"),
        ([[0.0]], "shape"),
        ([[0, 1], [2, 0]], "not symmetric"),
        ([[0, -1], [-1, 0]], "the distance -1"),
        ([[0, 0], [0, 0]], "the distance 0"),
        ([[1, 1], [1, 1]], "diagonal"),
        ([[0, np.inf], [np.inf, 0]], "not finite"),
        ([[0, 1, 9], [1, 0, 1], [9, 1, 0]], "near those of points"),
    ],
)
def test_what_is_no_description_is_refused(told, message):
    with pytest.raises(InvalidInputError, match=message):
        FisherSampler(categories={"size": told})


def test_categories_must_be_a_mapping():
    with pytest.raises(InvalidInputError, match="mapping"):
        FisherSampler(categories=["size"])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (ordered("xs", "s", "m", "l"), "add \\['xl'\\]"),
        (ordered(*ORDER, "xxl"), "remove \\['xxl'\\]"),
        (np.ones((4, 4)) - np.eye(4), "a row for each"),
        ({("a", "b"): 1.0}, "add"),
    ],
)
def test_a_description_of_other_choices_is_refused_when_the_study_asks(told, message):
    with pytest.raises(InvalidInputError, match=message):
        run(14, FisherSampler(seed=0, categories={"size": told}))


def test_a_description_of_a_number_is_refused_when_the_study_asks():
    with pytest.raises(InvalidInputError, match="categorical parameter"):
        run(14, FisherSampler(seed=0, categories={"x": ordered("a", "b")}))


@pytest.mark.parametrize(
    ("choices", "is_ordered"),
    [
        ((16, 32, 64), True),
        ((0.5, 0.1, 0.0), True),
        ((1, 2.5, 4), True),
        ((1, 3, 2), False),
        ((1, 1, 2), False),
        ((1, 2), False),
        ((None, 1, 2), False),
        ((False, 1, 2), False),
        (("1", "2", "3"), False),
        ((1.0, float("nan"), 2.0), False),
    ],
)
def test_numbers_in_order_are_ordered_without_being_told(choices, is_ordered):
    plain = {"n": CategoricalDistribution(choices)}
    found = described(plain, {})["n"]
    assert isinstance(found, OrderedDistribution) == is_ordered
    assert found.choices == choices or choices[1] != choices[1]
    assert described(plain, {"n": "unordered"})["n"] is plain["n"]


def test_unordered_and_constant_parameters_are_left_alone():
    plain = CategoricalDistribution(SIZES)
    assert space_with("unordered")["size"] == plain
    assert space_with(ordered("a", "b"), ("a",))["size"] == CategoricalDistribution(("a",))
    two = [DistanceDistribution(SIZES, np.eye(5) * s) for s in (1, 1, 2)]
    assert two[0] == two[1] != two[2]
    assert two[0] != plain
    assert fisherbo.ordered is ordered
