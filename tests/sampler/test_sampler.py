import copy
import os
import pickle
import random
import subprocess
import sys
import threading

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from fisherbo import FisherSampler
from fisherbo.errors import InvalidInputError
from fisherbo.gp import model
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.model import Fit
from fisherbo.sampler import fit_store
from fisherbo.sampler.observations import observe
from fisherbo.sampler.search_space import to_params, to_space
from fisherbo.sampler.trials import read


def bowl(trial):
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_float("y", 1e-3, 10, log=True)
    return (x - 1) ** 2 + np.log(y) ** 2


def mixed(trial):
    a = trial.suggest_categorical("a", ["bad", "good", "ugly"])
    n = trial.suggest_int("n", 1, 64, log=True)
    x = trial.suggest_float("x", 0, 1, step=0.05)
    return {"bad": 1.0, "good": 0.0, "ugly": 2.0}[a] + abs(n - 9) / 10 + (x - 0.35) ** 2


def run(objective, n_trials, *, seed=0, direction="minimize", **kwargs):
    study = optuna.create_study(sampler=FisherSampler(seed=seed, **kwargs), direction=direction)
    study.optimize(objective, n_trials=n_trials)
    return study


def test_it_finds_the_bottom_of_a_bowl():
    assert run(bowl, 30).best_value < 1e-2


def test_it_finds_the_best_of_a_mixed_space():
    study = run(mixed, 45)
    assert study.best_params["a"] == "good"
    assert study.best_value < 0.15


def test_maximizing_is_minimizing_the_negative():
    down = run(bowl, 16)
    up = run(lambda t: -bowl(t), 16, direction="maximize")
    assert [t.params for t in down.trials] == [t.params for t in up.trials]


def test_a_resumed_study_goes_on_bit_for_bit(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    whole = run(bowl, 64, seed=3)
    for n in (9, 8, 28, 19):
        study = optuna.create_study(
            storage=url, study_name="s", load_if_exists=True, sampler=FisherSampler(seed=3)
        )
        study.optimize(bowl, n_trials=n)
    assert [t.params for t in study.trials] == [t.params for t in whole.trials]


def test_seeds_differ_and_none_is_random():
    first, second = (run(bowl, 12, seed=s).trials[-1].params for s in (0, 1))
    assert first != second
    assert run(bowl, 2, seed=None).trials[0].params != run(bowl, 2, seed=None).trials[0].params


def test_workers_with_one_seed_never_repeat_a_point():
    study = optuna.create_study()
    seen = []
    for _ in range(12):
        study.sampler = FisherSampler(seed=0, n_startup_trials=3)
        trial = study.ask()
        value = bowl(trial)
        seen.append(tuple(trial.params.values()))
        study.tell(trial, value)
    assert len(set(seen)) == 12


def test_many_asks_without_a_tell_spread_out():
    assert min(nearest_of_six_asks(seed) for seed in range(6)) > 1e-2


def nearest_of_six_asks(seed):
    study = run(bowl, 12, seed=seed)
    trials = [study.ask() for _ in range(6)]
    points = np.array(
        [(t.suggest_float("x", -5, 5), t.suggest_float("y", 1e-3, 10, log=True)) for t in trials]
    )
    scaled = np.stack([points[:, 0] / 10, np.log(points[:, 1]) / np.log(1e4)], 1)
    return np.linalg.norm(scaled[:, None] - scaled, axis=-1)[np.triu_indices(6, 1)].min()


def test_a_grid_is_searched_without_repeats():
    study = run(
        lambda t: t.suggest_int("i", 0, 4) + t.suggest_categorical("c", [0, 1, 2, 3, 4]), 25
    )
    assert len({tuple(sorted(t.params.items())) for t in study.trials[1:]}) >= 24


def test_copies_and_pickles_suggest_the_same():
    sampler = FisherSampler(seed=7)
    twins = [sampler, copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))]
    results = []
    for twin in twins:
        study = optuna.create_study(sampler=twin)
        study.optimize(bowl, n_trials=13)
        results.append([t.params for t in study.trials])
    assert results[0] == results[1] == results[2]


def test_no_global_state_changes():
    def state():
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002 - the state that must not move
        return legacy, random.getstate(), dict(os.environ), threading.active_count(), np.geterr()

    before = state()
    run(bowl, 14)
    assert state() == before


def test_import_and_suggestion_do_not_import_torch():
    code = (
        "import sys, fisherbo; assert 'optuna' not in sys.modules; "
        "import optuna; optuna.logging.set_verbosity(optuna.logging.ERROR); "
        "s = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0, n_startup_trials=2)); "
        "s.optimize(lambda t: t.suggest_float('x', 0, 1), n_trials=4); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_fixed_and_enqueued_values_are_kept():
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=1))
    for x in (0.0, 1.0, 2.0):
        study.enqueue_trial({"x": x})
    study.optimize(bowl, n_trials=5)
    assert [t.params["x"] for t in study.trials[:3]] == [0.0, 1.0, 2.0]


def test_an_independent_sampler_draws_the_first_trials():
    class Constant(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            return 1.0

    study = optuna.create_study(
        sampler=FisherSampler(seed=0, n_startup_trials=3, independent_sampler=Constant())
    )
    study.optimize(bowl, n_trials=5)
    values = [tuple(t.params.values()) for t in study.trials]
    assert values[:3] == [(1.0, 1.0)] * 3
    assert values[3] != (1.0, 1.0)


def test_startup_points_are_a_low_discrepancy_design():
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=17))
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), n_trials=17)
    points = np.array([list(t.params.values()) for t in study.trials[1:]])
    cells = {tuple(cell) for cell in (points * 4).astype(int).tolist()}
    assert len(cells) >= 12  # 16 random points fill about 10 of 16 cells


def test_failed_and_pruned_trials_inform_the_model():
    def fails_on_the_left(trial):
        x = trial.suggest_float("x", 0, 1)
        if x < 0.5:
            return float("nan")
        return -x * (x < 0.9)

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(fails_on_the_left, n_trials=30)
    late = [t.params["x"] for t in study.trials[12:]]
    assert np.mean(np.array(late) < 0.5) < 0.25


def observations(search_space, trials):
    space = to_space(search_space)
    table = read(space, search_space, trials)
    return observe(space, table, [optuna.study.StudyDirection.MINIMIZE], separate_failures=False)


def test_a_killed_workers_trial_teaches_nothing():
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(bowl, n_trials=3)
    killed = study.ask()
    bowl(killed)
    study._storage.set_trial_state_values(killed._trial_id, TrialState.FAIL)  # as a stale heartbeat
    told = study.ask()
    bowl(told)
    study.tell(told, state=TrialState.FAIL)
    search_space = study.trials[0].distributions
    data = observations(search_space, study.trials)
    assert len(data.y) == 4
    assert data.y[-1, 0] == -np.inf


def test_pruned_trials_take_the_value_of_their_rank():
    space_of = {"x": FloatDistribution(0, 1)}
    trials = [
        create_trial(
            params={"x": v},
            distributions=space_of,
            value=10 * v,
            intermediate_values={1: v, 2: 2 * v},
        )
        for v in (0.1, 0.2, 0.3, 0.4)
    ]
    pruned = create_trial(
        params={"x": 0.9},
        distributions=space_of,
        state=TrialState.PRUNED,
        intermediate_values={1: 0.25},
        value=0.25,
    )
    silent = create_trial(params={"x": 0.8}, distributions=space_of, state=TrialState.PRUNED)
    data = observations(space_of, [*trials, pruned, silent])
    assert data.y[:, 0].tolist() == [-1.0, -2.0, -3.0, -4.0, -2.5, -np.inf]
    assert data.x[:, 0] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.9, 0.8])


def test_parameters_return_as_python_values():
    search_space = {
        "f": FloatDistribution(0, 1),
        "i": IntDistribution(1, 1000, log=True),
        "s": IntDistribution(0, 10, step=5),
        "c": CategoricalDistribution(["a", None, 3.5]),
    }
    space = to_space(search_space)
    for u in (0.0, 0.49, 1.0):
        params = to_params(space, search_space, np.full(4, u))
        assert [type(params[k]) for k in "fis"] == [float, int, int]
        for name, distribution in search_space.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))


def test_hyperparameters_are_kept_in_the_study_in_little_room():
    study = run(bowl, 14)
    text = study.trials[-1].system_attrs[fit_store.KEY]
    fit = fit_store.latest(study.trials, ("x", "y"))
    assert fit is not None and len(fit.hyper.lengthscale) == 2
    assert len(text) < 100
    assert fit_store.latest(study.trials, ("x", "y", "z")) is None
    assert fit_store.latest(study.trials, ("other", "names")) is None
    names = [f"x{j}" for j in range(300)]
    assert len(fit_store.encode(Fit(1, Hyper(np.ones(300), 1.0, 1.0)), names)) < 2000


def test_bad_arguments_and_studies_are_refused_clearly():
    with pytest.raises(InvalidInputError, match="n_startup_trials must be >= 0, got -1"):
        FisherSampler(n_startup_trials=-1)
    study = optuna.create_study(directions=["minimize"] * 5, sampler=FisherSampler(seed=0))
    with pytest.raises(ValueError, match="at most 4 objectives, got 5"):
        study.optimize(lambda t: (t.suggest_float("x", 0, 1), 0.0, 0.0, 0.0, 0.0), n_trials=1)


@pytest.mark.parametrize("value", [0.0, float("inf"), float("-inf"), 1e300, -1e300])
def test_a_search_of_a_flat_objective_spreads_over_the_space(value):
    """Nothing tells the points apart: no corner of the square stays empty, none is crowded."""
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=4))
    ask = lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1))  # noqa: E731
    study.optimize(lambda t: value if min(ask(t)) >= 0 else 1.0, n_trials=40)
    points = np.array([[t.params["x"], t.params["y"]] for t in study.trials])
    quarters = np.bincount((points > 0.5) @ [1, 2], minlength=4)
    assert quarters.min() >= 4  # of uniform points with a probability of 99.6 %
    apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(40, 1)]
    assert apart.min() > 1e-3


@pytest.mark.parametrize("objectives", [1, 2])
def test_the_callers_floating_point_errors_are_of_no_account(objectives):
    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("c", x + y - 1)
        return (x * x + y, (1 - x) ** 2 + y)[:objectives]

    def params():
        study = optuna.create_study(
            directions=["minimize"] * objectives, sampler=FisherSampler(seed=0, n_startup_trials=5)
        )
        study.optimize(objective, n_trials=24)
        if objectives == 1:
            study.sampler.recommend(study)
        study.sampler.inspect(study)
        return [t.params for t in study.trials]

    expected = params()
    with np.errstate(all="raise"):
        assert params() == expected


def test_rivals_share_one_fit(monkeypatch):
    fits = []
    mode = model.mode
    monkeypatch.setattr(model, "mode", lambda *a, **k: fits.append(1) or mode(*a, **k))
    study = run(bowl, 8, n_startup_trials=5)
    trials = [study.ask() for _ in range(3)]
    fits.clear()
    bowl(trials[2])  # two others were asked for before, and have not chosen yet
    assert len(fits) == 1
