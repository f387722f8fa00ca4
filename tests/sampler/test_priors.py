"""Beliefs about the optimum in a study: the first trials, decay, rejection, errors, resumption."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import PartialFixedSampler

from fisherbo import FisherSampler
from fisherbo.acquisition.belief import BeliefOptions
from fisherbo.acquisition.feasibility import unrestricted
from fisherbo.errors import InvalidInputError
from fisherbo.prior import Beta, LogNormal, LogUniform, Normal, Uniform
from fisherbo.sampler.priors import check_priors, drawn_values
from fisherbo.sampler.search_space import to_params, to_space

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

BELIEFS = {
    "lr": LogNormal(1e-3, 3),
    "momentum": Normal(0.9, 0.05),
    "layers": Uniform(2, 4),
    "optimizer": {"adam": 0.7, "sgd": 0.3},
}


def ask(trial):
    """A network's usual parameters, momentum only with sgd."""
    optimizer = trial.suggest_categorical("optimizer", ["rmsprop", "adam", "sgd"])
    if optimizer == "sgd":
        trial.suggest_float("momentum", 0, 1)
    trial.suggest_float("lr", 1e-5, 1, log=True)
    trial.suggest_int("layers", 1, 9)
    trial.suggest_float("dropout", 0, 0.5)
    return trial.params


def loss(trial, lr=1e-3, layers=3):
    p = ask(trial)
    off = (p.get("momentum", 0.9) - 0.9) ** 2 + p["dropout"] ** 2 + (p["optimizer"] != "sgd") * 0.1
    return math.log10(p["lr"] / lr) ** 2 + 0.1 * (p["layers"] - layers) ** 2 + off


def run(objective, n, priors, seed=0, study=None, **options):
    study = study or optuna.create_study(
        directions=options.pop("directions", ["minimize"]),
        sampler=FisherSampler(seed=seed, priors=priors, **options),
    )
    study.optimize(objective, n_trials=n)
    return study


def params(study):
    return [t.params for t in study.trials]


def test_the_first_trial_is_the_mode():
    first = params(run(loss, 1, BELIEFS))[0]
    assert first.pop("dropout") != 0  # nothing is believed of it
    assert first == {"optimizer": "adam", "lr": pytest.approx(1e-3), "layers": 3}
    sgd = {**BELIEFS, "optimizer": {"sgd": 1}}
    assert params(run(loss, 1, sgd))[0]["momentum"] == pytest.approx(0.9)


def test_the_mode_is_tried_later_if_the_first_trial_was_another():
    study = optuna.create_study(sampler=FisherSampler(seed=0, priors=BELIEFS))
    study.enqueue_trial({"optimizer": "rmsprop", "lr": 0.5, "layers": 9, "dropout": 0.4})
    run(loss, 3, None, study=study)
    modes = [p for p in params(study) if p["layers"] == 3 and p["lr"] == pytest.approx(1e-3)]
    assert [p["optimizer"] for p in modes] == ["adam"]
    assert params(study)[1] == modes[0]


def test_a_share_of_the_design_is_drawn_from_the_belief():
    def objective(trial):
        return trial.suggest_float("x", 0, 1)

    study = run(objective, 40, {"x": Normal(0.7, 0.02)}, n_startup_trials=40)
    x = np.array([p["x"] for p in params(study)])
    near = np.abs(x - 0.7) < 0.08
    every = round(1 / BeliefOptions().share)
    drawn = np.arange(40) % every == 0
    assert near[drawn].all()
    assert near[~drawn].mean() < 0.4
    assert len(set(x)) == 40


@pytest.mark.parametrize(
    "priors",
    [
        None,
        {},
        {"lr": Uniform(1e-5, 1), "layers": Uniform(1, 9), "dropout": Uniform(-1, 1)},
        {"lr": LogUniform(1e-6, 1), "optimizer": {"adam": 2, "sgd": 2, "rmsprop": 2}},
        {"momentum": Beta(1, 1)},
    ],
)
def test_without_a_belief_nothing_changes(priors):
    expected = run(loss, 16, None, n_startup_trials=8)
    assert params(run(loss, 16, priors, n_startup_trials=8)) == params(expected)


def best_of(priors, n):
    return np.array([run(loss, n, priors, seed=seed).best_value for seed in range(3)])


def test_a_right_belief_helps():
    right = {"lr": LogNormal(1e-3, 3), "layers": Normal(3, 1)}
    assert (best_of(right, 12) < best_of(None, 12)).all()


def test_a_wrong_belief_is_overcome():
    wrong = {"lr": LogNormal(0.3, 1.5), "layers": Normal(8, 0.5)}
    assert (best_of(wrong, 36) < best_of(None, 16)).all()


def factor(study):
    """The belief's part of the acquisition of the next trial."""
    return unrestricted(study.sampler.inspect(study).acquisition).factors[-1]


def test_the_belief_fades_as_trials_come_in():
    study = run(loss, 12, BELIEFS)
    powers = [factor(study).power]
    run(loss, 8, None, study=study)
    powers.append(factor(study).power)
    assert powers == pytest.approx([BeliefOptions().power / n for n in (12, 20)])


def test_only_the_belief_that_is_contradicted_is_rejected():
    study = run(loss, 30, {"lr": LogNormal(0.3, 1.5), "layers": Normal(3, 1)})
    inspection, belief = study.sampler.inspect(study), factor(study)
    credence = dict(zip(inspection.search_space, belief.credence, strict=True))
    assert credence["lr"] < 0.05
    assert credence["layers"] > 0.8
    assert credence["dropout"] == pytest.approx(1 - BeliefOptions().doubt)


def test_the_same_seed_gives_the_same_trials():
    assert params(run(loss, 14, BELIEFS)) == params(run(loss, 14, BELIEFS))
    assert params(run(loss, 3, BELIEFS)) != params(run(loss, 3, BELIEFS, seed=1))


def test_a_new_sampler_continues_bit_for_bit():
    whole = run(loss, 14, BELIEFS)
    study = optuna.create_study()
    for n in (1, 8, 5):
        study.sampler = FisherSampler(seed=0, priors=BELIEFS)
        study.optimize(loss, n_trials=n)
    assert params(study) == params(whole)


def test_several_objectives_constraints_rules_and_fixed_values_have_beliefs_too():
    def objective(trial):
        p = ask(trial)
        trial.set_constraint("small", p["layers"] - 7)
        return math.log10(p["lr"] / 1e-3) ** 2, p["layers"]

    both = ["minimize", "minimize"]
    study = run(
        objective, 14, BELIEFS, directions=both, input_constraints=lambda p: p["layers"] != 3
    )
    assert all(p["layers"] != 3 for p in params(study))
    assert factor(study).credence.min() >= 0
    study.sampler = PartialFixedSampler({"layers": 5}, study.sampler)
    run(objective, 2, None, study=study)
    assert [p["layers"] for p in params(study)[-2:]] == [5, 5]


def test_unknown_names_are_told_once(caplog):
    optuna.logging.enable_propagation()
    try:
        run(loss, 8, {"learning_rate": LogNormal(1e-3, 3), "lr": LogNormal(1e-3, 3)})
    finally:
        optuna.logging.disable_propagation()
    told = {r.created: r.getMessage() for r in caplog.records if "priors has" in r.getMessage()}
    (message,) = told.values()
    assert "'learning_rate'" in message and "'dropout', 'layers', 'lr'" in message


@pytest.mark.parametrize(
    ("priors", "rule"),
    [
        (Normal(0, 1), "priors must map names"),
        ({"lr": 1e-3}, "the prior of 'lr' must be a distribution of fisherbo.prior"),
        ({"optimizer": {}}, "the weights of 'optimizer' must be numbers"),
        ({"optimizer": {"adam": 0}}, "not all 0"),
        ({"optimizer": {"adam": -1, "sgd": 2}}, "at least 0"),
    ],
)
def test_wrong_priors_are_refused_at_once(priors, rule):
    with pytest.raises(InvalidInputError, match=rule):
        FisherSampler(priors=priors)


@pytest.mark.parametrize(
    ("priors", "rule"),
    [
        ({"lr": LogNormal(30.0, 3)}, r"within its range \[1e-05, 1\], got LogNormal"),
        ({"layers": Uniform(9.2, 9.8)}, r"within its range \[1, 9\]"),
        ({"optimizer": {"adam": 1, "lion": 1}}, "got 'lion'; the choices are 'rmsprop', 'adam'"),
        ({"optimizer": Normal(1, 1)}, "must be weights of its choices"),
        ({"lr": {1e-3: 1}}, "must be a distribution of numbers"),
    ],
)
def test_priors_that_do_not_suit_the_parameter_are_refused_in_the_first_trial(priors, rule):
    with pytest.raises(InvalidInputError, match=rule):
        run(loss, 1, priors)


@pytest.mark.parametrize(
    ("prior", "distribution", "values"),
    [
        (Uniform(2, 4), IntDistribution(1, 9), {2, 3, 4}),
        (Uniform(1.2, 4.9), IntDistribution(1, 9), {2, 3, 4}),
        (Uniform(2, 4), IntDistribution(1, 9, log=True), {2, 3, 4}),
        (LogUniform(0.1, 2), IntDistribution(0, 9), {1, 2}),
        (LogUniform(0.1, 2), FloatDistribution(0.25, 10.25, step=1), {0.25, 1.25}),
        (Uniform(0.2, 0.61), FloatDistribution(0, 1, step=0.2), {0.2, 0.4, 0.6}),
        (
            {"a": np.float32(1), "c": np.int64(2)},
            CategoricalDistribution(["a", "b", "c"]),
            {"a", "c"},
        ),
    ],
)
def test_values_outside_an_interval_or_without_a_weight_are_not_drawn(prior, distribution, values):
    check_priors({"p": prior})
    rng = np.random.default_rng(0)
    points = drawn_values({"p": prior}, 1, "p", distribution, rng)
    search_space = {"p": distribution}
    space = to_space(search_space)
    drawn = {to_params(space, search_space, next(points))["p"] for _ in range(60)}
    assert {round(v, 9) if isinstance(v, float) else v for v in drawn} == values
