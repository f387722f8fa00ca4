"""Constraints that trials leave out: to Optuna a trial that tells none is feasible."""

import math

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler

from fisherbo import FisherSampler
from fisherbo.acquisition.propose import CONSTRAINED, Effort
from fisherbo.sampler import suggest
from fisherbo.sampler.constraints import constraint_data

D = 3


def always(trial, c):
    trial.set_constraint("c", c)


def broken(trial, c):
    if c > 0:
        trial.set_constraint("c", c)


def broken_as_one(trial, c):
    if c > 0:
        trial.set_constraint("c", 1.0)


def broken_huge(trial, c):
    if c > 0:
        trial.set_constraint("c", 1e30)


def broken_infinite(trial, c):
    if c > 0:
        trial.set_constraint("c", math.inf)


def broken_by_any_name(trial, c):
    if c > 0:
        trial.set_constraint(f"error {trial.number % 4}", 1.0)


def once(trial, c):
    if trial.number == 3:
        trial.set_constraint("c", 1.0)


def once_feasible(trial, c):
    if trial.number == 3:
        trial.set_constraint("c", -1.0)


def every_other(trial, c):
    if trial.number % 2:
        trial.set_constraint("c", c)


def where_feasible(trial, c):
    if c <= 0:
        trial.set_constraint("c", c)


TOLD = [
    *(always, broken, broken_as_one, broken_huge, broken_infinite, broken_by_any_name),
    *(once, once_feasible, every_other, where_feasible),
]


def study_of(tell, sampler, n_trials=45):
    def objective(trial):
        x = np.array([trial.suggest_float(f"x{j}", -5, 5) for j in range(D)])
        tell(trial, float(x[0] + x[1] - 1.5))
        return float(((x - 1) ** 2).sum())

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("tell", TOLD)
def test_untold_constraints_are_no_worse_than_with_tpe(tell):
    """Median of three paired seeds."""
    ours = [study_of(tell, FisherSampler(seed=s)).best_value for s in range(3)]
    theirs = [study_of(tell, TPESampler(seed=s)).best_value for s in range(3)]
    assert np.median(ours) <= np.median(theirs)


@pytest.mark.parametrize("tell", [once, once_feasible, where_feasible])
def test_a_constraint_that_tells_next_to_nothing_leaves_the_objective(tell):
    assert study_of(tell, FisherSampler(seed=0)).best_value < 0.01


def test_untold_means_feasible_of_unknown_slack():
    study = study_of(broken, FisherSampler(seed=0), 12)
    reader = study.sampler._readers.of(study)
    _, table = reader.table(reader.parameters(study.trials).varying, study.trials)
    (data,) = constraint_data(table)
    untold = np.array([not t.constraints for t in study.trials])
    assert 0 < untold.sum() < 12
    assert (data.y[untold] > 0).all() and (data.noise[untold] > 0).all()
    assert (data.y[~untold] < 0).all() and (data.noise[~untold] == 0).all()


def test_what_was_never_broken_and_not_always_told_has_no_model():
    study = study_of(once_feasible, FisherSampler(seed=0), 14)
    assert not any(
        "constraint" in key for t in study.trials for key in t.system_attrs if "fisherbo" in key
    )


def test_a_constraint_of_a_trial_without_parameters_has_no_model(capfd):
    def objective(trial):
        if trial.number == 0:
            trial.set_constraint("c", 1.0)
            return 9.0
        return sum((trial.suggest_float(f"x{j}", -5, 5) - 1) ** 2 for j in range(3))

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=25)
    assert "illegal value" not in "".join(capfd.readouterr())  # LAPACK's complaint
    assert min(t.value for t in study.trials) < 0.5


def test_a_search_without_a_feasible_point_is_kept_off_no_point(monkeypatch):
    kept = []
    known = suggest._exclusion_zones

    def spy(request, objectives):
        found = known(request, objectives)
        kept.append((bool(request.observations.usable.any()), found))
        return found

    monkeypatch.setattr(suggest, "_exclusion_zones", spy)

    def objective(trial):
        x = np.array([trial.suggest_float(f"x{j}", 0, 1) for j in range(4)])
        trial.set_constraint("ball", float(((x - 0.3) ** 2).sum() - 1e-4))
        return float(x.sum())

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=30)
    nothing = [balls for usable, balls in kept if not usable]
    assert len(nothing) > 5
    assert all(balls is None for balls in nothing)


def failing(trial):
    """Fails on a third of the range; the values elsewhere nearly tie."""
    x, z = trial.suggest_float("x", -1, 2), trial.suggest_float("z", 0, 1)
    if x <= 0:
        raise ValueError
    return round(0.9 + 0.05 * z, 2)


def infeasible(trial):
    x, z = trial.suggest_float("x", -1, 2), trial.suggest_float("z", 0, 1)
    trial.set_constraint("c", -x)
    return round(0.9 + 0.05 * z, 2)


@pytest.mark.parametrize("objective", [failing, infeasible])
def test_ties_of_good_values_do_not_send_the_search_where_trials_fail(objective):
    late = 0
    for seed in range(3):
        study = optuna.create_study(direction="maximize", sampler=FisherSampler(seed=seed))
        study.optimize(objective, n_trials=40, catch=(ValueError,))
        late += sum(t.params["x"] <= 0 for t in study.trials[10:])
    assert late / 90 < 0.2  # at random a third


def effort_of(tell, objectives=1):
    """The effort of the next suggestion, as its request says."""
    found = []

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        tell(trial, x - 0.5)
        if trial.number % 2 and tell is nothing:
            raise ValueError
        return (x,) * objectives

    study = optuna.create_study(directions=["minimize"] * objectives, sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=12, catch=(ValueError,))
    with pytest.MonkeyPatch.context() as patch:
        best = suggest.best_point

        def seen(request, models, rng):
            found.append((request.effort, models))
            return best(request, models, rng)

        patch.setattr(suggest, "best_point", seen)
        study.optimize(objective, n_trials=1, catch=(ValueError,))
    ((effort, models),) = found
    return effort, models


def nothing(trial, c):
    pass


def test_only_constraints_that_are_told_change_the_ascent():
    assert effort_of(always)[0] == CONSTRAINED
    effort, models = effort_of(nothing)
    assert effort == Effort()
    assert len(models.constraints) == 1  # the failures'
    assert effort_of(always, objectives=2)[0] == Effort()
