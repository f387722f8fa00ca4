"""A list of candidates: only its rows, each once, the one of largest acquisition; every error."""

import copy
import logging
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from fisherbo import FisherSampler
from fisherbo.acquisition.feasibility import unrestricted
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.trials import CANDIDATE

RNG = np.random.default_rng(0)
ROWS = [
    {"x": float(x), "y": int(y)}
    for x, y in zip(RNG.random(40), RNG.integers(0, 9, 40), strict=True)
]


def frame(*args, **kwargs):
    """A DataFrame; without pandas, which the sampler does not need, the test is skipped."""
    return pytest.importorskip("pandas").DataFrame(*args, **kwargs)


def bowl(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 0, 8)
    return (x - 0.4) ** 2 + 0.01 * (y - 5) ** 2


def conditional(trial):
    kernel = trial.suggest_categorical("kernel", ["linear", "rbf"])
    c = trial.suggest_float("c", 1e-3, 1e3, log=True)
    width = trial.suggest_float("width", 0.1, 2) if kernel == "rbf" else 1.0
    return np.log10(c) ** 2 + abs(width - 0.7)


MODELS = [{"kernel": "linear", "c": float(10.0**k)} for k in range(-3, 4)] + [
    {"kernel": "rbf", "c": float(10.0**k), "width": w}
    for k in range(-3, 4)
    for w in (0.3, 0.7, 1.5)
]


@pytest.fixture
def warned(caplog):
    logging.getLogger("optuna").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("optuna").removeHandler(caplog.handler)


def create(candidates, direction="minimize", storage=None, **kwargs):
    arguments = {"seed": 0, "n_startup_trials": 3, **kwargs}
    sampler = FisherSampler(candidates=candidates, **arguments)
    return optuna.create_study(direction=direction, storage=storage, sampler=sampler)


def coordinate(distribution, value):
    if hasattr(distribution, "choices"):
        return distribution.choices.index(value) / (len(distribution.choices) - 1)
    ends = np.array([distribution.low, value, distribution.high])
    low, value, high = np.log(ends) if distribution.log else ends
    return (value - low) / (high - low)


def evaluated(study):
    return [tuple(sorted(t.params.items())) for t in study.trials]


def listed(rows):
    return {tuple(sorted(row.items())) for row in rows}


@pytest.mark.parametrize("objective, rows", [(bowl, ROWS), (conditional, MODELS)])
def test_every_row_is_evaluated_once_and_then_some_again_with_a_warning(objective, rows, warned):
    study = create(rows)
    study.optimize(objective, n_trials=len(rows))
    assert len(set(evaluated(study))) == len(rows)
    assert set(evaluated(study)) == listed(rows)
    assert not any("candidate" in message for message in warned.messages)
    study.optimize(objective, n_trials=3)
    assert set(evaluated(study)) == listed(rows)
    assert sum("Every candidate was proposed" in message for message in warned.messages) == 1


@pytest.mark.parametrize("objective, rows", [(bowl, ROWS), (conditional, MODELS)])
def test_the_proposed_row_has_the_largest_acquisition_of_all_that_are_left(objective, rows):
    study = create(rows)
    study.optimize(objective, n_trials=8)
    for _ in range(6):
        inspection = study.sampler.inspect(study)
        left = [r for r in rows if tuple(sorted(r.items())) not in evaluated(study)]
        names, space = list(inspection.search_space), inspection.space
        x = np.tile(space.centre, (len(left), 1))
        for i, row in enumerate(left):
            for name, value in row.items():
                x[i, names.index(name)] = coordinate(inspection.search_space[name], value)
        value = [float(inspection.acquisition.value(point[None])[0]) for point in x]
        best = left[int(np.argmax(value))]
        np.testing.assert_allclose(inspection.next, x[int(np.argmax(value))], atol=1e-12)
        trial = study.ask()
        study.tell(trial, objective(trial))
        assert trial.params == best


def test_without_exclusion_zones_it_is_the_largest_expected_improvement():
    rows = [{"x": i / 30} for i in range(31)]
    study = create(rows, _options=AlgorithmOptions(stalls=False, plateaus=False))
    study.optimize(lambda t: np.sin(9 * t.suggest_float("x", 0, 1)), n_trials=7)
    inspection = study.sampler.inspect(study)
    assert inspection.acquisition is unrestricted(inspection.acquisition)
    seen = {t.params["x"] for t in study.trials}
    left = np.array([[row["x"]] for row in rows if row["x"] not in seen])
    expected = left[np.argmax(inspection.acquisition.value(left))]
    assert inspection.next == pytest.approx(expected, abs=1e-12)


def test_the_design_takes_the_unvisited_row_nearest_to_the_sobol_point():
    study = create(ROWS, n_startup_trials=6)
    study.optimize(bowl, n_trials=1)
    free = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=6))
    free.add_trials(study.trials)
    for _ in range(5):
        point = free.sampler.inspect(free).next
        left = [r for r in ROWS if tuple(sorted(r.items())) not in evaluated(study)]
        distance = [(r["x"] - point[0]) ** 2 + (r["y"] / 8 - point[1]) ** 2 for r in left]
        study.optimize(bowl, n_trials=1)
        assert study.trials[-1].params == left[int(np.argmin(distance))]
        free.add_trial(study.trials[-1])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_lists_are_evaluated_row_by_row(data):
    row = st.fixed_dictionaries(
        {"x": st.sampled_from([0.0, 0.1, 0.5, 1.0]), "k": st.sampled_from(["a", "b"])},
        optional={"y": st.integers(0, 3)},
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=8))
    distinct = listed(rows)

    def objective(trial):
        x, k = trial.suggest_float("x", 0, 1), trial.suggest_categorical("k", ["a", "b"])
        has = any(r["x"] == x and r["k"] == k and "y" in r for r in rows)
        lacks = any(r["x"] == x and r["k"] == k and "y" not in r for r in rows)
        return x + trial.suggest_int("y", 0, 3) if has and not lacks else x

    mixed = len(
        {(r["x"], r["k"]) for r in rows if "y" in r}
        & {(r["x"], r["k"]) for r in rows if "y" not in r}
    )
    study = create(rows, seed=data.draw(st.integers(0, 99)))
    study.optimize(objective, n_trials=len(distinct))
    if not mixed:
        assert set(evaluated(study)) == distinct
    study.optimize(objective, n_trials=2)
    assert all(any(set(e) <= set(d) for d in distinct) for e in evaluated(study))


@pytest.mark.parametrize("rows", [[{"x": 0.5}], [{"x": 0.5}] * 7])
def test_one_row_or_equal_rows_are_repeated(rows):
    study = create(rows, n_startup_trials=2)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=5)
    assert [t.params["x"] for t in study.trials] == [0.5] * 5


def test_a_data_frame_is_the_same_list_and_its_missing_values_are_parameters_that_rows_lack():
    models = frame(MODELS)
    assert models["width"].isna().sum() == 7
    studies = [create(models), create(MODELS)]
    for study in studies:
        study.optimize(conditional, n_trials=12)
    assert evaluated(studies[0]) == evaluated(studies[1])


def test_integers_that_a_missing_value_made_floats_and_float32_are_values_too():
    told = frame({"n": [1, 2, None, 4], "x": np.array([0.1, 0.2, 0.3, 0.4], np.float32)})

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return x if abs(x - 0.3) < 1e-6 else x + trial.suggest_int("n", 1, 4)

    study = create(told)
    study.optimize(objective, n_trials=4)
    assert sorted(t.params.get("n", 0) for t in study.trials) == [0, 1, 2, 4]
    assert {t.params["x"] for t in study.trials} == set(told["x"].tolist())


def test_values_are_given_as_they_are_in_the_list():
    values = [1e-3 * 1.1**k for k in range(60)]
    study = create([{"x": v} for v in values])
    study.optimize(lambda t: np.log(t.suggest_float("x", 1e-4, 1e3, log=True)) ** 2, n_trials=30)
    assert {t.params["x"] for t in study.trials} <= set(values)


def test_interrupted_and_resumed_a_study_continues_bit_for_bit(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    whole = create(MODELS)
    whole.optimize(conditional, n_trials=14)
    create(MODELS, storage=storage).optimize(conditional, n_trials=1)
    name = optuna.get_all_study_names(storage)[0]
    for count in (1, 6, 6):
        sampler = pickle.loads(
            pickle.dumps(
                FisherSampler(seed=0, n_startup_trials=3, candidates=copy.deepcopy(MODELS))
            )
        )
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        study.optimize(conditional, n_trials=count)
    assert [t.params for t in study.trials] == [t.params for t in whole.trials]
    assert [t.value for t in study.trials] == [t.value for t in whole.trials]


def test_a_resumed_study_may_have_a_longer_or_another_list():
    study = create(ROWS[:10])
    study.optimize(bowl, n_trials=8)
    study.sampler = FisherSampler(seed=0, n_startup_trials=3, candidates=ROWS[::-1])
    study.optimize(bowl, n_trials=len(ROWS) - 8)
    assert sorted(evaluated(study)) == sorted(listed(ROWS))


@pytest.mark.parametrize("asked_first", [0, 1, 4])
def test_no_two_open_trials_have_the_same_row(asked_first):
    study = create(ROWS[:12])
    study.optimize(bowl, n_trials=asked_first)
    trials = [study.ask() for _ in range(12 - asked_first)]
    values = [bowl(trial) for trial in trials]
    for trial, value in zip(trials, values, strict=True):
        study.tell(trial, value)
    assert len(set(evaluated(study))) == 12


def test_no_row_twice_with_four_threads():
    study = create(ROWS, n_startup_trials=4)
    study.optimize(bowl, n_trials=len(ROWS), n_jobs=4)
    assert sorted(evaluated(study)) == sorted(listed(ROWS))


def test_threads_with_samplers_of_their_own_and_other_seeds_share_the_first_rows():
    storage = optuna.storages.InMemoryStorage()
    rows = ROWS[:16]
    name = optuna.create_study(storage=storage).study_name

    def work(seed):
        sampler = FisherSampler(seed=seed, candidates=rows)
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        trials = [study.ask() for _ in range(4)]
        for trial in trials:
            bowl(trial)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    study = optuna.load_study(study_name=name, storage=storage)
    assert sorted(evaluated(study)) == sorted(listed(rows))


@pytest.mark.slow
def test_no_row_twice_with_four_processes(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    optuna.create_study(storage=storage, study_name="s")
    code = (
        "import sys, optuna, fisherbo\n"
        "rows = [{'x': i / 31} for i in range(32)]\n"
        "sampler = fisherbo.FisherSampler(candidates=rows, n_startup_trials=3)\n"
        "study = optuna.load_study(study_name='s', storage=sys.argv[1], sampler=sampler)\n"
        "study.optimize(lambda t: (t.suggest_float('x', 0, 1) - .3) ** 2, n_trials=8)\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, storage]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    study = optuna.load_study(study_name="s", storage=storage)
    assert sorted(t.params["x"] for t in study.trials) == [i / 31 for i in range(32)]


def test_failed_and_pruned_rows_are_not_proposed_again_but_those_of_killed_workers_are():
    study = create(ROWS[:9])

    def objective(trial):
        value = bowl(trial)
        if trial.number % 3 == 1:
            raise optuna.TrialPruned
        return float("nan") if trial.number % 3 == 2 else value

    study.optimize(objective, n_trials=8)
    assert len(set(evaluated(study))) == 8
    trial = study.ask()
    bowl(trial)
    assert len(set(evaluated(study))) == 9
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)  # as if killed
    again = study.ask()
    bowl(again)
    assert again.params == trial.params


def test_rows_that_other_trials_evaluated_are_not_proposed():
    study = create(ROWS)
    other = optuna.create_study(sampler=RandomSampler(seed=0))
    for row in ROWS[5:]:
        other.enqueue_trial(row)
    other.optimize(bowl, n_trials=len(ROWS) - 5)
    study.add_trials(other.trials)
    study.optimize(bowl, n_trials=5)
    assert set(evaluated(study)[-5:]) == listed(ROWS[:5])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("known", [0, 6])
def test_only_rows_that_agree_with_enqueued_and_fixed_values_are_proposed(known):
    study = create(MODELS)
    study.optimize(conditional, n_trials=known)
    for _ in range(5):
        study.enqueue_trial({"kernel": "rbf", "c": 10.0})
        study.optimize(conditional, n_trials=1)
        assert study.trials[-1].params["kernel"] == "rbf"
        assert study.trials[-1].params["c"] == 10.0
    assert {t.params["width"] for t in study.trials[known:]} == {0.3, 0.7, 1.5}
    base = study.sampler
    study.sampler = PartialFixedSampler({"kernel": "linear"}, base)
    study.optimize(conditional, n_trials=4)
    assert all(t.params["kernel"] == "linear" for t in study.trials[-4:])
    assert all(set(row) <= {d for m in MODELS for d in m.items()} for row in evaluated(study))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_brackets_of_hyperband_share_the_rows():
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    sampler = FisherSampler(seed=0, n_startup_trials=3, candidates=ROWS)
    study = optuna.create_study(sampler=sampler, pruner=pruner)

    def objective(trial):
        value = bowl(trial)
        for step in range(1, 10):
            trial.report(value + 1 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=len(ROWS))
    assert len(study.get_trials(states=[TrialState.PRUNED])) > 3
    assert sorted(evaluated(study)) == sorted(listed(ROWS))


def test_a_row_that_is_enqueued_again_is_evaluated_again(warned):
    study = create(MODELS)
    study.optimize(conditional, n_trials=4)
    for _ in range(2):
        study.enqueue_trial({"kernel": "rbf", "c": 10.0, "width": 0.7})
    for _ in range(4):
        study.enqueue_trial({"kernel": "rbf", "c": 0.1})
    study.optimize(conditional, n_trials=6)
    assert evaluated(study)[4] == evaluated(study)[5]
    assert len(set(evaluated(study)[-4:])) == 3
    told = [m for m in warned.messages if "candidate" in m]
    assert len(told) == 1
    assert "agrees with values that are enqueued" in told[0]


@pytest.mark.parametrize("known", [0, 6])
def test_values_that_no_row_agrees_with_are_an_error(known):
    study = create(MODELS)
    study.optimize(conditional, n_trials=known)
    study.enqueue_trial({"c": 0.5})
    with pytest.raises(InvalidInputError, match=r"agree with .*enqueued.*'c': 0.5.*none among 28"):
        study.optimize(conditional, n_trials=1)
    study.enqueue_trial({"kernel": "linear", "c": 0.5})  # all of it is the user's own choice
    study.optimize(conditional, n_trials=1)
    assert study.trials[-1].params["c"] == 0.5


@pytest.mark.parametrize("known", [0, 3])
def test_a_value_outside_the_range_is_an_error_that_names_it(known):
    inside = [{"x": i / 10, "k": "a"} for i in range(5)]

    def objective(trial):
        return trial.suggest_float("x", 0, 1) + len(trial.suggest_categorical("k", ["a", "b"]))

    for bad, message in [
        ({"x": 1.5, "k": "a"}, r"got 'x' = 1.5 in row 5, which is not in \[0.0, 1.0\]"),
        (
            {"x": 0.95, "k": "z"},
            r"got 'k' = 'z' in row 5, which is not in the choices \['a', 'b'\]",
        ),
        ({"x": "red", "k": "a"}, r"got 'x' = 'red' in row 5"),
        ({"x": float("nan"), "k": "a"}, r"got 'x' = nan in row 5"),
    ]:
        study = create([*inside, bad] if known else [bad])
        with pytest.raises(InvalidInputError, match=message if known else message[:12]):
            study.optimize(objective, n_trials=8)
        study.sampler = FisherSampler(seed=0, n_startup_trials=3, candidates=inside)
        study.optimize(objective, n_trials=5 - len(study.get_trials(states=[TrialState.COMPLETE])))
        complete = study.get_trials(states=[TrialState.COMPLETE])
        assert listed(inside) == {tuple(sorted(t.params.items())) for t in complete}


def test_integers_off_the_grid_and_single_values_that_differ_are_errors():
    study = create([{"n": 1}, {"n": 3}, {"n": 4}])
    with pytest.raises(InvalidInputError, match=r"'n' = 4 in row 2.*\[1, 9\] in steps of 2"):
        study.optimize(lambda t: t.suggest_int("n", 1, 9, step=2), n_trials=3)
    study = create([{"m": "svm", "x": 0.1}, {"m": "tree", "x": 0.2}, {"m": "svm", "x": 0.3}])
    with pytest.raises(InvalidInputError, match=r"'m' = 'tree' in row 1.*\['svm'\]"):
        study.optimize(
            lambda t: t.suggest_float("x", 0, 1) + len(t.suggest_categorical("m", ["svm"])),
            n_trials=3,
        )


def test_ranges_that_depend_on_other_parameters_are_no_error():
    rows = [{"x": x, "y": y} for x in (0.2, 0.5, 1.0) for y in (0.1, 0.2, 0.4, 0.9) if y <= x]
    study = create(rows)

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return trial.suggest_float("y", 0, x) - x

    study.optimize(objective, n_trials=len(rows))
    assert set(evaluated(study)) == listed(rows)


@pytest.mark.parametrize("known", [0, 2])
def test_a_parameter_that_the_row_lacks_is_an_error(known):
    study = create([{"x": 0.1 * i} for i in range(5)])
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=known)
    with pytest.raises(InvalidInputError, match=r"row \d without 'y': \{'x': .*add it to the row"):
        study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_int("y", 0, 3), n_trials=9)


def test_what_the_objective_never_asks_for_is_ignored_with_a_warning(warned):
    rows = [{"x": 0.1 * i, "price": p} for i in range(5) for p in (1, 2)]
    study = create(rows)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert not warned.messages
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=5)
    assert len(set(evaluated(study))) == 5
    told = [m for m in warned.messages if "did not ask for 'price' of the candidates" in m]
    assert len(told) == 1


@pytest.mark.parametrize(
    "candidates, message",
    [
        ([], "must have a row, got none"),
        (partial(frame, {"x": []}), "must have a row, got none"),
        ({"x": [1, 2]}, "DataFrame or a sequence of parameters by name, got dict"),
        ("abc", "DataFrame or a sequence of parameters by name, got str"),
        (3, "got int"),
        ([{"x": 1}, 2], "got 2 in row 1"),
        ([{"x": 1}, {}], "got none in row 1"),
        (partial(frame, {"x": [1.0, None]}), "got none in row 1"),
        ([{"x": 1, 3: 2}], "got the name 3"),
        (partial(frame, [[1, 2]]), "got the name 0"),
        (partial(frame, [[1, 2]], columns=["a", "a"]), "each parameter once"),
    ],
)
def test_what_is_no_list_of_candidates_is_an_error(candidates, message):
    candidates = candidates() if callable(candidates) else candidates
    with pytest.raises(InvalidInputError, match=message):
        FisherSampler(candidates=candidates)


def test_an_independent_sampler_cannot_choose_too():
    with pytest.raises(InvalidInputError, match="independent_sampler must be None with candidates"):
        FisherSampler(candidates=ROWS, independent_sampler=RandomSampler())


def test_a_rule_leaves_rows_out():
    study = create(ROWS, input_constraints=lambda p: p["x"] < 0.5)
    few = [row for row in ROWS if row["x"] < 0.5]
    study.optimize(bowl, n_trials=len(few))
    assert set(evaluated(study)) == listed(few)
    with pytest.raises(InvalidInputError, match="allow some of the 40 candidates, got none"):
        FisherSampler(candidates=ROWS, input_constraints=lambda p: p["x"] > 2)


def test_constraints_and_several_objectives():
    sampler = FisherSampler(seed=0, n_startup_trials=4, candidates=ROWS)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

    def objective(trial):
        value = bowl(trial)
        trial.set_constraint("c", trial.params["x"] - 0.8)
        return value, trial.params["x"]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.optimize(objective, n_trials=12)
    assert len(set(evaluated(study))) == 12
    assert set(evaluated(study)) <= listed(ROWS)


def test_earlier_studies_choose_among_the_rows():
    source = create(ROWS)
    source.optimize(bowl, n_trials=25)
    best = source.best_params
    study = create(ROWS, source_studies=[source], seed=5)
    study.optimize(bowl, n_trials=10)
    assert study.trials[0].params == best
    assert len(set(evaluated(study))) == 10


def test_recommend_and_inspect_know_the_rows():
    study = create(ROWS)
    study.optimize(bowl, n_trials=10)
    found = study.sampler.recommend(study)
    assert tuple(sorted(found.params.items())) in listed(ROWS)
    attributes = [dict(t.system_attrs) for t in study.trials]
    inspection = study.sampler.inspect(study)
    assert attributes == [dict(t.system_attrs) for t in study.trials]
    trial = study.ask()
    bowl(trial)
    assert inspection.params(inspection.next) == pytest.approx(trial.params)


def test_a_trial_keeps_its_row_where_a_sampler_of_another_list_takes_over():
    study = create(ROWS)
    study.optimize(bowl, n_trials=2)
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    study.sampler = FisherSampler(candidates=[{"x": x, "y": 7}, {"x": x + 1e-3, "y": 3}])
    assert study.trials[-1].system_attrs[CANDIDATE]
    trial = optuna.Trial(study, trial._trial_id)
    assert trial.suggest_int("y", 0, 8) == 7


def test_one_choice_among_a_hundred_thousand_rows_takes_little_memory():
    tracemalloc = pytest.importorskip("tracemalloc")
    x = np.random.default_rng(0).random((100_000, 3)).round(6)
    study = create(frame(x, columns=["a", "b", "c"]), n_startup_trials=2)

    def objective(trial):
        return sum((trial.suggest_float(name, 0, 1) - 0.5) ** 2 for name in "abc")

    study.optimize(objective, n_trials=3)
    tracemalloc.start()
    study.optimize(objective, n_trials=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # the rows' kernel with 4 observations, undivided: a dozen such arrays
    assert len(set(evaluated(study))) == 4
