"""One sampler for several studies and threads: each study goes on as it would alone."""

import gc
import sys
import threading
import weakref

import optuna
import pytest

from fisherbo import FisherSampler
from fisherbo.sampler.trials import ReadersByStudy, StudyReader


def objective(centre, d=3):
    return lambda t: sum((t.suggest_float(f"x{j}", -5, 5) - centre) ** 2 for j in range(d))


def params(study):
    return [t.params for t in study.trials]


@pytest.fixture
def eager_switches():
    """Threads take turns as often as they can, which makes a race likely."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_studies_in_threads_do_not_read_each_others_trials(eager_switches):
    centres, n = (2.0, -3.0, 0.0), 60
    expected = []
    for centre in centres:
        alone = optuna.create_study(sampler=FisherSampler(seed=0))
        alone.optimize(objective(centre), n_trials=n)
        expected.append(params(alone))
    shared = FisherSampler(seed=0)
    studies = [optuna.create_study(sampler=shared) for _ in centres]
    threads = [
        threading.Thread(target=s.optimize, args=(objective(c),), kwargs={"n_trials": n})
        for s, c in zip(studies, centres, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [params(s) for s in studies] == expected


def test_studies_that_take_turns_with_one_sampler_go_on_as_alone():
    shared = FisherSampler(seed=1, n_startup_trials=4)
    studies = [optuna.create_study(sampler=shared) for _ in range(3)]
    for _ in range(15):
        for centre, study in enumerate(studies):
            study.optimize(objective(centre), n_trials=1)
    for centre, study in enumerate(studies):
        alone = optuna.create_study(sampler=FisherSampler(seed=1, n_startup_trials=4))
        alone.optimize(objective(centre), n_trials=15)
        assert params(study) == params(alone)


def test_a_table_is_that_of_the_study_asked_about():
    readers, random = ReadersByStudy(StudyReader), optuna.samplers.RandomSampler(seed=0)
    studies = [optuna.create_study(sampler=random) for _ in range(2)]
    for centre, study in enumerate(studies):
        study.optimize(objective(centre), n_trials=8)
    known = [readers.of(s).parameters(s.trials).varying for s in studies]
    for study, varying in zip(studies, known, strict=True):  # after the other was asked about
        _, table = readers.of(study).table(varying, study.trials)
        assert table.value[:, 0].tolist() == [t.value for t in study.trials]


def test_studies_are_not_kept_alive_by_a_sampler():
    sampler = FisherSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective(0.0), n_trials=12)
    storage = weakref.ref(study._storage)
    del study
    gc.collect()
    assert storage() is None


def test_threads_share_one_sampler_and_one_study():
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=4))
    study.optimize(objective(1.0), n_trials=40, n_jobs=4)
    assert {t.state for t in study.trials} == {optuna.trial.TrialState.COMPLETE}
    assert len({tuple(t.params.values()) for t in study.trials}) == 40
    assert study.best_value < 0.5  # 40 random points: about 4
