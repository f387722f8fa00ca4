"""Several metrics and several objectives: reported, kept in any storage, and decided on."""

import math
import multiprocessing
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, TrialState

import fisherbo
from fisherbo import FisherPruner, FisherSampler, report, should_prune
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.curve_ends import EndReader
from fisherbo.sampler.observations import observe
from fisherbo.sampler.pruner import IMPROVEMENT_PROBABILITY, PREDICTED_END, PREDICTED_INTERVAL
from fisherbo.sampler.reports import REPORT, metrics_of, reports_of
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.trials import Status, read

STEPS = 20
SPACE = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
BOTH = ["minimize", "minimize"]


def ends_of(x, y):
    """Two bowls, whose trade-off is the line between their centres."""
    return np.array([0.1 + (x - 0.3) ** 2 + y**2, 0.1 + (x - 0.8) ** 2 + y**2])


def learning(trial, signs=(1, 1)):
    end = ends_of(trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1))
    for step in range(STEPS):
        a, b = (signs * (end + (1 - end) * math.exp(-0.4 * step))).tolist()
        report(trial, {"a": a, "b": b}, step)
        if should_prune(trial):
            raise optuna.TrialPruned
    return a, b


def study_of(sampler=None, pruner=None, directions=BOTH, **options):
    return optuna.create_study(
        sampler=sampler or RandomSampler(seed=0),
        pruner=pruner or FisherPruner(),
        directions=directions,
        **options,
    )


def used(study):
    return sum(len(reports_of(t, 2)[0]) for t in study.trials)


def front(study):
    return {t.number for t in study.best_trials}


def storages(folder):
    yield InMemoryStorage()
    yield RDBStorage(f"sqlite:///{folder}/s.db")
    yield JournalStorage(JournalFileBackend(f"{folder}/s.log"))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_every_storage_gives_back_what_was_reported(tmp_path):
    told = {"loss": math.nan, "accuracy": 0.1 + 0.2, "size": math.inf}
    for storage in storages(tmp_path):
        study = optuna.create_study(storage=storage, directions=BOTH)
        trial = study.ask(SPACE)
        report(trial, told, 3)
        report(trial, {"loss": 1, "accuracy": 2}, 10)
        study.tell(trial, state=TrialState.PRUNED)
        (kept,) = optuna.load_study(study_name=None, storage=storage).trials
        assert metrics_of(kept)["accuracy"] == {3: 0.1 + 0.2, 10: 2.0}
        loss, accuracy = reports_of(kept, 2)
        assert math.isnan(loss[3]) and loss[10] == 1.0 and accuracy[10] == 2.0
        assert metrics_of(kept)["size"] == {3: math.inf}
        assert kept.values is None


def test_no_attribute_grows_with_the_number_of_steps():
    study = study_of()
    trial = study.ask(SPACE)
    sizes = {}
    for step in range(200):
        report(trial, {"a": 1 / 3, "b": 2 / 3}, step)
        sizes = {k: len(str(v)) for k, v in study.trials[0].system_attrs.items()}
    assert len([k for k in sizes if k.startswith(REPORT)]) == 200
    assert max(sizes.values()) < 100


def test_with_one_objective_its_metric_is_reported_as_usual():
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    states = []
    for level in (1.0, 2.0):
        trial = study.ask(SPACE)
        report(trial, {"loss": level, "accuracy": 0.5}, 0)
        assert should_prune(trial) == trial.should_prune()
        states.append(should_prune(trial))
        study.tell(trial, level)
    assert states == [False, True]
    assert [t.intermediate_values for t in study.trials] == [{0: 1.0}, {0: 2.0}]
    assert metrics_of(study.trials[1]) == {"loss": {0: 2.0}, "accuracy": {0: 0.5}}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_named_metrics_are_those_of_the_objectives():
    study = optuna.create_study()
    study.set_metric_names(["accuracy"])
    trial = study.ask(SPACE)
    report(trial, {"loss": 2.0, "accuracy": 0.5}, 0)
    assert study.trials[0].intermediate_values == {0: 0.5}
    several = study_of()
    several.set_metric_names(["b", "a"])
    trial = several.ask(SPACE)
    report(trial, {"a": 1.0, "more": 3.0, "b": 2.0}, 0)
    assert reports_of(several.trials[0], 2) == ({0: 2.0}, {0: 1.0})
    with pytest.raises(InvalidInputError, match=r"metrics \['b', 'a'\], got \['a'\]"):
        report(trial, {"a": 1.0}, 1)


@pytest.mark.parametrize(
    ("values", "step", "message"),
    [
        ({"a": 1.0}, 0, "each of the 2 objectives"),
        ({}, 0, "dict from names"),
        ([1.0, 2.0], 0, "dict from names"),
        ({"a": 1.0, "b": "low"}, 0, "must be numbers"),
        ({"a": 1.0, "b": None}, 0, "must be numbers"),
        ({"a": 1.0, "b": 2.0}, -1, "whole number"),
        ({"a": 1.0, "b": 2.0}, 1.5, "whole number"),
        ({"a": 1.0, "b": 2.0}, "first", "whole number"),
    ],
)
def test_what_cannot_be_reported_is_refused(values, step, message):
    study = study_of()
    trial = study.ask(SPACE)
    with pytest.raises(InvalidInputError, match=message):
        report(trial, values, step)
    assert not reports_of(study.trials[0], 2)[0]


def test_a_second_report_of_a_step_is_ignored_with_a_warning():
    study = study_of()
    trial = study.ask(SPACE)
    report(trial, {"a": 1.0, "b": 2.0}, np.int64(4))
    with pytest.warns(UserWarning, match="step 4 is ignored"):
        report(trial, {"a": 5.0, "b": 6.0}, 4)
    assert reports_of(study.trials[0], 2) == ({4: 1.0}, {4: 2.0})


def test_objectives_run_with_fixed_parameters():
    a, b = learning(FixedTrial({"x": 0.3, "y": 0.0}))
    assert (a, b) == pytest.approx(ends_of(0.3, 0.0), abs=1e-3)


def test_other_pruners_are_refused_with_several_objectives_and_none_never_prunes():
    trial = study_of(pruner=optuna.pruners.MedianPruner()).ask(SPACE)
    report(trial, {"a": 1.0, "b": 2.0}, 0)
    with pytest.raises(InvalidInputError, match=r"must be a FisherPruner, got MedianPruner"):
        should_prune(trial)
    trial = study_of(pruner=optuna.pruners.NopPruner()).ask(SPACE)
    assert not should_prune(trial)


@pytest.mark.parametrize("make", [RandomSampler, TPESampler, NSGAIISampler])
def test_any_sampler_finds_as_good_a_front_at_equal_steps(make):
    study, whole = study_of(make(seed=0)), study_of(make(seed=0), optuna.pruners.NopPruner())
    study.optimize(learning, n_trials=16)
    whole.optimize(learning, n_trials=16)
    assert used(study) < 0.75 * used(whole)
    if make is RandomSampler:
        assert front(study) == front(whole)
    while used(study) < used(whole):
        study.optimize(learning, n_trials=1)
    assert hypervolume(study) >= hypervolume(whole) - 0.01


def hypervolume(study):
    """Share of the square up to (1.2, 1.2) that the front dominates, of many random points."""
    points = np.random.default_rng(0).uniform(0.1, 1.2, (4000, 2))
    values = np.array([t.values for t in study.best_trials])
    return (points[:, None] >= values[None]).all(-1).any(-1).mean()


def test_directions_mirror_each_other():
    down, mixed = study_of(), study_of(directions=["minimize", "maximize"])
    down.optimize(learning, n_trials=12)
    mixed.optimize(lambda trial: learning(trial, signs=(1, -1)), n_trials=12)
    assert [t.state for t in mixed.trials] == [t.state for t in down.trials]
    for a, b in zip(mixed.trials, down.trials, strict=True):
        if PREDICTED_END in b.user_attrs:
            first, second = b.user_attrs[PREDICTED_END]
            assert a.user_attrs[PREDICTED_END] == pytest.approx([first, -second])


def test_every_pruned_trial_says_why():
    study = study_of()
    study.optimize(learning, n_trials=20)
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert len(pruned) > 5
    for trial in pruned:
        low, high = trial.user_attrs[PREDICTED_INTERVAL]
        ends = trial.user_attrs[PREDICTED_END]
        assert all(l < e < h for l, e, h in zip(low, ends, high, strict=True))
        assert 0 <= trial.user_attrs[IMPROVEMENT_PROBABILITY] <= 1


def test_a_trial_that_diverges_in_one_objective_is_pruned():
    study = study_of()
    study.optimize(learning, n_trials=3)
    trial = study.ask(SPACE)
    for step, value in enumerate([0.5, 0.4, math.nan]):
        report(trial, {"a": 0.5, "b": value}, step)
    assert should_prune(trial)


def read_study(study):
    trials, space = study.trials, to_space(SPACE)
    table = read(space, SPACE, trials, 2)
    ways = [StudyDirection.MINIMIZE] * 2
    ends = EndReader().ends(trials, table, space, list(SPACE), ways)
    return table, observe(space, table, ways, ends=ends)


def test_the_sampler_learns_from_where_pruned_trials_would_have_ended():
    study = study_of()
    study.optimize(learning, n_trials=25)
    table, seen = read_study(study)
    pruned = table.have(Status.PRUNED)[seen.row]
    assert pruned.sum() == table.have(Status.PRUNED).sum() > 5
    truth = -np.array([ends_of(*x) for x in seen.x])
    for j in range(2):
        found = seen.y[pruned, j]
        assert np.corrcoef(found, truth[pruned, j])[0, 1] > 0.95
        noise = seen.known_noise(j)
        assert (noise[~pruned] == 0).all() and (noise[pruned] > 0).mean() > 0.8


def test_pruned_trials_without_reports_are_ignored_with_several_objectives():
    study = study_of(FisherSampler(seed=0))

    def objective(trial):
        end = ends_of(trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1))
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        return end.tolist()

    study.optimize(objective, n_trials=14)
    table, seen = read_study(study)
    assert not table.have(Status.PRUNED)[seen.row].any()
    assert len(seen) == table.have(Status.COMPLETE).sum()


def test_the_sampler_finds_a_better_front_at_equal_steps():
    study = study_of(FisherSampler(seed=0))
    whole = study_of(FisherSampler(seed=0), optuna.pruners.NopPruner())
    whole.optimize(learning, n_trials=14)
    while used(study) < 14 * STEPS:
        study.optimize(learning, n_trials=1)
    assert hypervolume(study) > hypervolume(whole)


def test_a_resumed_study_decides_as_an_uninterrupted_one(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    whole = study_of()
    whole.optimize(learning, n_trials=9)
    sampler = RandomSampler(seed=0)
    for part in range(3):
        study = study_of(sampler, storage=RDBStorage(url), study_name="s", load_if_exists=part > 0)
        study.optimize(learning, n_trials=3)
    assert [t.state for t in study.trials] == [t.state for t in whole.trials]


def work(url, seed):
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name="s", storage=url, sampler=FisherSampler(seed=seed), pruner=FisherPruner()
    )
    study.optimize(learning, n_trials=6)


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = study_of(storage=url, study_name="s")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(url, seed)) for seed in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    states = [t.state for t in study.trials]
    assert len(states) == 12 and states.count(TrialState.PRUNED) > 2
    assert states.count(TrialState.FAIL) == 0
    whole = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert all(len(reports_of(t, 2)[1]) == STEPS for t in whole)


def test_the_public_names_are_those_of_the_package():
    assert fisherbo.report is report and fisherbo.should_prune is should_prune
