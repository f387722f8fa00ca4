"""What is read of costs, their model, what they change, and the end of the budget."""

import math
import pickle
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from fisherbo import FisherSampler, StopWhenSpent
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import costs as sampler_costs
from fisherbo.sampler.cost_settings import CostSettings
from fisherbo.sampler.costs import costs_of
from fisherbo.sampler.options import DEFAULTS
from fisherbo.sampler.trials import FAILED


def cost_data(trials, settings, options):
    return sampler_costs.cost_data(trials, np.ones(len(trials), dtype=bool), settings, options)


def spent(trials, name):
    return sampler_costs.spent(trials, costs_of(trials, name))


START = datetime(2024, 5, 1)
UNIT = {"x": FloatDistribution(0.0, 1.0)}


def trial(seconds=None, *, state=TrialState.COMPLETE, user=None, system=None, number=0):
    """A trial of so many seconds by the clock."""
    made = create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions=UNIT,
        user_attrs=user or {},
        system_attrs=system or {},
    )
    made.number, made.datetime_start = number, START
    if seconds is not None:
        made.datetime_complete = START + timedelta(seconds=seconds)
    return made


FAILURE = {"state": TrialState.FAIL, "system": {FAILED: True}}


def test_the_clock_tells_seconds_unless_the_objective_does():
    trials = [
        trial(3.0),
        trial(3.0, user={"seconds": 0.5}),
        trial(0.0),  # added as finished
        trial(-3600.0),  # the clock was set back
        trial(state=TrialState.RUNNING, user={"seconds": 9.0}),
    ]
    assert costs_of(trials, "seconds").tolist()[:2] == [3.0, 0.5]
    assert np.isnan(costs_of(trials, "seconds")[2:]).all()
    assert spent(trials, "seconds") == 3.5


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "3", True, None, [1.0]])
def test_what_is_no_cost_counts_as_not_known(value):
    trials = [trial(1.0, user={"dollars": value}, number=7), trial(1.0, user={"dollars": 2})]
    found = cost_data(trials, CostSettings("dollars"), DEFAULTS)
    assert np.isnan(found.y).tolist() == [True, False]
    assert found.spent == 2.0
    assert "Trial 7 tells its cost 'dollars'" in found.warning


def test_a_free_trial_is_spent_but_not_modelled():
    trials = [trial(user={"dollars": c}) for c in (0, 1, 3)]
    found = cost_data(trials, CostSettings("dollars"), DEFAULTS)
    assert np.isnan(found.y).tolist() == [True, False, False]
    assert found.spent == 4.0
    assert found.warning is None


def test_the_log_cost_is_standardised_above_a_floor():
    costs = np.array([1.0, 2.0, 4.0, 100.0])
    found = cost_data([trial(c) for c in costs], CostSettings("seconds"), DEFAULTS)
    logs = np.log(costs + DEFAULTS.cost_floor * 3.0)
    assert found.y == pytest.approx((logs - logs.mean()) / logs.std())
    unit = type("Model", (), {"mean": lambda self, x: found.y})()
    assert found.median(unit, np.zeros((4, 1))) == pytest.approx(costs)


def test_a_failure_tells_a_lower_bound_and_a_killed_worker_nothing():
    trials = [trial(c) for c in (2.0, 4.0, 6.0)]
    trials += [trial(9.0, **FAILURE), trial(0.1, **FAILURE), trial(5.0, state=TrialState.FAIL)]
    found = cost_data(trials, CostSettings("seconds"), DEFAULTS)
    assert np.isnan(found.y).tolist() == [False, False, False, False, True, True]
    assert found.y[3] > found.y[2]


def test_the_late_end_of_a_killed_worker_does_not_spend_the_budget():
    trials = [trial(2.0), trial(4.0), trial(40_000.0, state=TrialState.FAIL)]
    assert spent(trials, "seconds") == 2.0 + 4.0 + 4.0


def test_a_pruned_trial_counts_with_what_it_cost():
    trials = [trial(8.0), trial(2.0, state=TrialState.PRUNED)]
    found = cost_data(trials, CostSettings("seconds"), DEFAULTS)
    assert found.spent == 10.0
    assert not np.isnan(found.y).any()


def objective(told=None):
    """A smooth valley of the same value at all costs, which rise a hundredfold along y."""

    def value(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        if told is not None:
            trial.set_user_attr("dollars", told(trial, x, y))
        return (x - 0.3) ** 2 + 0.1 * math.sin(9 * y)

    return value


def steep(trial, x, y):
    return 100.0**y


def run(sampler, told, n_trials=25, **kwargs):
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective(told), n_trials=n_trials, **kwargs)
    return study


def params(study):
    return [t.params for t in study.trials]


def aware(seed=0, **kwargs):
    return FisherSampler(seed=seed, cost="dollars", **kwargs)


def test_equal_costs_change_no_choice():
    plain = params(run(FisherSampler(seed=0), None))
    assert params(run(aware(), lambda *_: 3.0)) == plain
    assert params(run(aware(budget=1000), lambda *_: 3.0)) == plain
    assert params(run(aware(), None)) == plain


def test_one_unit_of_cost_is_as_good_as_another():
    in_dollars = params(run(aware(), steep))
    in_cents = params(run(aware(), lambda *args: 128 * steep(*args)))
    assert len(in_cents) == len(in_dollars)
    for a, b in zip(in_cents, in_dollars, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_cheap_trials_are_preferred_where_nothing_is_lost():
    def valley(trial):
        y = trial.suggest_float("y", 0, 1)
        trial.set_user_attr("dollars", 100.0**y)
        return (trial.suggest_float("x", 0, 1) - 0.3) ** 2

    typical = []
    for sampler in (FisherSampler(seed=0), aware()):
        study = optuna.create_study(sampler=sampler)
        study.optimize(valley, n_trials=25)
        typical.append(np.median([t.user_attrs["dollars"] for t in study.trials[10:]]))
        assert study.best_value < 1e-3
    assert typical[1] < typical[0] / 3


def test_the_model_predicts_costs():
    study = run(aware(), steep, 29)
    seen = study.sampler.inspect(study)
    costs, grid = seen.request.costs, np.random.default_rng(0).random((50, 2))
    # the coordinates are those of the parameters' ranges, here the unit square
    median = costs.median(seen.cost.surrogate, grid)
    assert np.abs(np.log(median / 100.0 ** grid[:, 1])).mean() < 0.3
    assert seen.median_cost == pytest.approx(100.0 ** seen.next[1], rel=0.5)
    assert "for what it costs" in _reason(study)


def _reason(study):
    from fisherbo.sampler.next_trial import next_trial

    return next_trial(study).reason


def test_the_model_is_the_gaussian_process_of_the_standardised_log_cost():
    study = run(aware(), steep, 20)
    seen = study.sampler.inspect(study)
    surrogate, y = seen.cost.surrogate, seen.request.costs.y
    x, hyper = seen.observations.points, surrogate.hyper

    def kernel(a, b):
        r = np.sqrt((((a[:, None] - b[None]) / hyper.lengthscale) ** 2).sum(-1))
        return hyper.signal * (1 + math.sqrt(3) * r) * np.exp(-math.sqrt(3) * r)

    new = np.random.default_rng(1).random((9, 2))
    gram = kernel(x, x) + hyper.noise * np.eye(len(x))
    mean = kernel(new, x) @ np.linalg.solve(gram, y)
    assert surrogate.mean(new) == pytest.approx(mean, abs=1e-6)


def test_the_fit_of_the_costs_is_kept_and_a_study_goes_on_as_it_was():
    whole = run(aware(budget=2000), steep, 24)
    assert any("fisherbo:fit:cost" in t.system_attrs for t in whole.trials)
    parts = optuna.create_study(sampler=aware(budget=2000))
    for n in (7, 9, 8):
        parts.sampler = pickle.loads(pickle.dumps(aware(budget=2000)))
        parts.optimize(objective(steep), n_trials=n)
    assert params(parts) == params(whole)


def test_what_is_left_lowers_the_power_of_the_cost_and_bounds_it():
    study = run(aware(), steep, 20)
    seen = study.sampler.inspect(study)
    costs, surrogate, none = seen.request.costs, seen.cost.surrogate, np.empty((0, 2))

    def weights(budget, options=DEFAULTS):
        held = replace(costs, settings=CostSettings("dollars", budget))
        return [getattr(f, "weight", None) for f in held.factors(surrogate, none, options)]

    assert weights(None) == [costs.scale]
    rich = 4 * costs.spent
    assert weights(rich) == [costs.scale]
    cooled = replace(DEFAULTS, cost_cooling=True)
    assert weights(rich, cooled) == [pytest.approx(0.75 * costs.scale)]
    assert weights(costs.spent + costs.largest / 2)[1:] == [None]  # within what is left
    assert weights(costs.spent / 2, cooled) == []
    held = replace(costs, settings=CostSettings("dollars", rich))
    pending = seen.observations.points[:3]
    committed = costs.median(surrogate, pending).sum()
    assert held.left(surrogate, pending) == pytest.approx(rich - costs.spent - committed)


def test_trials_are_kept_within_what_is_left():
    study = run(aware(), steep, 20)
    left = 5.0
    study.sampler = aware(budget=sum(t.user_attrs["dollars"] for t in study.trials) + left)
    assert study.sampler.inspect(study).median_cost < left


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_constraints_objectives_and_conditions_are_no_obstacle(directions):
    def told(trial):
        x = trial.suggest_float("x", 1e-3, 1, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        n = trial.suggest_int("n", 1, 9) if kind == "a" else 5
        trial.set_user_attr("dollars", n * x)
        trial.set_constraint("c", x - 0.5)
        if n == 9:
            raise ZeroDivisionError
        return [x * n, n - x][: len(directions)]

    study = optuna.create_study(directions=directions, sampler=aware(budget=30))
    study.optimize(told, n_trials=20, catch=ZeroDivisionError)
    assert study.sampler.inspect(study).cost is not None


def test_an_untold_cost_is_noticed_once(caplog):
    optuna.logging.enable_propagation()
    try:
        study = run(FisherSampler(seed=0, cost="euros"), steep, 12)
    finally:
        optuna.logging.disable_propagation()
    said = {r.created for r in caplog.records if "tells its cost 'euros'" in r.getMessage()}
    assert len(said) == 1
    assert len(study.trials) == 12


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"budget": 3}, "budget needs cost"),
        ({"cost": ""}, "cost must be"),
        ({"cost": 3}, "cost must be"),
        ({"cost": True}, "cost must be"),
        ({"cost": "seconds", "budget": 0}, "budget must be > 0"),
        ({"cost": "seconds", "budget": math.nan}, "budget must be > 0"),
        ({"cost": "seconds", "budget": math.inf}, "budget must be > 0"),
        ({"cost": "seconds", "budget": "1h"}, "budget must be > 0"),
        ({"cost": "seconds", "budget": True}, "budget must be > 0"),
    ],
)
def test_arguments_that_are_no_costs_are_refused(kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        FisherSampler(**kwargs)
    if "budget needs" not in message:
        with pytest.raises(InvalidInputError, match=message):
            StopWhenSpent(**kwargs)


def test_a_study_without_a_budget_is_refused():
    with pytest.raises(InvalidInputError, match="needs a budget"):
        run(aware(), steep, 1, callbacks=[StopWhenSpent()])


def total(study):
    return sum(t.user_attrs["dollars"] for t in study.trials)


def test_the_study_ends_within_its_budget():
    study = run(aware(budget=300), steep, 200, callbacks=[StopWhenSpent()])
    assert 200 < total(study) <= 320
    assert len(study.trials) < 200
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert StopWhenSpent().left(study) == pytest.approx(300 - total(study))


def test_it_ends_before_a_trial_that_does_not_fit():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    stop = StopWhenSpent(25, cost="dollars")
    study.optimize(objective(lambda *_: 10.0), n_trials=9, callbacks=[stop])
    assert len(study.trials) == 2
    assert stop.exhausted(study)
    assert not StopWhenSpent(30, cost="dollars").exhausted(study)


def test_it_ends_when_the_sampler_can_afford_nothing_any_more():
    study = run(aware(), lambda trial, x, y: 50.0 + y, 15)
    spent_so_far = total(study)
    study.sampler = aware(budget=spent_so_far + 20)
    assert StopWhenSpent().exhausted(study)
    study.sampler = aware(budget=spent_so_far + 55)
    assert not StopWhenSpent().exhausted(study)


def test_running_trials_count_with_the_median_cost():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective(lambda *_: 10.0), n_trials=2)
    stop = StopWhenSpent(45, cost="dollars")
    assert stop.left(study) == 25
    first, second = study.ask(), study.ask()
    assert stop.left(study) == 5
    assert stop.exhausted(study)
    for asked in (first, second):
        study.tell(asked, objective(lambda *_: 1.0)(asked))
    assert not stop.exhausted(study)


def test_threads_and_a_database_lose_no_trial(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, sampler=aware(budget=40))
    study.optimize(
        objective(lambda t, x, y: 2.0 + y), n_trials=60, n_jobs=2, callbacks=[StopWhenSpent()]
    )
    assert 36 < total(study) <= 43
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    again = optuna.load_study(study_name=study.study_name, storage=storage)
    assert StopWhenSpent(40, cost="dollars").exhausted(again)


def test_seconds_of_real_trials_end_a_study():
    study = optuna.create_study(sampler=FisherSampler(seed=0, cost="seconds", budget=0.05))

    def nap(trial):
        x = trial.suggest_float("x", 0, 1)
        until = datetime.now() + timedelta(seconds=0.01)
        while datetime.now() < until:
            pass
        return x

    study.optimize(nap, n_trials=50, callbacks=[StopWhenSpent()])
    assert 1 <= len(study.trials) <= 5
