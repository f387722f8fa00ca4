"""Values that learning curves predict for pruned and running trials, and who decides them."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner, SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from fisherbo import FisherPruner, FisherSampler
from fisherbo.sampler import curve_ends, curve_store
from fisherbo.sampler.categories import labels
from fisherbo.sampler.curve_ends import EndReader
from fisherbo.sampler.end_values import predicted_values
from fisherbo.sampler.observations import objective_values, observe
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.sampler.search_space import to_space
from fisherbo.sampler.trials import read

SPACE = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
STEPS = 20


def end_of(x, y):
    return 0.1 + (x - 0.3) ** 2 + (y - 0.6) ** 2


def losses(x, y):
    """Falls from 1, for all alike, to the bowl's value."""
    return [end_of(x, y) + (1 - end_of(x, y)) * math.exp(-0.4 * step) for step in range(STEPS)]


def trial_of(number, state, reports, value=None, sign=1, **params):
    trial = create_trial(
        params=params,
        distributions=SPACE,
        state=state,
        value=value,
        intermediate_values={step: sign * v for step, v in reports.items()},
    )
    trial.number = number
    return trial


def trials_of(cut=6, complete=5, others=20, state=TrialState.PRUNED, sign=1, value=None):
    """Some complete trials and others that were cut; values by `value` of ends."""
    rng, made = np.random.default_rng(0), []
    value = value or (lambda end: end)
    for number in range(complete + others):
        x, y = rng.random(2)
        curve = dict(enumerate(losses(x, y)))
        place = {"x": x, "y": y, "sign": sign}
        if number < complete:
            told = sign * value(curve[STEPS - 1])
            made.append(trial_of(number, TrialState.COMPLETE, curve, told, **place))
        else:
            steps = cut + number % 4
            made.append(trial_of(number, state, {s: curve[s] for s in range(steps)}, **place))
    return made


def read_ends(trials, direction=MINIMIZE, reader=None):
    space = to_space(SPACE)
    table = read(space, SPACE, trials)
    (ends,) = (reader or EndReader()).ends(trials, table, space, labels(SPACE), [direction])
    return ends, table, space, table.points(space)


def predicted(trials, direction=MINIMIZE):
    ends, table, space, points = read_ends(trials, direction)
    value = objective_values(space, table, [direction])[:, 0]
    return None if ends is None else predicted_values(ends, value, points), value


def truth(trials, rows):
    return np.array([-end_of(**trials[i].params) for i in rows])


def test_late_in_a_curve_predicted_values_are_nearer_to_the_ends_than_ranks_are():
    trials = trials_of(cut=12)
    found, ranked = predicted(trials)
    assert found.row.tolist() == list(range(5, 25))
    ends = truth(trials, found.row)
    within = ends <= ranked[:5].max()  # none is better than the best complete one
    error = np.abs(found.value - ends)[within]
    assert error.mean() < 0.5 * np.abs(ranked[found.row] - ends)[within].mean()
    assert found.value.max() <= ranked[:5].max()


def test_intervals_get_narrower_with_the_reports_and_hold_the_values():
    early, late = (predicted(trials_of(cut=cut))[0] for cut in (3, 12))
    early, late = (f.interval[:, 1] - f.interval[:, 0] for f in (early, late))
    assert np.median(late) < 0.7 * np.median(early)
    found, value = predicted(trials_of())
    below_best = found.value < value[:5].max()
    low, high = found.interval[below_best].T
    assert (low < found.value[below_best]).all() and (found.value[below_best] < high).all()


def test_directions_mirror_each_other():
    down, _ = predicted(trials_of())
    up, _ = predicted(trials_of(sign=-1), MAXIMIZE)
    np.testing.assert_array_equal(down.row, up.row)
    np.testing.assert_allclose(down.value, up.value)
    np.testing.assert_allclose(down.interval, up.interval)


def test_another_quantity_that_goes_with_the_ends_is_predicted():
    found, _ = predicted(trials_of(value=lambda end: 7 + math.sqrt(end)))
    ends = 7 + np.sqrt(-truth(trials_of(), found.row))
    assert np.corrcoef(-found.value, ends)[0, 1] > 0.95
    order = np.argsort(found.value)
    same, _ = predicted(trials_of())
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(same.value)))[0, 1] > 0.95


def test_another_quantity_that_does_not_go_with_them_is_not():
    found, _ = predicted(trials_of(value=lambda end: math.sin(40 * end)))
    assert found is None
    assert predicted(trials_of(complete=2, value=lambda end: 7 + end))[0] is None
    assert predicted(trials_of(complete=2))[0] is not None  # their values are their ends


def test_short_and_diverged_curves_are_ranked():
    trials = trials_of()
    short = {0: 1.0}
    trials.append(trial_of(25, TrialState.PRUNED, short, x=0.1, y=0.2))
    trials.append(trial_of(26, TrialState.PRUNED, {0: 1.0, 1: math.nan}, x=0.1, y=0.3))
    trials.append(trial_of(27, TrialState.PRUNED, {}, x=0.1, y=0.4))
    trials.append(trial_of(28, TrialState.PRUNED, {0: 1.0, 1: math.inf}, x=0.1, y=0.5))
    trials.append(trial_of(29, TrialState.RUNNING, {0: 1.0, 1: 0.7}, x=0.1, y=0.6))
    assert read_ends(trials)[0].row.tolist() == list(range(5, 25))
    assert read_ends(trials_of(complete=1))[0] is None


def test_one_at_the_point_of_a_complete_trial_says_nothing():
    trials = trials_of()
    reports = dict(enumerate(losses(**trials[0].params)[:8]))
    trials.append(trial_of(25, TrialState.PRUNED, reports, **trials[0].params))
    assert 25 not in predicted(trials)[0].row


def test_what_was_read_before_changes_nothing():
    reader, trials = EndReader(), trials_of()
    for count in (7, 12, 18, 25):
        known = read_ends(trials[:count], reader=reader)[0]
        fresh = read_ends(trials[:count])[0]
        np.testing.assert_array_equal(known.seen.value, fresh.seen.value)
        np.testing.assert_array_equal(known.seen.variance, fresh.seen.variance)


def test_running_trials_count_with_their_curves_and_stay_pending():
    trials = trials_of(state=TrialState.RUNNING, others=4)
    ends, table, space, _ = read_ends(trials)
    seen = observe(space, table, [MINIMIZE], ends=[ends])
    assert seen.row.tolist() == list(range(9))
    assert seen.count == 5 and len(seen.pending) == 4
    assert not seen.own[5:].any()
    noise = seen.known_noise(0)
    assert (noise[:5] == 0).all() and (noise[5:] > 0).all()
    bare = observe(space, table, [MINIMIZE])
    assert bare.known_noise(0) is None and len(bare) == 5


def learning(trial):
    curve = losses(trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1))
    for step, loss in enumerate(curve):
        trial.report(loss, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return curve[-1]


def study_of(pruner, *, ends=True, **options):
    sampler = FisherSampler(seed=0, n_startup_trials=4, _options=AlgorithmOptions(curve_ends=ends))
    return optuna.create_study(sampler=sampler, pruner=pruner, **options)


def params_of(study):
    return [t.params for t in study.trials]


def test_without_pruned_trials_nothing_changes():
    studies = [study_of(optuna.pruners.NopPruner(), ends=ends) for ends in (True, False)]
    for study in studies:
        study.optimize(learning, n_trials=12)
    assert params_of(studies[0]) == params_of(studies[1])


def late_median():
    """Trials that it stops have enough reports to tell their ends."""
    return MedianPruner(n_warmup_steps=8)


@pytest.mark.parametrize("make", [late_median, SuccessiveHalvingPruner, FisherPruner])
def test_a_resumed_study_goes_on_as_one_that_was_not_interrupted(make):
    storage = optuna.storages.InMemoryStorage()
    whole = study_of(make())
    whole.optimize(learning, n_trials=22)
    parted = study_of(make(), storage=storage, study_name="parted")
    parted.optimize(learning, n_trials=15)
    again = study_of(make(), storage=storage, study_name="parted", load_if_exists=True)
    again.optimize(learning, n_trials=7)
    assert params_of(again) == params_of(whole)
    without = study_of(make(), ends=False)
    without.optimize(learning, n_trials=22)
    assert params_of(without) != params_of(whole)


def test_the_fits_of_fisher_pruner_are_used(monkeypatch):
    study = study_of(FisherPruner())
    study.optimize(learning, n_trials=20)
    trials = study.trials
    assert any(curve_store.KEY in t.system_attrs for t in trials)
    monkeypatch.setattr(curve_ends, "fit_study", None)  # not to be called
    ends = read_ends(trials)[0]
    assert len(ends.row) > 3


def test_few_fits_are_made_where_the_pruner_makes_none(monkeypatch):
    fitted = []

    def counted(trials, *rest):
        fitted.append(len(trials))
        return fit(trials, *rest)

    fit = curve_ends.fit_study
    monkeypatch.setattr(curve_ends, "fit_study", counted)
    study_of(SuccessiveHalvingPruner()).optimize(learning, n_trials=40)
    assert 0 < len(fitted) <= 12
    assert fitted == sorted(set(fitted))


@pytest.mark.parametrize("unit", [1e-300, 1e300])
@pytest.mark.parametrize("kind", ["same", "other"])
def test_values_of_any_size_are_harmless(unit, kind):
    def value(end):
        return unit * end if kind == "same" else -1e299 / end

    trials = [
        trial_of(
            t.number,
            t.state,
            {step: unit * v for step, v in t.intermediate_values.items()},
            None if t.value is None else value(t.value),
            **t.params,
        )
        for t in trials_of()
    ]
    trials[8].intermediate_values[5] = 1.7e308
    ends, table, space, _ = read_ends(trials)
    seen = observe(space, table, [MINIMIZE], ends=[ends])
    assert np.isfinite(seen.warped[0]).all()
    assert np.isfinite(seen.known_noise(0)).all()
