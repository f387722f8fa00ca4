"""The callback that stops converged studies: its promise, its limits, workers, resumption."""

import logging
import math
import pickle

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from fisherbo import FisherSampler, StopWhenConverged
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.stopping import regret_bounds, settled


def parabola(trial):
    return (trial.suggest_float("x", -5, 5) - 2) ** 2


def run(objective, stop, n_trials, sampler=None, **kwargs):
    sampler = FisherSampler(seed=0) if sampler is None else sampler
    study = optuna.create_study(sampler=sampler, **kwargs)
    study.optimize(objective, n_trials=n_trials, callbacks=[stop])
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_an_easy_study_stops_within_the_regret(direction):
    sign = 1 if direction == "minimize" else -1
    stop = StopWhenConverged(regret=0.05)
    study = run(lambda t: sign * parabola(t), stop, 100, direction=direction)
    assert 20 <= len(study.trials) < 60
    assert abs(study.best_value) <= 0.05
    assert stop.remaining_regret(study).probability(0.05) >= 0.9


@pytest.mark.parametrize("least", [None, 27])
def test_it_never_stops_before_min_trials(least):
    study = run(parabola, StopWhenConverged(regret=1e6, min_trials=least), 60)
    assert len(study.trials) == (least or 20)


def test_many_parameters_need_more_trials():
    def flat(trial):
        return sum((trial.suggest_float(f"x{j}", 0, 1) - 0.5) ** 2 for j in range(8))

    assert len(run(flat, StopWhenConverged(regret=1e6), 60).trials) == 24


def test_random_search_of_many_parameters_goes_on():
    def hills(trial):
        return sum(math.sin(9 * trial.suggest_float(f"x{j}", 0, 1)) for j in range(4))

    stop = StopWhenConverged(relative=0.01)
    assert len(run(hills, stop, 40, optuna.samplers.RandomSampler(seed=0)).trials) == 40


def test_the_relative_regret_is_a_share_of_what_was_gained():
    study = run(parabola, StopWhenConverged(relative=0.1), 60)
    gained = np.median([t.value for t in study.trials[:10]]) - study.best_value
    bounds = list(regret_bounds(study, 0.9).values())
    assert len(study.trials) < 60
    assert max(bounds[-3:]) <= 0.1 * gained
    assert study.best_value <= 0.1 * gained


def curve(trial):
    x = trial.suggest_float("x", 1e-5, 1, log=True)
    end = (math.log10(x) + 3) ** 2
    for step in range(1, 6):
        trial.report(end + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return end


@pytest.mark.parametrize("pruner", [optuna.pruners.MedianPruner, optuna.pruners.NopPruner])
def test_a_study_whose_pruner_stops_trials_early_stops_too(pruner):
    stop = StopWhenConverged(relative=0.1)
    study = run(curve, stop, 100, FisherSampler(seed=1), pruner=pruner())
    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert len(complete) >= 20
    assert len(study.trials) < 80
    assert study.best_value <= 0.1 * stop.remaining_regret(study).gain


def test_pruned_trials_count_among_the_first_ten():
    stop = StopWhenConverged(relative=0.1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for value in [8.0, 6.0, 4.0, 2.0, 0.0, None, None, None, None, None, 1.0, 3.0]:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(9.0 if value is None else value, 0)
        study.tell(trial, value, TrialState.PRUNED if value is None else None)
    gain = stop.remaining_regret(study).gain
    worst, distance = 8.0, 8 / 6  # pruned trials that are worse than all others count from there on
    assert gain == pytest.approx((worst + worst + distance) / 2)


def test_all_of_the_last_bounds_must_hold():
    assert settled([3.0, 1.0, 1.0], 1.0, 2)
    assert not settled([1.0, 3.0, 1.0], 1.0, 2)
    assert not settled([1.0], 1.0, 2)
    assert not settled([1.0, math.inf], 1.0, 2)


def test_it_stops_any_sampler_with_a_small_space_that_is_used_up():
    def grid(trial):
        return trial.suggest_int("a", 0, 4) - trial.suggest_categorical("b", [0, 1, 2])

    study = run(grid, StopWhenConverged(regret=0.5), 300, optuna.samplers.RandomSampler(seed=1))
    assert len(study.trials) < 300
    assert study.best_value == -2


def test_several_objectives_are_refused():
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(InvalidInputError, match="one objective, got 2"):
        study.optimize(
            lambda t: (t.suggest_float("x", 0, 1), 1.0), n_trials=1,
            callbacks=[StopWhenConverged(regret=0.1)],
        )  # fmt: skip


def test_a_study_in_which_nothing_varies_is_refused():
    with pytest.raises(InvalidInputError, match="no parameter that varies"):
        run(lambda t: 1.0, StopWhenConverged(regret=0.1), 12)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "either regret or relative"),
        ({"regret": 0.1, "relative": 0.1}, "either regret or relative"),
        ({"regret": 0.0}, "regret must be > 0"),
        ({"regret": math.nan}, "regret must be > 0"),
        ({"relative": 1.0}, "relative must be between 0 and 1"),
        ({"regret": 1, "probability": 1.0}, "probability must be"),
        ({"regret": 1, "patience": 0}, "patience must be"),
        ({"regret": 1, "min_trials": 2.5}, "min_trials must be"),
    ],
)
def test_arguments_out_of_range_are_refused(kwargs, message):
    with pytest.raises(InvalidInputError, match=message):
        StopWhenConverged(**kwargs)


def test_while_no_trial_is_feasible_the_study_goes_on():
    def infeasible(trial):
        trial.set_constraint("c", 1.0)
        return parabola(trial)

    study = run(infeasible, StopWhenConverged(regret=1e6), 25)
    assert len(study.trials) == 25
    assert set(regret_bounds(study, 0.9).values()) == {math.inf}


def test_what_constraints_rule_out_is_no_regret():
    """The unconstrained optimum is at 2, the feasible one at 0: a regret of 4 remains without."""

    def constrained(trial):
        value = parabola(trial)
        trial.set_constraint("c", trial.params["x"])
        return value

    stop = StopWhenConverged(regret=0.5)
    study = run(constrained, stop, 80)
    assert len(study.trials) < 80
    assert study.best_value == pytest.approx(4, abs=0.5)


def test_what_input_constraints_rule_out_is_no_regret():
    stop = StopWhenConverged(regret=0.5)
    sampler = FisherSampler(seed=0, input_constraints=lambda p: p["x"] <= 0)
    study = run(parabola, stop, 80, sampler)
    assert len(study.trials) < 80
    assert stop.remaining_regret(study).bound(0.9) < 0.5


def test_what_is_not_among_the_candidates_is_no_regret():
    stop = StopWhenConverged(regret=0.5)
    rows = [{"x": -0.05 * i} for i in range(60)]
    study = run(parabola, stop, 60, FisherSampler(seed=0, candidates=rows))
    assert len(study.trials) < 60
    assert study.best_value == pytest.approx(4, abs=0.5)
    assert stop.remaining_regret(study).bound(0.9) < 0.5
    study.sampler = FisherSampler(seed=0)  # the same trials, where the optimum at 2 may be chosen
    assert stop.remaining_regret(study).bound(0.9) > 2


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_values_that_are_fixed_are_no_regret():
    def rippled(trial):
        return parabola(trial) + 5 * math.sin(9 * trial.suggest_float("z", 0, 9))

    inner = FisherSampler(seed=0, input_constraints=lambda p: p.get("x", 0) <= 0)
    sampler = optuna.samplers.PartialFixedSampler({"z": 1.0}, inner)
    stop = StopWhenConverged(regret=0.5)
    study = run(rippled, stop, 15, inner)
    study.sampler = sampler
    study.optimize(rippled, n_trials=60, callbacks=[stop])
    assert len(study.trials) < 75


def test_a_study_of_one_trial_has_a_bound():
    stop = StopWhenConverged(regret=1e9, min_trials=1, patience=1)
    assert len(run(parabola, stop, 5).trials) == 1


def test_under_noise_the_regret_is_that_of_the_recommended_trial():
    def noisy(trial):
        return parabola(trial) + 0.5 * np.random.default_rng(trial.number).standard_normal()

    stop = StopWhenConverged(regret=2.0)
    study = run(noisy, stop, 100)
    assert len(study.trials) < 100
    found = stop.remaining_regret(study)
    assert (study.trials[found.number].params["x"] - 2) ** 2 <= 2.0


def test_a_resumed_study_stops_where_an_uninterrupted_one_does(tmp_path):
    whole = run(parabola, StopWhenConverged(regret=0.05), 60)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(60):  # a new process for every trial, as it were
        study = optuna.create_study(
            storage=storage, study_name="s", load_if_exists=True, sampler=FisherSampler(seed=0)
        )
        study.optimize(parabola, n_trials=1, callbacks=[StopWhenConverged(regret=0.05)])
        if len(study.trials) == len(whole.trials):
            break
    assert regret_bounds(study, 0.9) == pytest.approx(regret_bounds(whole, 0.9), rel=1e-6)
    assert StopWhenConverged(regret=0.05).converged(study)


def test_a_smaller_regret_goes_on_with_a_study_that_stopped():
    study = run(parabola, StopWhenConverged(regret=0.5), 60)
    first = len(study.trials)
    study.optimize(parabola, n_trials=10, callbacks=[StopWhenConverged(regret=1e-6)])
    assert len(study.trials) == first + 10


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_the_bounds(tmp_path, workers):
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.create_study(storage=storage, sampler=FisherSampler(seed=0))
    stop = StopWhenConverged(regret=0.2)
    study.optimize(parabola, n_trials=80, n_jobs=workers, callbacks=[stop])
    assert 20 <= len(study.trials) < 80
    other = optuna.load_study(study_name=study.study_name, storage=storage)
    assert len(regret_bounds(other, 0.9)) >= 10
    other.optimize(parabola, n_trials=5, callbacks=[StopWhenConverged(regret=0.2)])
    assert len(other.trials) <= len(study.trials) + 5


def test_it_pickles_and_judges_as_before():
    stop = StopWhenConverged(regret=0.05, seed=3)
    study = run(parabola, stop, 20)
    again = pickle.loads(pickle.dumps(stop))
    assert (again.remaining_regret(study).draws == stop.remaining_regret(study).draws).all()


def test_pruned_and_failed_trials_do_no_harm():
    def fragile(trial):
        value = parabola(trial)
        if trial.number % 4 == 1:
            raise optuna.TrialPruned
        if trial.number % 4 == 3:
            raise ArithmeticError
        return value

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    stop = StopWhenConverged(regret=0.5)
    study.optimize(fragile, n_trials=150, callbacks=[stop], catch=(ArithmeticError,))
    complete = [t for t in study.trials if t.value is not None and t.state.name == "COMPLETE"]
    assert 20 <= len(complete)
    assert len(study.trials) < 150


def test_one_line_says_that_it_stopped():
    lines = []

    class Kept(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    logger, kept = logging.getLogger("optuna.fisherbo"), Kept()
    logger.addHandler(kept)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        study = run(parabola, StopWhenConverged(regret=0.05), 60)
    finally:
        logger.removeHandler(kept)
        optuna.logging.set_verbosity(before)
    assert len(lines) == 1
    assert f"after {len(study.trials)} complete trials" in lines[0]
    assert "remaining regret is at most" in lines[0]


def test_loops_of_ask_and_tell_may_ask():
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    stop = StopWhenConverged(regret=0.05)
    while not stop.converged(study):
        trial = study.ask()
        study.tell(trial, parabola(trial))
    assert 20 <= len(study.trials) < 60
