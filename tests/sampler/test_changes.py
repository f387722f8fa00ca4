"""Code that changes under a study: parameters dropped, renamed and moved, values from elsewhere."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from fisherbo import FisherSampler
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.fixed import no_longer_asked
from fisherbo.sampler.search_space import from_params, to_params, to_space
from fisherbo.sampler.trials import read


def choice_dropped(trial):
    """A choice is taken out of the code; its default stays."""
    c = trial.suggest_categorical("c", ["p", "q", "r"]) if trial.number < 25 else "q"
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return (x - {"p": 0.9, "q": 0.2, "r": 0.5}[c]) ** 2 + (y - 0.6) ** 2 + (c != "p") - 1


def number_dropped(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    z = trial.suggest_float("z", 0, 1) if trial.number < 25 else 0.2
    return 4 * (x - z) ** 2 + (y - 0.6) ** 2 + (z - 0.9) ** 2 - 0.49


def renamed(trial):
    value = (trial.suggest_float("a", 0, 1) - 0.3) ** 2
    if trial.number < 25:
        return value + (trial.suggest_float("old", 0, 1) - 0.9) ** 2
    return value + (trial.suggest_float("new", 0, 1) - 0.2) ** 2


def branch_dropped(trial):
    """With a choice its children go too."""
    x = trial.suggest_float("x", 0, 1)
    if trial.number >= 25:
        return (x - 0.3) ** 2
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        return (x - 0.7) ** 2 + trial.suggest_float("of a", 0, 1) ** 2
    return (x - 0.5) ** 2 + 0.1


@pytest.mark.parametrize("objective", [choice_dropped, number_dropped, renamed, branch_dropped])
def test_what_is_no_longer_asked_for_is_held(objective):
    def regret(seed):
        study = optuna.create_study(sampler=FisherSampler(seed=seed))
        study.optimize(objective, n_trials=60)
        return min(t.value for t in study.trials[25:])

    assert np.median([regret(seed) for seed in range(5)]) < 1e-3  # random search: 7e-3 to 2e-2


def test_what_comes_back_is_chosen_again():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        z = trial.suggest_float("z", 0, 1) if not 20 <= trial.number < 28 else 0.5
        return (x - 0.3) ** 2 + (z - 0.8) ** 2

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=50)
    assert min(t.value for t in study.trials[29:]) < 1e-3


def gone(rows):
    """Whether z has ceased to be asked for, of trials with x and those with x and z."""
    space_of = {"x": FloatDistribution(0, 1), "z": FloatDistribution(0, 1)}
    trials = [
        create_trial(
            params={n: 0.5 for n in names},
            distributions={n: space_of[n] for n in names},
            value=0.0,
        )
        for names in rows
    ]
    space = to_space(space_of)
    return no_longer_asked(space, read(space, space_of, trials)).tolist()[1]


def test_chance_is_told_from_change():
    assert gone(["xz"] * 25 + ["x"] * 2)
    assert not gone(["xz"] * 25 + ["x", "xz"])
    assert not gone(["x", "xz"] * 10 + ["x"] * 3)  # asked for half of the time
    assert gone(["x", "xz"] * 10 + ["x"] * 9)
    assert not gone(["xz"] * 3 + ["x"])
    assert not gone(["xz"] * 25 + [""] * 4)  # trials without any parameter say nothing


FOREIGN = {
    "choice": CategoricalDistribution(["a", "b"]),
    "mixed": CategoricalDistribution([None, 3, "x"]),
    "log": FloatDistribution(1e-3, 10, log=True),
    "count": IntDistribution(1, 9),
}


def test_values_that_a_distribution_cannot_have_count_as_absent():
    space = to_space(FOREIGN)
    params = [
        {"choice": "gone", "mixed": 4, "log": -1.0, "count": "many"},
        {"choice": ["b"], "mixed": "x", "log": 0.0, "count": 10**400},
        {"choice": "b", "mixed": None, "log": 0.1, "count": 5},
    ]
    with np.errstate(all="raise"):
        x = from_params(space, FOREIGN, params)
    nan = np.nan
    expected = [[nan, nan, nan, nan], [nan, 1, nan, nan], [1, 0, 0.5, 0.5]]
    assert x == pytest.approx(np.array(expected), nan_ok=True)


def test_trials_of_another_code_do_not_end_a_study():
    """As `add_trial` brings them from an old study."""
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=4))
    for i, old in enumerate(["sgd", "adam", "rprop"]):
        study.add_trial(
            create_trial(
                params={"optimizer": old, "x": 0.1 * i},
                distributions={
                    "optimizer": CategoricalDistribution(["sgd", "adam", "rprop"]),
                    "x": FloatDistribution(0, 1),
                },
                value=1.0 + i,
            )
        )
    new = {"optimizer": CategoricalDistribution(["adam", "muon"]), "x": FloatDistribution(0, 1)}
    study.add_trial(
        create_trial(params={"optimizer": "muon", "x": 0.9}, distributions=new, value=0.25)
    )
    for _ in range(25):
        trial = study.ask(new)
        x, name = trial.params["x"], trial.params["optimizer"]
        study.tell(trial, (x - 0.4) ** 2 + (name != "muon"))
    assert study.best_value < 1e-3


@pytest.mark.parametrize("x", [1e300, -1e300, np.finfo(np.float64).max, 1e20, 50.0])
def test_enqueued_values_far_out_of_range_do_no_harm(x):
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.enqueue_trial({"x": x, "n": 10**9})

    def objective(trial):
        found = trial.suggest_float("x", 0, 1), trial.suggest_int("n", 0, 20)
        return abs(found[0] - 0.3) + abs(found[1] - 7)

    with pytest.warns(UserWarning, match="out of range"):
        study.optimize(objective, n_trials=30)
    assert study.best_value < 0.05


@pytest.mark.parametrize(
    "range_of",
    [
        IntDistribution(0, 2**63 - 1),
        IntDistribution(-(2**62), 2**62),
        IntDistribution(1, 2**63 - 1, log=True),
        FloatDistribution(1e-300, 1e300, log=True),
        FloatDistribution(1e14, 1e14 + 1),
        FloatDistribution(0, 1e6, step=1e-3),
        FloatDistribution(-8e307, 8e307),
    ],
    ids=str,
)
def test_extreme_ranges_are_searched(range_of):
    wanted = to_params(to_space({"p": range_of}), {"p": range_of}, np.array([0.3]))["p"]
    log = np.log if range_of.log else float
    width = log(range_of.high) - log(range_of.low)
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    values = []
    for _ in range(24):
        trial = study.ask({"p": range_of})
        assert range_of._contains(range_of.to_internal_repr(trial.params["p"]))
        values.append(abs(log(trial.params["p"]) - log(wanted)) / width)
        study.tell(trial, values[-1])
    assert len({t.params["p"] for t in study.trials}) > 10  # 65 floats lie in [1e14, 1e14 + 1]
    assert min(values) < 0.01


@pytest.mark.parametrize(
    "range_of",
    [FloatDistribution(-1e308, 1e308), IntDistribution(0, 10**400)],
    ids=["float", "int"],
)
def test_ranges_wider_than_the_largest_float_are_refused(range_of):
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    with pytest.raises(InvalidInputError, match="'p' must be no wider than the largest float"):
        study.ask({"p": range_of})
