"""`FisherSampler(surrogate=...)`: other people's models in the same study."""

import pickle

import numpy as np
import optuna
import pytest
import torch
from botorch.models import MixedSingleTaskGP, SingleTaskGP
from optuna.trial import TrialState

from fisherbo import FisherSampler
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import fit_store


def bowl(trial):
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-3, 10, log=True)
    return (x - 1) ** 2 + np.log(y) ** 2


def unfitted(x, y):
    """A model that is quick since nothing is fitted."""
    return SingleTaskGP(x, y).eval()


def run(objective, n_trials, **options):
    study = optuna.create_study(sampler=FisherSampler(seed=0, **options))
    study.optimize(objective, n_trials=n_trials)
    return study


def test_a_model_class_finds_the_bottom_of_a_bowl():
    torch.manual_seed(5)
    before = torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads()
    study = run(bowl, 14, surrogate=SingleTaskGP)
    assert study.best_value < 0.2
    assert not any(fit_store.KEY in t.system_attrs for t in study.trials)
    after = torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads()
    assert after == before


def test_a_closure_names_the_categories_of_a_mixed_space():
    def mixed(trial):
        kind = trial.suggest_categorical("a_kind", ["bad", "good", "ugly"])
        n = trial.suggest_int("n", 1, 9)
        x = trial.suggest_float("x", 0, 1)
        return {"bad": 1.0, "good": 0.0, "ugly": 2.0}[kind] + (n - 4) ** 2 / 9 + (x - 0.3) ** 2

    def factory(x, y):
        shapes.append((x.shape[1], y.shape[1], x.dtype, y.mean().abs().item() < 1e-9))
        assert set(x[:, 0].tolist()) <= {0.0, 0.5, 1.0}
        return MixedSingleTaskGP(x, y, cat_dims=[0]).eval()

    shapes = []
    study = run(mixed, 13, surrogate=factory)
    assert set(shapes) == {(3, 1, torch.float64, True)}
    assert study.best_params["a_kind"] == "good"
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_suggestions_depend_on_seed_and_number_alone():
    def random_model(x, y):
        model = SingleTaskGP(x, y).eval()
        model.mean_module.constant = torch.rand(1, dtype=torch.float64)
        return model

    one = run(bowl, 13, surrogate=random_model)
    torch.manual_seed(99)
    assert [t.params for t in run(bowl, 13, surrogate=random_model).trials] == [
        t.params for t in one.trials
    ]


def test_pending_points_are_not_asked_again():
    study = run(bowl, 11, surrogate=unfitted)
    trials = [study.ask() for _ in range(4)]
    points = np.array([(t.suggest_float("x", -5, 5), bowl(t)) for t in trials])
    assert np.abs(np.diff(points[:, 0])).min() > 1e-3


def test_pickles_and_threads_work():
    sampler = pickle.loads(pickle.dumps(FisherSampler(seed=0, surrogate=unfitted)))
    study = optuna.create_study(sampler=sampler)
    study.optimize(bowl, n_trials=14, n_jobs=3)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)


def test_a_factorys_error_fails_the_trial_and_leaves_the_study_usable():
    def broken(x, y):
        raise RuntimeError("my model broke")

    study = run(bowl, 10)
    study.sampler = FisherSampler(seed=0, surrogate=broken)
    with pytest.raises(RuntimeError, match="my model broke"):
        study.optimize(bowl, n_trials=1)
    assert study.trials[-1].state == TrialState.FAIL
    study.sampler = FisherSampler(seed=0, surrogate=unfitted)
    study.optimize(bowl, n_trials=1)
    assert study.trials[-1].state == TrialState.COMPLETE


def test_what_is_no_factory_is_refused():
    with pytest.raises(InvalidInputError, match=r"must be a callable .* got 'GP'"):
        FisherSampler(surrogate="GP")
    with pytest.raises(InvalidInputError, match="return a BoTorch model, got dict"):
        run(bowl, 11, surrogate=lambda x, y: {})
