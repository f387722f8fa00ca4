"""Studies whose kernel is rotated: resumed, mixed, switched off; nothing else changes."""

import json
import pickle

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fisherbo import FisherSampler
from fisherbo.gp.hyper import Hyper, prior_mode
from fisherbo.gp.model import Fit, refit
from fisherbo.gp.rotation import from_reflectors, rotated, rounded
from fisherbo.sampler import fit_store
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.search_space import to_space

AXES = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
CURVATURE = np.array([1.0, 30.0, 1000.0])


def valley(x):
    return float(CURVATURE @ (AXES @ (np.array(x) - 0.4)) ** 2)


def continuous(trial):
    return valley([trial.suggest_float(name, 0, 1) for name in "xyz"])


def mixed(trial):
    kind = trial.suggest_categorical("kind", ["a", "b"])
    n = trial.suggest_int("n", 1, 4)
    loss = continuous(trial) + n
    if kind == "b":
        return loss + 1 + trial.suggest_float("only_b", 0, 1)
    return loss


def run(objective, n_trials, *, seed=0, storage=None, **options):
    sampler = FisherSampler(seed=seed, **options)
    study = optuna.create_study(
        sampler=sampler, storage=storage, study_name="s", load_if_exists=True
    )
    study.optimize(objective, n_trials=n_trials)
    return study


def params(study):
    return [t.params for t in study.trials]


def rotations(study):
    """Rotated coordinates of each trial's fit, where it has one."""
    texts = [t.system_attrs[fit_store.KEY] for t in study.trials if fit_store.KEY in t.system_attrs]
    return [(json.loads(text)[3:] or [[]])[0] for text in texts]


def test_a_rotated_study_resumed_again_and_again_goes_on_bit_for_bit(tmp_path):
    whole = run(continuous, 40)
    assert [0, 1, 2] in rotations(whole)
    url = f"sqlite:///{tmp_path}/study.db"
    for _ in range(4):
        parts = run(continuous, 10, storage=url)
    assert params(parts) == params(whole)
    assert rotations(parts) == rotations(whole)


@pytest.mark.slow
def test_rotation_helps_in_a_rotated_valley():
    model = AlgorithmOptions(quadratic_from=np.inf)
    ends = {on: [run(continuous, 50, seed=s, rotation=on, _options=model).best_value
                 for s in range(4)] for on in (True, False)}  # fmt: skip
    assert np.median(ends[True]) < np.median(ends[False]) / 2


def test_integers_categories_and_conditional_parameters_are_never_rotated():
    study = run(mixed, 60)
    found = [index for index in rotations(study) if index]
    names = list(study.sampler.inspect(study).search_space)
    assert found
    assert {names[j] for index in found for j in index} == {"x", "y", "z"}
    rotation = study.sampler.inspect(study).surrogate().hyper.rotation
    others = [names.index(name) for name in ("kind", "n", "only_b")]
    assert np.array_equal(rotation[others], np.eye(6)[others])
    assert np.array_equal(rotation[:, others], np.eye(6)[:, others])


def test_a_study_that_keeps_no_rotation_is_the_same_as_without_any():
    def bowl(trial):
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
        return (x - 1) ** 2 + 10 * (y + 2) ** 2

    study = run(bowl, 40)
    assert not any(rotations(study))
    assert params(study) == params(run(bowl, 40, rotation=False))


def test_switched_off_a_rotated_study_goes_on_without():
    study = run(continuous, 40)
    assert rotations(study)[-1] == [0, 1, 2]
    sampler = FisherSampler(seed=0, rotation=False)
    for off in (sampler, pickle.loads(pickle.dumps(sampler))):
        assert off.inspect(study).surrogate().hyper.rotation is None
        off.recommend(study)
    study.sampler = sampler
    study.optimize(continuous, n_trials=2)
    assert rotations(study)[-1] == []


def test_a_parameter_that_becomes_an_integer_is_rotated_no_more():
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 3)), rng.standard_normal(40)
    floats = {name: optuna.distributions.FloatDistribution(0, 1) for name in "xyz"}
    stepped = floats | {"y": optuna.distributions.FloatDistribution(0, 1, step=0.25)}
    last = Fit(40, Hyper(np.ones(3), 1.0, 0.1, AXES))
    assert refit(x, y, to_space(floats), last, rotation=True) is last
    assert refit(x, y, to_space(floats), last, rotation=False).hyper.rotation is None
    found = refit(x, y, to_space(stepped), last, rotation=True).hyper.rotation
    assert 1 not in rotated(found)


@pytest.mark.parametrize(("d", "index"), [(3, [0, 1, 2]), (6, [1, 3, 4]), (20, range(20)),
                                          (148, range(0, 100, 5))])  # fmt: skip
def test_fits_are_kept_with_their_rotation(d, index):
    index, rng = np.array(index), np.random.default_rng(0)
    rotation = from_reflectors(rng.uniform(-1, 1, len(index) * (len(index) - 1) // 2), index, d)
    hyper = rounded(Hyper(rng.uniform(0.1, 2, d), 1.3, 0.01, rotation))
    names = [f"p{j}" for j in range(d)]
    text = fit_store.encode(Fit(7, hyper), names)
    assert len(text) <= 2000
    trial = optuna.trial.create_trial(
        state=TrialState.COMPLETE, value=0.0, system_attrs={fit_store.KEY: text}
    )
    found = fit_store.latest([trial], names)
    assert found.count == 7
    assert np.array_equal(found.hyper.to_vector(), hyper.to_vector())
    assert np.array_equal(found.hyper.rotation, hyper.rotation)
    assert hyper.rotation @ hyper.rotation.T == pytest.approx(np.eye(d), abs=1e-12)
    assert np.abs(hyper.rotation @ rotation.T) == pytest.approx(np.eye(d), abs=1e-5)
    plain = json.loads(fit_store.encode(Fit(7, prior_mode(d)), names))
    assert len(plain) == 3  # as before there were rotations


def test_importance_along_a_parameter_is_that_of_the_rotated_model():
    """Lengthscales along parameters are those of the prior variance of the slopes there."""
    study = run(continuous, 40)
    seen = study.sampler.inspect(study)
    hyper = seen.surrogate().hyper
    assert hyper.rotation is not None
    matrix = hyper.rotation.T @ np.diag(hyper.lengthscale**-2.0) @ hyper.rotation
    assert seen.lengthscale() == pytest.approx(matrix.diagonal() ** -0.5)


def test_several_objectives_and_constraints_go_together_with_a_rotation():
    def objective(trial):
        loss = continuous(trial)
        trial.set_constraint("x", trial.params["x"] - 0.9)
        return loss, trial.params["x"]

    sampler = FisherSampler(seed=0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=34)
    keys = [f"{fit_store.KEY}:0", f"{fit_store.KEY}:1"]
    kept = [
        json.loads(t.system_attrs[k]) for t in study.trials for k in keys if k in t.system_attrs
    ]
    assert any(len(fit) > 3 for fit in kept)
