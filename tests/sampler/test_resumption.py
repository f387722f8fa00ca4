"""Freeze–thaw: what is gone on with, once, with a whole curve, and counted once."""

import math
import multiprocessing
import warnings

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, TrialState, create_trial

import fisherbo
from fisherbo import FisherPruner, FisherSampler, frozen, report, thaw
from fisherbo.errors import InvalidInputError
from fisherbo.sampler import resumption
from fisherbo.sampler.reports import metrics_of, reports_of
from fisherbo.sampler.trials import RESUME, not_resumed

STEPS = 20
SPACE = {"x": FloatDistribution(0, 1)}


def losses(x, end=None):
    end = 0.1 + (x - 0.3) ** 2 if end is None else end
    return [end + (1 - end) * math.exp(-0.4 * step) for step in range(STEPS)]


def told(x, kept=STEPS, end=None, **options):
    curve, whole = losses(x, end), kept == STEPS
    return create_trial(
        state=TrialState.COMPLETE if whole else TrialState.PRUNED,
        value=curve[-1] if whole else None,
        params={"x": x},
        distributions=SPACE,
        intermediate_values=dict(enumerate(curve[:kept])),
        **options,
    )


def study_of(pruner=None, storage=None, directions=("minimize",)):
    return optuna.create_study(
        sampler=RandomSampler(seed=0),
        pruner=pruner or FisherPruner(),
        storage=storage,
        directions=directions,
    )


def unlucky(storage=None):
    """Complete trials that are bad, and a pruned one, 3, that has passed them all."""
    study = study_of(storage=storage)
    study.add_trials([told(x) for x in (0.9, 0.95, 1.0)])
    study.add_trial(told(0.3, kept=12))
    study.add_trials([told(x, kept=5) for x in (0.97, 0.99)])
    return study


def waiting(study):
    return study.get_trials(states=(TrialState.WAITING,))


def test_a_pruned_trial_that_promises_more_than_new_ones_is_enqueued():
    study = unlucky()
    gains = {n: study.pruner.gain_of_resuming(study, study.trials[n]) for n in (3, 4, 5)}
    assert gains[3] > 0 > max(gains[4], gains[5])
    assert thaw(study, lambda trial: True) == 3
    (entry,) = waiting(study)
    assert entry.user_attrs == {RESUME: 3}
    trial = study.ask(SPACE)
    assert trial.params == {"x": 0.3}
    assert frozen(trial).number == 3
    assert study.trials[trial.number].intermediate_values == dict(enumerate(losses(0.3)[:12]))


def test_nothing_is_enqueued_that_cannot_be_gone_on_with_or_promises_less():
    study = unlucky()
    assert thaw(study, lambda trial: trial.number != 3) is None
    assert thaw(study_of(), lambda trial: True) is None
    assert not waiting(study)


def test_a_trial_is_gone_on_with_once_and_none_while_another_waits():
    study = unlucky()
    study.add_trial(told(0.31, kept=12))
    first = thaw(study, lambda trial: True)
    assert thaw(study, lambda trial: True) is None
    study.tell(study.ask(SPACE), 0.1)
    assert thaw(study, lambda trial: True) not in (None, first)
    study.tell(study.ask(SPACE), 0.1)
    assert thaw(study, lambda trial: True) is None


def test_of_two_workers_that_enqueue_the_same_trial_one_withdraws(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study = unlucky(RDBStorage(url))
    for _ in range(2):  # both have looked before either has enqueued
        study.enqueue_trial({"x": 0.3}, user_attrs={RESUME: 3})
    resumption._withdraw_copies(study, 3)
    states = [t.state for t in study.trials if RESUME in t.user_attrs]
    assert states == [TrialState.WAITING, TrialState.FAIL]
    assert study.ask(SPACE).user_attrs == {RESUME: 3}
    resumption._withdraw_copies(study, 3)
    assert next(t.state for t in study.trials if RESUME in t.user_attrs) == TrialState.RUNNING


def test_a_trial_that_is_gone_on_with_is_read_once():
    trials = [told(0.3, kept=5), told(0.9), told(0.3, kept=9, user_attrs={RESUME: 0})]
    for number, trial in enumerate(trials):
        trial.number = number
    assert [t.number for t in not_resumed(trials)] == [1, 2]
    trials[2].state = TrialState.FAIL
    assert [t.number for t in not_resumed(trials)] == [0, 1, 2]


class AtStep(BasePruner):
    """Prunes each trial once, at a step."""

    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return max(trial.intermediate_values) == self.step and RESUME not in trial.user_attrs


def test_a_training_that_is_gone_on_with_has_the_curve_of_an_uninterrupted_one():
    """A random walk with momentum: its state is generator, place and speed."""

    def training(saved):
        def objective(trial):
            rate = trial.suggest_float("x", 0, 1)
            old = frozen(trial)
            if old is None:
                step, place, speed, rng = 0, 1.0, 0.0, np.random.default_rng(0)
            else:
                step, place, speed, state = saved[old.number]
                rng = np.random.default_rng()
                rng.bit_generator.state = state
            while step < STEPS:
                speed = 0.9 * speed + rate * rng.standard_normal()
                place += speed
                trial.report(place, step)
                step += 1
                saved[trial.number] = step, place, speed, rng.bit_generator.state
                if trial.should_prune():
                    raise optuna.TrialPruned
            return place

        return objective

    whole = study_of(NopPruner())
    whole.optimize(training({}), n_trials=1)
    study, saved = study_of(AtStep(7)), {}
    study.optimize(training(saved), n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    study.enqueue_trial(study.trials[0].params, user_attrs={RESUME: 0})
    study.optimize(training(saved), n_trials=1)
    assert study.trials[1].intermediate_values == whole.trials[0].intermediate_values
    assert study.trials[1].value == whole.trials[0].value


def test_reports_of_several_objectives_and_metrics_are_copied_too():
    study = study_of(directions=["minimize", "maximize"])
    trial = study.ask(SPACE)
    for step in (0, 3):
        report(trial, {"a": step, "b": math.nan, "more": 1.5}, step)
    study.tell(trial, state=TrialState.PRUNED)
    study.enqueue_trial(trial.params, user_attrs={RESUME: 0})
    again = study.ask(SPACE)
    assert frozen(again).number == 0
    assert reports_of(study.trials[1], 2)[0] == {0: 0.0, 3: 3.0}
    assert str(metrics_of(study.trials[1])) == str(metrics_of(study.trials[0]))


def test_with_several_objectives_the_front_decides():
    study = study_of(directions=["minimize", "minimize"])

    def add(x, kept, worse):
        trial = study.ask(SPACE)
        for step, loss in enumerate(losses(x, worse)[:kept]):
            report(trial, {"a": loss, "b": loss + 0.1 * x}, step)
        whole = kept == STEPS
        study.tell(trial, [loss, loss + 0.1 * x] if whole else None, None if whole else pruned)

    pruned = TrialState.PRUNED
    for k in range(4):
        add(0.8 + 0.05 * k, STEPS, 0.6 + 0.02 * k)
    add(0.3, 12, 0.1)
    add(0.9, 12, 0.9)
    gains = [study.pruner.gain_of_resuming(study, study.trials[n]) for n in (4, 5)]
    assert gains[0] > 0 > gains[1]
    assert thaw(study, lambda trial: True) == 4


def test_what_cannot_be_is_refused():
    assert frozen(FixedTrial({"x": 1.0})) is None
    study = study_of(NopPruner())
    with pytest.raises(InvalidInputError, match="must be a FisherPruner, got NopPruner"):
        thaw(study, lambda trial: True)
    study.enqueue_trial({"x": 0.3}, user_attrs={RESUME: 5})
    with pytest.raises(InvalidInputError, match="number of an earlier trial, got 5"):
        frozen(study.ask(SPACE))


def test_the_sampler_counts_a_trial_that_was_gone_on_with_once():
    """Its old reports would otherwise stand for a second, worse value at the same point."""
    studies = []
    for old in (False, True):
        study = optuna.create_study(sampler=FisherSampler(seed=0), pruner=FisherPruner())
        study.add_trials([told(x) for x in np.linspace(0.05, 0.95, 12).tolist()])
        study.add_trial(told(0.5, kept=6))
        resumed = {RESUME: 12} if old else {RESUME: -1}
        study.add_trial(told(0.5, kept=9, user_attrs=resumed))
        studies.append(study)
    counts = [len(s.sampler.inspect(s).observations) for s in studies]
    assert counts[0] == counts[1] + 1


class Eager(FisherPruner):
    """Stops every new trial at step 3, and prefers any of them to another new one."""

    def prune(self, study, trial):
        return max(trial.intermediate_values) == 3 and RESUME not in trial.user_attrs

    def gain_of_resuming(self, study, trial):
        return 1.0


def shared(folder):
    """A storage of which no two processes begin the same enqueued trial, as SQLite lets them."""
    return JournalStorage(JournalFileBackend(f"{folder}/s.log"))


def work(folder):
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler, pruner = RandomSampler(), Eager()
    study = optuna.load_study(
        study_name="s", storage=shared(folder), sampler=sampler, pruner=pruner
    )

    def objective(trial):
        curve = losses(trial.suggest_float("x", 0, 1))
        old = frozen(trial)
        begin = 0 if old is None else int((folder / f"{old.number}").read_text())
        for step in range(begin, STEPS):
            trial.report(curve[step], step)
            if trial.should_prune():
                (folder / f"{trial.number}").write_text(str(step + 1))
                raise optuna.TrialPruned
        return curve[-1]

    def go_on(study, trial):
        thaw(study, lambda pruned: (folder / f"{pruned.number}").exists())

    study.optimize(objective, n_trials=10, callbacks=[go_on])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_two_processes_go_on_with_each_trial_once(tmp_path):
    study = optuna.create_study(storage=shared(tmp_path), study_name="s")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    alive = [t for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(alive) == 20
    resumed = [t.user_attrs[RESUME] for t in alive if RESUME in t.user_attrs]
    assert len(resumed) == len(set(resumed)) >= 8
    for trial in alive:
        if RESUME in trial.user_attrs:
            old = study.trials[trial.user_attrs[RESUME]]
            assert old.params == trial.params and old.state == TrialState.PRUNED
            assert trial.intermediate_values == dict(enumerate(losses(trial.params["x"])))


def test_the_public_names_are_those_of_the_package():
    assert fisherbo.thaw is thaw and fisherbo.frozen is frozen
